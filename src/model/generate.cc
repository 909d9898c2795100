#include "model/generate.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "base/rng.h"
#include "model/answer_pass.h"
#include "model/answer_writer.h"

namespace accrete {
namespace {

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
  const FfnSide* behind(std::span<const AnswerWriter> rows) {
    places_.clear();
    for (size_t b = 0; b < facts_.size(); ++b) {
      if (rows[b].done()) continue;
      if (const int64_t j = vector_behind(facts_[b], rows[b].out().tokens); j >= 0)
        places_.push_back({static_cast<int64_t>(b), 0, facts_[b].vectors[j]});
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
  std::vector<AnswerWriter> rows;
  std::vector<AnswerWriter::Emit> emit(prompts.size());
  for (size_t b = 0; b < prompts.size(); ++b) {
    rows.emplace_back(model.tokenizer(), options, facts.empty() ? nullptr : &facts[b],
                      Rng(options.seed).split(b), prompts[b]);
    if (stream) emit[b] = [&stream, b](std::string_view text) { stream(b, text); };
  }

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
      const auto i = static_cast<size_t>(b);
      if (rows[i].done()) continue;
      next.data_ptr<int64_t>()[b] =
          rows[i].next({logits.data_ptr<float>() + b * V, static_cast<size_t>(V)}, stops, emit[i]);
      all_done &= rows[i].done();
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
    rows[b].cut(emit[b]);
    out.push_back(rows[b].take());
  }
  return out;
}

}  // namespace accrete
