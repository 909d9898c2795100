#include "learn/probe_watch.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "base/error.h"
#include "learn/below_address.h"

namespace accrete {
namespace {

constexpr int64_t kWatchTokens = 2048;

// One example an answer of each fact; a text's windows. As measure/probe.h scores them.
std::vector<Example> examples_of(const LanguageModel& model, const Probe& probe) {
  std::vector<Example> out;
  const ExampleOptions options = probe.example_options();
  if (probe.is_text()) {
    std::vector<Item> texts;
    for (Item item : probe.data.items) {
      item.kind = Item::Kind::kText;
      texts.push_back(std::move(item));
    }
    ExampleOptions raw;
    raw.raw = true;
    return make_examples(model, texts, raw);
  }
  for (size_t i = 0; i < probe.data.items.size(); ++i) {
    const Item& item = probe.data.items[i];
    if (item.kind != Item::Kind::kFact) continue;
    const auto& prompt = !item.prompts.empty() ? item.prompts.front() : item.asked.at(0);
    for (const auto& answer : item.answers) {
      out.push_back(make_example(model, prompt, answer, "", options));
      out.back().item = static_cast<int64_t>(i);
    }
  }
  return out;
}

}  // namespace

WatchedProbe::WatchedProbe(const LanguageModel& model, Probe probe)
    : model_(model), probe_(std::move(probe)), examples_(examples_of(model, probe_)) {
  batches_ = make_batches(examples_, tokens_a_pass(model.net(), kWatchTokens));
  parts_.resize(batches_.size());
  place_.resize(examples_.size());
  now_.resize(examples_.size());
  for (size_t i = 0; i < batches_.size(); ++i)
    for (size_t b = 0; b < batches_[i].examples.size(); ++b)
      place_[static_cast<size_t>(batches_[i].examples[b])] = {i, static_cast<int64_t>(b)};
  siblings_.resize(probe_.data.items.size());
  for (size_t e = 0; e < examples_.size(); ++e)
    siblings_[static_cast<size_t>(examples_[e].item)].push_back(static_cast<int64_t>(e));
  if (probe_.is_text()) {
    size_t bytes = 0;
    for (const Item& item : probe_.data.items) bytes += item.text.size();
    unit_ = 1 / (std::numbers::ln2 * static_cast<double>(std::max<size_t>(bytes, 1)));
  } else {
    unit_ = 1 / static_cast<double>(std::max<size_t>(probe_.data.items.size(), 1));
  }
}

int64_t WatchedProbe::tokens() const {
  int64_t n = 0;
  for (const Example& e : examples_) n += static_cast<int64_t>(e.tokens.size()) - 1;
  return n;
}

WatchedProbe::Part& WatchedProbe::part(size_t i) {
  Part& part = parts_[i];
  if (part.h.defined()) return part;
  BelowAddress below = below_address(model_, batches_[i]);
  part = {batches_[i], std::move(below.h), std::move(below.accesses), std::move(below.queries),
          std::move(below.gate)};
  return part;
}

std::vector<int64_t> WatchedProbe::touched(const Overlay& overlay, const Update& change,
                                           const Reporter& reporter) {
  const at::NoGradGuard no_grad;
  const Memory& memory = model_.memory();
  std::set<int64_t> changed;
  for (const LayerDelta& layer : change.layers)
    changed.insert(layer.indices.begin(), layer.indices.end());
  const std::vector<int64_t> slots(changed.begin(), changed.end());
  const SlotIndex index(slots);
  const Reach reach = reach_of(change);
  std::vector<int64_t> out;
  for (size_t i = 0; i < batches_.size(); ++i) {
    reporter.check_cancelled();
    Part& p = part(i);
    auto differs = (index.rows(p.accesses.slots) >= 0).any(1);  // [B T]
    if (reach != Reach::kEverywhere) {
      const Gates gates = overlay.gates(memory.gate, p.queries);
      const auto own = gates.part == overlay.last_part(reach);
      // Beside it, earlier updates may be silent now: their weights only fall, so sums tell.
      const auto others = gates.weight.masked_fill(own, 0).sum(1, false, at::kDouble);
      const auto before = p.gate_now.defined() ? p.gate_now.weight.sum(1, false, at::kDouble)
                                               : at::zeros_like(others);
      differs = differs.logical_and(own.any(1)).logical_or(others != before);
    }
    const int64_t T = p.batch.ids.size(1);
    const auto any = differs.logical_and(p.batch.mask.reshape({-1})).view({-1, T}).any(1);
    for (int64_t b = 0; b < any.size(0); ++b)
      if (any.data_ptr<bool>()[b]) out.push_back(p.batch.examples[static_cast<size_t>(b)]);
    reporter.report("reach " + probe_.record.name, static_cast<int64_t>(i) + 1,
                    static_cast<int64_t>(batches_.size()));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<std::vector<int64_t>> WatchedProbe::groups(std::span<const int64_t> which) const {
  std::map<size_t, std::vector<int64_t>> by_batch;
  for (const int64_t e : which) by_batch[place_[static_cast<size_t>(e)].first].push_back(e);
  std::vector<std::vector<int64_t>> out;
  for (auto& [batch, group] : by_batch) out.push_back(std::move(group));
  return out;
}

MemoryOutputs WatchedProbe::outputs(const Overlay& overlay, std::span<const int64_t> group) {
  const at::NoGradGuard no_grad;
  MemoryOutputs out;
  if (overlay.empty()) return out;
  Part& p = part(place_[static_cast<size_t>(group.front())].first);
  const int64_t T = p.batch.ids.size(1);
  std::vector<int64_t> tokens;
  for (const int64_t e : group) {
    const int64_t row = place_[static_cast<size_t>(e)].second;
    for (int64_t t = 0; t < T; ++t) tokens.push_back(row * T + t);
  }
  const auto rows = at::tensor(tokens, at::kLong);
  const Accesses accesses = select_tokens(p.accesses, rows);
  const Gates gates = overlay.gates(model_.memory().gate, p.queries.index_select(0, rows));
  for (const int64_t block : model_.memory().blocks)
    if (const auto y = overlay.read(block, accesses, gates); y.defined())
      out[block] = y.view({static_cast<int64_t>(group.size()), T, y.size(1)});
  return out;
}

ProbePass WatchedProbe::pass(const MemoryOutputs& outputs, std::span<const int64_t> group,
                             Gradient gradient) {
  const Transformer& net = model_.net();
  const Memory& memory = model_.memory();
  Part& p = part(place_[static_cast<size_t>(group.front())].first);
  std::vector<int64_t> rows;
  for (const int64_t e : group) rows.push_back(place_[static_cast<size_t>(e)].second);
  // Padded as the batch that they are kept in: positions of the labels are found by its T.
  const Batch batch = make_batch(examples_, group);
  const int64_t T = p.batch.ids.size(1), own = batch.ids.size(1);
  const auto h0 =
      p.h.index_select(0, at::tensor(rows, at::kLong).to(p.h.device())).narrow(1, 0, own);

  const bool differentiate = gradient != Gradient::kNone;
  std::map<int64_t, at::Tensor> leaves;
  const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
    if (!std::binary_search(memory.blocks.begin(), memory.blocks.end(), block)) return {};
    const auto it = outputs.find(block);
    at::Tensor y;
    if (it != outputs.end()) y = it->second.narrow(1, 0, own);
    if (!differentiate) return y.defined() ? y.to(x.device(), x.scalar_type()) : y;
    y = (y.defined() ? y.clone() : at::zeros(x.sizes(), at::kFloat)).detach();
    y.set_requires_grad(true);
    leaves[block] = y;
    return y.to(x.device(), x.scalar_type());
  };
  const at::AutoGradMode grad_mode(differentiate);
  ForwardOptions forward;
  forward.side = &side;
  auto h = net.run(h0, memory.address_block, net.config().blocks, forward);
  h = h.reshape({-1, h.size(-1)}).index_select(0, batch.positions.to(net.device()));
  const auto B = static_cast<int64_t>(group.size());
  const auto labels = batch.labels.to(net.device());
  auto nll = at::zeros({B}, at::kFloat);
  auto margin = at::full({B}, std::numeric_limits<float>::infinity(), at::kFloat);
  // The head's output is large (labels x vocabulary): a bounded number of rows at a time.
  constexpr int64_t kRows = 512;
  for (int64_t at = 0; at < h.size(0); at += kRows) {
    const int64_t n = std::min(kRows, h.size(0) - at);
    const auto logits = net.logits(h.narrow(0, at, n)).to(at::kFloat);
    const auto label = labels.narrow(0, at, n).unsqueeze(1);
    const auto picked = logits.gather(1, label).squeeze(1);
    const auto whose = batch.owner.narrow(0, at, n);
    nll = nll.index_add(0, whose, (at::logsumexp(logits, {1}) - picked).to(at::kCPU));
    const auto others = logits.scatter(1, label, -std::numeric_limits<float>::infinity()).amax(1);
    margin = margin.scatter_reduce(0, whose, (picked - others).to(at::kCPU), "amin");
  }
  ProbePass out;
  if (differentiate) {
    const auto sum = gradient == Gradient::kNll ? nll.sum() : margin.sum();
    std::vector<at::Tensor> inputs;
    for (const auto& [block, y] : leaves) inputs.push_back(y);
    const auto grads = torch::autograd::grad({sum}, inputs);
    size_t k = 0;
    for (const auto& [block, y] : leaves) {
      // As wide as the outputs that they belong to.
      auto full = at::zeros({B, T, y.size(2)}, at::kFloat);
      full.narrow(1, 0, own).copy_(grads[k++].detach());
      out.output_gradient[block] = full;
    }
  }
  const auto losses = nll.detach().to(at::kCPU, at::kDouble);
  const auto leads = margin.detach().to(at::kCPU, at::kDouble);
  for (int64_t b = 0; b < B; ++b) {
    ExampleState s;
    s.known = true;
    s.nll = losses.data_ptr<double>()[b];
    s.margin = leads.data_ptr<double>()[b];
    // A step that blew up says nothing any more: as wrong as can be, and finite.
    constexpr double kLost = 1e6;
    if (!std::isfinite(s.nll)) s.nll = kLost;
    if (!std::isfinite(s.margin)) s.margin = -kLost;
    // Of two best tokens argmax takes the first: a tie is not counted as right.
    s.exact = s.margin > 0;
    out.states.push_back(s);
  }
  return out;
}

at::Tensor WatchedProbe::queries(int64_t example) {
  const auto [i, row] = place_[static_cast<size_t>(example)];
  Part& p = part(i);
  const int64_t T = p.batch.ids.size(1);
  const auto n = static_cast<int64_t>(examples_[static_cast<size_t>(example)].tokens.size()) - 1;
  return p.queries.narrow(0, row * T, n);
}

Accesses WatchedProbe::accesses(int64_t example) {
  const auto [i, row] = place_[static_cast<size_t>(example)];
  Part& p = part(i);
  const int64_t T = p.batch.ids.size(1);
  const auto n = static_cast<int64_t>(examples_[static_cast<size_t>(example)].tokens.size()) - 1;
  return {p.accesses.slots.narrow(0, row * T, n), p.accesses.weights.narrow(0, row * T, n)};
}

std::vector<ExampleState> WatchedProbe::states(const Overlay& overlay,
                                               std::span<const int64_t> which,
                                               const Reporter& reporter) {
  std::map<int64_t, ExampleState> found;
  int64_t done = 0;
  for (const auto& group : groups(which)) {
    reporter.check_cancelled();
    const auto result = pass(outputs(overlay, group), group, Gradient::kNone);
    for (size_t k = 0; k < group.size(); ++k) found[group[k]] = result.states[k];
    done += static_cast<int64_t>(group.size());
    reporter.report(probe_.record.name, done, static_cast<int64_t>(which.size()));
  }
  std::vector<ExampleState> out;
  for (const int64_t e : which) out.push_back(found.at(e));
  return out;
}

std::vector<ExampleState> WatchedProbe::states_now(std::span<const int64_t> which,
                                                   const Reporter& reporter) {
  std::vector<int64_t> missing;
  for (const int64_t e : which)
    if (!now_[static_cast<size_t>(e)].known) missing.push_back(e);
  const auto fresh = states(model_.memory().overlay, missing, reporter);
  for (size_t k = 0; k < missing.size(); ++k) now_[static_cast<size_t>(missing[k])] = fresh[k];
  std::vector<ExampleState> out;
  for (const int64_t e : which) out.push_back(now_[static_cast<size_t>(e)]);
  return out;
}

double WatchedProbe::score_now(const Reporter& reporter) {
  if (score_now_) return *score_now_;
  std::vector<int64_t> all(examples_.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  const auto states = states_now(all, reporter);
  double sum = 0;
  if (probe_.is_text()) {
    for (const auto& s : states) sum += s.nll;
  } else {
    for (const auto& item : siblings_)
      sum += std::any_of(item.begin(), item.end(),
                         [&](int64_t e) { return states[static_cast<size_t>(e)].exact; });
  }
  score_now_ = sum * unit_;
  return *score_now_;
}

double WatchedProbe::score_with(std::span<const int64_t> which,
                                std::span<const ExampleState> states, const Reporter& reporter) {
  double change = 0;
  if (probe_.is_text()) {
    const auto before = states_now(which, reporter);
    for (size_t k = 0; k < which.size(); ++k) change += states[k].nll - before[k].nll;
    return score_now(reporter) + change * unit_;
  }
  std::map<int64_t, bool> exact;
  std::set<int64_t> items;
  for (size_t k = 0; k < which.size(); ++k) {
    exact[which[k]] = states[k].exact;
    items.insert(examples_[static_cast<size_t>(which[k])].item);
  }
  for (const int64_t item : items) {
    const auto& own = siblings_[static_cast<size_t>(item)];
    const auto before = states_now(own, reporter);
    bool was = false, is = false;
    for (size_t k = 0; k < own.size(); ++k) {
      was = was || before[k].exact;
      const auto it = exact.find(own[k]);
      is = is || (it != exact.end() ? it->second : before[k].exact);
    }
    change += static_cast<double>(is) - static_cast<double>(was);
  }
  return score_now(reporter) + change * unit_;
}

}  // namespace accrete
