#include "model/generate.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "base/rng.h"
#include "model/answer_pass.h"

namespace accrete {
namespace {

void check_sampling(const GenerateOptions& o) {
  const auto bad = [](const char* what) { throw Error(ErrorCode::kInvalidArgument, what); };
  if (o.max_tokens < 1) bad("max-tokens must be at least 1");
  if (!(o.temperature >= 0)) bad("temperature must be 0 (greedy) or more");
  if (o.top_k < 0) bad("top-k must be 0 (off) or more");
  if (!(o.top_p > 0 && o.top_p <= 1)) bad("top-p must be in (0, 1]");
  if (!(o.min_p >= 0 && o.min_p <= 1)) bad("min-p must be in [0, 1]");
  if (!(o.repetition_penalty > 0)) bad("repetition-penalty must be positive");
  for (const auto& s : o.stop)
    if (s.empty()) bad("a stop string must not be empty");
}

// One prompt's state while it is decoded.
struct Row {
  Rng rng;
  StreamDecoder decoder;
  std::vector<int32_t> seen;  // prompt and output, for the repetition penalty
  Generation out;
  size_t emitted = 0;  // bytes of out.text handed to the stream
  bool done = false;
};

// Draws from the row's logits [V] (changed in place).
int32_t sample(std::span<float> logits, Row& row, const GenerateOptions& o) {
  if (o.repetition_penalty != 1) {
    std::vector<int32_t> ids = row.seen;
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    for (int32_t id : ids) {
      float& v = logits[static_cast<size_t>(id)];
      v = v > 0 ? v / static_cast<float>(o.repetition_penalty)
                : v * static_cast<float>(o.repetition_penalty);
    }
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (o.temperature == 0) return static_cast<int32_t>(best - logits.begin());

  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto higher = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  if (o.top_k > 0 && static_cast<size_t>(o.top_k) < order.size()) {
    std::partial_sort(order.begin(), order.begin() + o.top_k, order.end(), higher);
    order.resize(static_cast<size_t>(o.top_k));
  } else {
    std::sort(order.begin(), order.end(), higher);
  }
  std::vector<double> p(order.size());
  double total = 0;
  for (size_t i = 0; i < order.size(); ++i)
    total += p[i] = std::exp((logits[static_cast<size_t>(order[i])] - *best) / o.temperature);
  size_t keep = p.size();
  if (o.min_p > 0)
    while (keep > 1 && p[keep - 1] < o.min_p * p[0]) --keep;
  if (o.top_p < 1) {
    double sum = 0;
    size_t n = 0;
    while (n < keep && sum < o.top_p * total) sum += p[n++];
    keep = std::max<size_t>(n, 1);
  }
  const double kept = std::accumulate(p.begin(), p.begin() + static_cast<ptrdiff_t>(keep), 0.0);
  double u = row.rng.uniform() * kept;
  for (size_t i = 0; i < keep; ++i)
    if ((u -= p[i]) < 0) return order[i];
  return order[keep - 1];
}

// Tokens that all prompts begin with, less at least `left` that each has left. 0 where it saves
// little.
int64_t shared_prefix(std::span<const std::vector<int32_t>> prompts, size_t left) {
  constexpr int64_t kWorthwhile = 8;
  if (prompts.size() < 2) return 0;
  const auto& first = prompts.front();
  size_t shared = first.size();
  for (const auto& p : prompts) {
    const auto end = first.begin() +
                     static_cast<ptrdiff_t>(std::min(shared, p.size() - std::min(left, p.size())));
    shared =
        static_cast<size_t>(std::mismatch(first.begin(), end, p.begin()).first - first.begin());
  }
  const auto n = static_cast<int64_t>(shared);
  return n >= kWorthwhile ? n : 0;
}

// Appends text; cuts at a stop string. Holds back what may yet become one.
void append_text(Row& row, const std::string& piece, const GenerateOptions& o, bool last,
                 size_t index, const StreamFn& stream) {
  const size_t before = row.out.text.size();
  row.out.text += piece;
  size_t hold = 0;
  for (const auto& stop : o.stop) {
    const size_t from = before > stop.size() ? before - stop.size() : 0;
    const size_t at = row.out.text.find(stop, from);
    if (at != std::string::npos) {
      row.out.text.resize(at);
      row.out.finish_reason = "stop";
      row.done = true;
      last = true;
    }
    hold = std::max(hold, stop.size() - 1);
  }
  const size_t size = row.out.text.size();
  const size_t final_end = last ? size : (size > hold ? size - hold : 0);
  if (stream && final_end > row.emitted)
    stream(index, std::string_view(row.out.text).substr(row.emitted, final_end - row.emitted));
  row.emitted = std::max(row.emitted, std::min(final_end, size));
}

// Whether a token goes on with the word or number before it.
bool within_word(const Tokenizer& tokenizer, int32_t id) {
  const std::string text = tokenizer.decode({&id, 1}, /*skip_special=*/true);
  const auto c = static_cast<unsigned char>(text.empty() ? ' ' : text.front());
  return std::isalnum(c) != 0 || c >= 0x80;
}

// The token of the answer that row `said` should go on with instead of `id`, or `id`.
int32_t kept_to(const FactUse& fact, std::span<const int32_t> said, int32_t id,
                const Tokenizer& tokenizer) {
  if (fact.recital == Recital::kFree || said.empty() || said.size() >= fact.answer.size() ||
      !std::equal(said.begin(), said.end(), fact.answer.begin()))
    return id;
  const int32_t taught = fact.answer[said.size()];
  const bool must = fact.recital == Recital::kWhole || within_word(tokenizer, id) ||
                    within_word(tokenizer, taught);
  return must ? taught : id;
}

// What the prompts' facts add in each pass.
class FactSide {
 public:
  FactSide(std::span<const FactUse> facts, std::span<const std::vector<int32_t>> prompts)
      : facts_(facts), prompts_(prompts) {
    for (const FactUse& fact : facts)
      if (fact.vectors.defined()) block_ = fact.sites.block;
    side_ = [this](int64_t block, const at::Tensor& x) -> at::Tensor {
      if (block != block_) return {};
      auto out = at::zeros(x.sizes(), at::kFloat);
      for (const Place& p : places_) out[p.row][p.column].add_(p.vector);
      return out.to(x.device(), x.scalar_type());
    };
  }
  FactSide(const FactSide&) = delete;
  FactSide& operator=(const FactSide&) = delete;

  // The pass over the last R columns of the prompts; null: nothing is added.
  const FfnSide* at_end(int64_t R) {
    places_.clear();
    for (size_t b = 0; b < facts_.size(); ++b) {
      const FactUse& fact = facts_[b];
      const auto n = static_cast<int64_t>(prompts_[b].size());
      for (int64_t j = 0; fact.vectors.defined() && j < fact.sites.at_end; ++j)
        if (const int64_t t = fact.sites.token(n, j); t >= 1)
          places_.push_back({static_cast<int64_t>(b), R - n + t, fact.vectors[j]});
    }
    return places_.empty() ? nullptr : &side_;
  }
  // The pass over the token that each row wrote last.
  const FfnSide* behind(std::span<const Row> rows) {
    places_.clear();
    for (size_t b = 0; b < facts_.size(); ++b) {
      const FactUse& fact = facts_[b];
      const auto& said = rows[b].out.tokens;
      const auto n = static_cast<int64_t>(said.size());
      if (!fact.vectors.defined() || rows[b].done || n % fact.sites.every != 0) continue;
      const int64_t j = fact.sites.at_end + n / fact.sites.every - 1;
      if (j >= fact.vectors.size(0) || said.size() > fact.answer.size() ||
          !std::equal(said.begin(), said.end(), fact.answer.begin()))
        continue;
      places_.push_back({static_cast<int64_t>(b), 0, fact.vectors[j]});
    }
    return places_.empty() ? nullptr : &side_;
  }

 private:
  struct Place {
    int64_t row, column;
    at::Tensor vector;
  };
  std::span<const FactUse> facts_;
  std::span<const std::vector<int32_t>> prompts_;
  std::vector<Place> places_;
  int64_t block_ = -1;
  FfnSide side_;
};

}  // namespace

std::vector<Generation> generate(const LanguageModel& model,
                                 std::span<const std::vector<int32_t>> prompts,
                                 const GenerateOptions& options, const StreamFn& stream,
                                 const Reporter& reporter, std::span<const FactUse> facts) {
  check_sampling(options);
  const c10::InferenceMode inference;
  const Transformer& net = model.net();
  const int64_t limit = net.config().max_positions;
  const int64_t B = static_cast<int64_t>(prompts.size());
  if (B == 0) return {};
  int64_t T = 0;
  for (const auto& p : prompts) {
    if (p.empty()) throw Error(ErrorCode::kInvalidArgument, "the prompt is empty");
    T = std::max<int64_t>(T, static_cast<int64_t>(p.size()));
  }
  if (T >= limit)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("the prompt has {} tokens, the model {} positions", T, limit),
                "shorten the prompt");

  const std::vector<int64_t> stops = model.stop_ids();
  std::vector<Row> rows;
  for (int64_t b = 0; b < B; ++b)
    rows.push_back({Rng(options.seed).split(static_cast<uint64_t>(b)),
                    StreamDecoder(model.tokenizer()),
                    prompts[static_cast<size_t>(b)],
                    {},
                    0,
                    false});

  const auto device = net.device();
  AnswerPass pass(model, /*cached=*/true);

  // What all prompts begin with (few-shot examples, a system prompt) is passed once.
  size_t left = 1;
  for (const FactUse& fact : facts)
    if (fact.vectors.defined()) left = std::max(left, static_cast<size_t>(fact.sites.at_end));
  const int64_t P = shared_prefix(prompts, left);
  if (P > 0) {
    const auto prefix = at::empty({1, P}, at::kLong);
    std::copy_n(prompts.front().begin(), P, prefix.data_ptr<int64_t>());
    pass.run({prefix, {}, {}, {}, nullptr}, at::empty({0}, at::kLong));
    pass.repeat(B);
  }

  // Left padding of the rest: every prompt ends at the same column.
  const int64_t R = T - P;
  auto ids = at::zeros({B, R}, at::kLong);
  auto positions = at::zeros({B, R}, at::kLong);
  auto mask = at::zeros({B, R}, at::kBool);
  bool padded = false;
  for (int64_t b = 0; b < B; ++b) {
    const auto& p = prompts[static_cast<size_t>(b)];
    const int64_t pad = T - static_cast<int64_t>(p.size());
    padded |= pad > 0;
    for (int64_t i = P; i < static_cast<int64_t>(p.size()); ++i) {
      const int64_t t = b * R + pad + i - P;
      ids.data_ptr<int64_t>()[t] = p[static_cast<size_t>(i)];
      positions.data_ptr<int64_t>()[t] = i;
      mask.data_ptr<bool>()[t] = true;
    }
  }
  at::Tensor key_mask = at::cat({at::ones({B, P}, at::kBool), mask}, 1).to(device);
  FactSide values(facts, prompts);
  AnswerPass::Input in{ids, {}, {}, {}, values.at_end(R)};
  if (padded) in = {ids, mask, positions.to(device), key_mask, in.side};
  const auto last = at::arange(R - 1, B * R, R, at::kLong);
  at::Tensor logits = net.logits(pass.run(in, last)).to(at::kCPU, at::kFloat).contiguous();
  const auto every_row = at::arange(0, B, at::kLong);

  const int64_t V = net.config().vocab_size;
  const int64_t steps = std::min(options.max_tokens, limit - T);
  auto next = at::zeros({B, 1}, at::kLong);
  auto next_positions = positions.select(1, R - 1).clone();
  const auto row_ones = at::ones({B, 1}, key_mask.options());
  for (int64_t step = 0; step < steps; ++step) {
    if (reporter.cancelled && reporter.cancelled()) break;
    bool all_done = true;
    for (int64_t b = 0; b < B; ++b) {
      Row& row = rows[static_cast<size_t>(b)];
      if (row.done) continue;
      int32_t id = sample({logits.data_ptr<float>() + b * V, static_cast<size_t>(V)}, row, options);
      if (!facts.empty()) {
        const int32_t drawn = id;
        id = kept_to(facts[static_cast<size_t>(b)], row.out.tokens, drawn, model.tokenizer());
        row.out.brought_back |= id != drawn;
      }
      next.data_ptr<int64_t>()[b] = id;
      if (std::find(stops.begin(), stops.end(), id) != stops.end()) {
        row.out.finish_reason = "stop";
        row.done = true;
        append_text(row, row.decoder.finish(), options, true, static_cast<size_t>(b), stream);
        continue;
      }
      row.seen.push_back(id);
      row.out.tokens.push_back(id);
      append_text(row, row.decoder.push(id), options, false, static_cast<size_t>(b), stream);
      all_done &= row.done;
    }
    if (all_done || step + 1 == steps) break;
    next_positions = next_positions + 1;
    in = {next, {}, {}, {}, values.behind(rows)};
    if (padded) {
      key_mask = at::cat({key_mask, row_ones}, 1);
      in.positions = next_positions.view({B, 1}).to(device);
      in.key_mask = key_mask;
    }
    logits = net.logits(pass.run(in, every_row)).to(at::kCPU, at::kFloat).contiguous();
  }
  std::vector<Generation> out;
  for (size_t b = 0; b < rows.size(); ++b) {
    Row& row = rows[b];
    if (!row.done) {
      row.out.finish_reason = "length";
      append_text(row, row.decoder.finish(), options, true, b, stream);
      if (row.done) row.out.finish_reason = "stop";
    }
    out.push_back(std::move(row.out));
  }
  return out;
}

}  // namespace accrete
