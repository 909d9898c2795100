#include "learn/subject_prompts.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "learn/value_solver.h"

namespace accrete {
namespace {

constexpr int64_t kPassRows = 512;  // of a pass

// Of beginnings passed together: their keys of all blocks are held at once, in about as much memory
// as what is kept of them may take.
int64_t rows_together(const ModelConfig& c, int64_t cache_bytes) {
  constexpr int64_t kFewest = 256, kMost = 4096;
  const int64_t row = c.blocks * 2 * c.kv_heads * c.head_dim * static_cast<int64_t>(sizeof(float));
  return std::clamp(cache_bytes / row, kFewest, kMost);
}

// What speaks at token t: the parts and how loud, without the empty places.
std::vector<std::pair<int64_t, float>> speakers(const Gates& gates, int64_t t) {
  std::vector<std::pair<int64_t, float>> out;
  if (!gates.defined()) return out;
  const int64_t P = gates.part.size(1);
  for (int64_t p = t * P; p < (t + 1) * P; ++p)
    if (const int64_t part = gates.part.const_data_ptr<int64_t>()[p]; part >= 0)
      out.emplace_back(part, gates.weight.const_data_ptr<float>()[p]);
  return out;
}

// The tables of an overlay that has any, for comparison: tables are replaced, never written to, so
// the same values are the same tensor.
std::vector<std::pair<int64_t, at::Tensor>> tables_of(const Overlay& overlay, bool open_only) {
  std::vector<std::pair<int64_t, at::Tensor>> out;
  for (const auto* by_block : {&overlay.by_block, &overlay.on_trial})
    for (const auto& [block, rows] : *by_block) {
      if (!rows.open.empty()) out.emplace_back(block, rows.open.values);
      if (!open_only && !rows.gated.empty()) out.emplace_back(block, rows.gated.values);
      if (!open_only && !rows.text.empty()) out.emplace_back(block, rows.text.values);
    }
  return out;
}
bool same_tables(const Overlay& a, const Overlay& b, bool open_only) {
  const auto one = tables_of(a, open_only), other = tables_of(b, open_only);
  return std::equal(one.begin(), one.end(), other.begin(), other.end(),
                    [](const auto& x, const auto& y) {
                      return x.first == y.first && x.second.is_same(y.second);
                    });
}

}  // namespace

bool SubjectPrompts::apply(const LanguageModel& model, std::span<const Example> examples) {
  return model.has_memory() && !examples.empty() && PackedPass::supports(model.net()) &&
         std::all_of(examples.begin(), examples.end(), [](const Example& e) {
           const int64_t site = last_subject_token(e);
           return site >= 0 && site <= asked_states(e).from;
         });
}

SubjectPrompts::SubjectPrompts(const LanguageModel& model, std::span<const Example> examples,
                               int64_t cache_bytes, const Reporter& reporter,
                               std::string_view stage)
    : model_(model),
      examples_(examples),
      overlay_(model.memory().overlay),
      suffixes_(examples.size()),
      store_(cache_bytes) {
  if (!apply(model, examples))
    throw Error(ErrorCode::kInternal, "a prompt without a subject where every one needs it");
  const at::NoGradGuard no_grad;
  const Memory& memory = model.memory();
  int64_t rows = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    suffixes_[i].site = last_subject_token(examples[i]);
    suffixes_[i].row = rows;
    rows += tokens_of(i);
  }
  const int64_t K = memory.keys.accesses_per_token(), w = memory.keys.options().query_width;
  h_ = at::empty({rows, model.net().config().width}, at::kFloat);
  from_site_ = {{at::empty({rows, K}, at::kInt), at::empty({rows, K}, at::kFloat)},
                at::empty({rows, w}, at::kFloat)};

  std::vector<std::span<const int32_t>> beginnings;
  for (size_t i = 0; i < examples.size(); ++i)
    beginnings.push_back(
        std::span(examples[i].tokens).first(static_cast<size_t>(suffixes_[i].site)));
  Reporter inner = reporter;
  inner.progress = nullptr;
  int64_t done = 0;
  for (const auto& part :
       tree_parts(beginnings, rows_together(model.net().config(), cache_bytes))) {
    read(part, inner, stage);
    done += static_cast<int64_t>(part.size());
    reporter.report(stage, done, static_cast<int64_t>(examples.size()));
  }
  std::vector<Accesses> accesses;
  std::vector<at::Tensor> queries;
  for (const Tokens& part : before_parts_) {
    accesses.push_back(part.accesses);
    queries.push_back(part.queries);
  }
  before_parts_.clear();
  if (!queries.empty()) before_ = {concat(accesses), at::cat(queries)};
}

int64_t SubjectPrompts::tokens_of(size_t example) const {
  return static_cast<int64_t>(examples_[example].tokens.size()) - 1 - suffixes_[example].site;
}

bool SubjectPrompts::are_of(std::span<const Example> examples, const Overlay& overlay) const {
  if (!std::equal(examples.begin(), examples.end(), examples_.begin(), examples_.end(),
                  [](const Example& a, const Example& b) {
                    return a.item == b.item && a.tokens == b.tokens && a.label == b.label &&
                           a.subject == b.subject;
                  }))
    return false;
  return same_tables(overlay_, overlay, false) && overlay.anchors.parts == overlay_.anchors.parts &&
         overlay.text_anchors.parts == overlay_.text_anchors.parts;
}

// The beginnings of some examples through all blocks, then what follows them through the address
// block.
void SubjectPrompts::read(std::span<const size_t> which, const Reporter& reporter,
                          std::string_view stage) {
  const Memory& memory = model_.memory();
  const Transformer& net = model_.net();
  const ModelConfig& c = net.config();
  const int64_t A = memory.address_block, kv = c.kv_heads * c.head_dim;
  std::vector<std::span<const int32_t>> prompts;
  std::vector<int64_t> prompt_of(which.size(), -1);
  for (size_t i = 0; i < which.size(); ++i) {
    const auto site = static_cast<size_t>(suffixes_[which[i]].site);
    if (site == 0) continue;
    prompt_of[i] = static_cast<int64_t>(prompts.size());
    prompts.push_back(std::span(examples_[which[i]].tokens).first(site));
  }
  if (prompts.empty()) return read_to_address(which, nullptr, prompt_of);
  PromptTree tree(std::move(prompts));
  tree.keep_all_keys();
  const int64_t K = memory.keys.accesses_per_token();
  Tokens here{{at::empty({tree.rows(), K}, at::kInt), at::empty({tree.rows(), K}, at::kFloat)},
              at::empty({tree.rows(), memory.keys.options().query_width}, at::kFloat)};
  PackedPass pass(net);
  tree.run(
      net, c.blocks,
      [&](const at::Tensor& h, const PackedSequences& sequences, const PackedPass::SeeKeys& keys,
          std::span<const PromptTree::Part> parts) {
        Accesses accesses;
        Gates gates;
        const PackedPass::Add add = [&](int64_t b, const at::Tensor& x, at::Tensor& to) {
          if (b == A) {
            accesses = memory.keys.lookup(x);
            const auto queries = memory.keys.queries(x);
            gates = memory.overlay.gates(memory.gate, queries);
            for (const PromptTree::Part& p : parts) {
              const auto copy = [&](const at::Tensor& table, const at::Tensor& rows) {
                table.narrow(0, p.row, p.tokens).copy_(rows.narrow(0, p.begin, p.tokens));
              };
              copy(here.accesses.slots, accesses.slots);
              copy(here.accesses.weights, accesses.weights);
              copy(here.queries, queries);
            }
          }
          if (b < A) return;
          if (const auto y = memory.read(b, accesses, gates); y.defined()) to.add_(y);
        };
        PackedPass::Options options;
        options.add = &add;
        options.keys = &keys;
        options.keys_only_at_end = true;
        pass.forward(h, sequences, 0, c.blocks, options);
      },
      reporter, stage);
  read_to_address(which, &tree, prompt_of);

  // Below here nothing is computed again.
  const auto first = pieces_.size();
  for (const PromptTree::Node& node : tree.nodes()) {
    const auto below = static_cast<size_t>((A + 1) * 2 * kv * node.tokens());
    pieces_.push_back({tokens_before_ + node.row, node.tokens(),
                       store_.put(std::span(node.keys).subspan(below))});
  }
  for (size_t i = 0; i < which.size(); ++i)
    if (prompt_of[i] >= 0)
      for (const int64_t node : tree.path(static_cast<size_t>(prompt_of[i])))
        suffixes_[which[i]].before.push_back(first + static_cast<size_t>(node));
  tokens_before_ += tree.rows();
  before_parts_.push_back(std::move(here));
}

void SubjectPrompts::read_to_address(std::span<const size_t> which, const PromptTree* tree,
                                     std::span<const int64_t> prompt_of) {
  const Memory& memory = model_.memory();
  const int64_t A = memory.address_block;
  PackedPass pass(model_.net());
  for (size_t at = 0; at < which.size();) {
    PackedSequences packed;
    std::vector<int64_t> ids;
    const size_t first = at;
    for (; at < which.size(); ++at) {
      const size_t e = which[at];
      if (at > first && packed.rows() + tokens_of(e) > kPassRows) break;
      std::vector<Past> past;
      if (prompt_of[at] >= 0)
        for (const int64_t n : tree->path(static_cast<size_t>(prompt_of[at]))) {
          const PromptTree::Node& node = tree->nodes()[static_cast<size_t>(n)];
          past.push_back({node.keys.data(), node.tokens(), 0});
        }
      packed.add(tokens_of(e), std::move(past));
      ids.insert(ids.end(), examples_[e].tokens.begin() + suffixes_[e].site,
                 examples_[e].tokens.end() - 1);
    }
    Accesses accesses;
    at::Tensor queries;
    const PackedPass::Add add = [&](int64_t b, const at::Tensor& x, at::Tensor&) {
      if (b != A) return;
      accesses = memory.keys.lookup(x);
      queries = memory.keys.queries(x);
    };
    PackedPass::Options options;
    options.add = &add;
    const auto h =
        pass.forward(model_.net().embed(at::tensor(ids, at::kLong)), packed, 0, A + 1, options);
    for (size_t i = first; i < at; ++i) {
      const int64_t row = suffixes_[which[i]].row, n = tokens_of(which[i]);
      const auto copy = [&](const at::Tensor& table, const at::Tensor& rows) {
        table.narrow(0, row, n).copy_(rows.narrow(0, packed.begin[i - first], n));
      };
      copy(h_, h);
      copy(from_site_.accesses.slots, accesses.slots);
      copy(from_site_.accesses.weights, accesses.weights);
      copy(from_site_.queries, queries);
    }
  }
}

Gates SubjectPrompts::gates(const Overlay& overlay) const {
  return overlay.gates(model_.memory().gate, from_site_.queries);
}

void SubjectPrompts::pack(std::span<const int64_t> which, const Gates& all, Batch& batch) const {
  batch.sequences = {};
  batch.room.clear();
  std::vector<at::Tensor> h;
  std::vector<Accesses> accesses;
  std::vector<Gates> gates;
  const int64_t above = model_.memory().address_block + 1;
  for (const int64_t i : which) {
    const Suffix& suffix = suffixes_[static_cast<size_t>(i)];
    const int64_t n = tokens_of(static_cast<size_t>(i));
    std::vector<Past> past;
    for (const size_t p : suffix.before) {
      const Piece& piece = pieces_[p];
      auto& room = batch.room[piece.keys];
      const float* keys = room.empty() ? store_.get(piece.keys, room) : room.data();
      past.push_back({keys, piece.tokens, above});
    }
    batch.sequences.add(n, std::move(past));
    h.push_back(h_.narrow(0, suffix.row, n));
    accesses.push_back({from_site_.accesses.slots.narrow(0, suffix.row, n),
                        from_site_.accesses.weights.narrow(0, suffix.row, n)});
    if (all.defined()) gates.push_back(all.narrow(suffix.row, n));
  }
  batch.h = at::cat(h);
  batch.accesses = concat(accesses);
  batch.gates = concat(gates);
}

at::Tensor SubjectPrompts::site_states() const {
  std::vector<int64_t> rows;
  for (const Suffix& suffix : suffixes_) rows.push_back(suffix.row);
  return h_.index_select(0, at::tensor(rows, at::kLong));
}

Reads SubjectPrompts::reads() const {
  Reads out;
  // Rows of the beginnings, then those from the sites on.
  const int64_t before = tokens_before_;
  std::vector<int64_t> rows;
  for (size_t i = 0; i < suffixes_.size(); ++i) {
    for (const size_t p : suffixes_[i].before)
      for (int64_t t = 0; t < pieces_[p].tokens; ++t) rows.push_back(pieces_[p].row + t);
    for (int64_t t = 0; t < tokens_of(i); ++t) rows.push_back(before + suffixes_[i].row + t);
    out.begin.push_back(static_cast<int64_t>(rows.size()));
  }
  const auto index = at::tensor(rows, at::kLong);
  const auto pick = [&](const at::Tensor& first, const at::Tensor& then) {
    return (before > 0 ? at::cat({first, then}) : then).index_select(0, index);
  };
  out.accesses = {pick(before_.accesses.slots, from_site_.accesses.slots),
                  pick(before_.accesses.weights, from_site_.accesses.weights)};
  out.queries = pick(before_.queries, from_site_.queries);
  return out;
}

// Of each example whether `overlay` says something else before its site than what was there did.
std::vector<bool> SubjectPrompts::changed_before(const Overlay& overlay) const {
  if (!same_tables(overlay_, overlay, /*open_only=*/true))
    return std::vector<bool>(suffixes_.size(), true);
  std::vector<bool> out(suffixes_.size(), false);
  if (tokens_before_ == 0) return out;
  const Gate& gate = model_.memory().gate;
  const Gates then = overlay_.gates(gate, before_.queries),
              now = overlay.gates(gate, before_.queries);
  std::vector<bool> changed(pieces_.size(), false);
  for (size_t p = 0; p < pieces_.size(); ++p)
    for (int64_t t = pieces_[p].row; t < pieces_[p].row + pieces_[p].tokens; ++t)
      changed[p] = changed[p] || speakers(then, t) != speakers(now, t);
  for (size_t i = 0; i < suffixes_.size(); ++i)
    for (const size_t p : suffixes_[i].before) out[i] = out[i] || changed[p];
  return out;
}

at::Tensor SubjectPrompts::states(const Reporter& reporter, std::string_view stage) const {
  const at::NoGradGuard no_grad;
  const Memory& memory = model_.memory();
  const Overlay& overlay = memory.overlay;
  const int64_t A = memory.address_block, blocks = model_.net().config().blocks;
  std::vector<StateRequest> requests;
  std::vector<int64_t> begin = {0};
  for (const Example& e : examples_) {
    requests.push_back(asked_states(e));
    begin.push_back(begin.back() + static_cast<int64_t>(requests.back().tokens.size()) -
                    requests.back().from);
  }
  auto out = at::empty({begin.back(), h_.size(1)}, at::kFloat);

  const auto changed = changed_before(overlay);
  std::vector<int64_t> kept;
  std::vector<size_t> anew;
  for (size_t i = 0; i < suffixes_.size(); ++i)
    if (changed[i])
      anew.push_back(i);
    else
      kept.push_back(static_cast<int64_t>(i));
  if (!anew.empty()) {
    std::vector<StateRequest> some;
    for (const size_t i : anew) some.push_back(requests[i]);
    const auto passed = tree_states(model_, some, reporter, stage);
    int64_t row = 0;
    for (const size_t i : anew) {
      const int64_t n = begin[i + 1] - begin[i];
      out.narrow(0, begin[i], n).copy_(passed.narrow(0, row, n));
      row += n;
    }
  }

  const Gates all = gates(overlay);
  PackedPass pass(model_.net());
  Batch batch;
  for (size_t at = 0; at < kept.size();) {
    reporter.check_cancelled();
    const size_t first = at;
    for (int64_t rows = 0; at < kept.size(); ++at) {
      rows += tokens_of(static_cast<size_t>(kept[at]));
      if (at > first && rows > kPassRows) break;
    }
    const auto which = std::span(kept).subspan(first, at - first);
    pack(which, all, batch);
    const PackedPass::Add add = [&](int64_t b, const at::Tensor&, at::Tensor& to) {
      if (const auto y = memory.read(b, batch.accesses, batch.gates); y.defined()) to.add_(y);
    };
    add(A, {}, batch.h);
    PackedPass::Options options;
    options.add = &add;
    const auto h = pass.forward(batch.h, batch.sequences, A + 1, blocks, options);
    for (size_t k = 0; k < which.size(); ++k) {
      const auto i = static_cast<size_t>(which[k]);
      const Suffix& suffix = suffixes_[i];
      const int64_t n = begin[i + 1] - begin[i], from = requests[i].from - suffix.site;
      out.narrow(0, begin[i], n).copy_(h.narrow(0, batch.sequences.begin[k] + from, n));
    }
    reporter.report(stage, static_cast<int64_t>(anew.size() + at),
                    static_cast<int64_t>(suffixes_.size()));
  }
  return out;
}

}  // namespace accrete
