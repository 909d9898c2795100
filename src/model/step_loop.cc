#include "model/step_loop.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/format.h"

namespace accrete {

struct StepLoop::Row {
  explicit Row(StepRequest r)
      : request(std::move(r)),
        stops(request.model->stop_ids()),
        writer(request.model->tokenizer(), request.options, request.fact ? &*request.fact : nullptr,
               Rng(request.options.seed).split(request.stream), request.prompt) {}
  Row(const Row&) = delete;
  Row& operator=(const Row&) = delete;

  StepRequest request;
  std::vector<int64_t> stops;
  AnswerWriter writer;
  KvCache cache;
  StepAnswer answer;
  int64_t passed = 0;  // tokens of the prompt
  int64_t most = 0;    // tokens that it may write
  int32_t last = 0;    // written, not passed
  size_t told = 0;     // scores handed on
  bool finished = false;

  int64_t left() const { return static_cast<int64_t>(request.prompt.size()) - passed; }
};

TokenScore score_token(std::span<const float> logits, int32_t id, int64_t top) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float v : logits) sum += std::exp(static_cast<double>(v) - best);
  const double norm = best + std::log(sum);
  const auto score = [&](int32_t i) { return logits[static_cast<size_t>(i)] - norm; };
  TokenScore out;
  out.id = id;
  out.logprob = score(id);
  std::vector<int32_t> order;
  const auto higher = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  for (int32_t i = 0; top > 0 && i < static_cast<int32_t>(logits.size()); ++i) {
    if (static_cast<int64_t>(order.size()) == top && !higher(i, order.back())) continue;
    order.insert(std::upper_bound(order.begin(), order.end(), i, higher), i);
    if (static_cast<int64_t>(order.size()) > top) order.pop_back();
  }
  for (const int32_t i : order) out.top.emplace_back(i, score(i));
  return out;
}

StepLoop::StepLoop(std::shared_ptr<const LanguageModel> network, int64_t piece)
    : network_(std::move(network)), piece_(piece), pass_(network_->net()) {}
StepLoop::~StepLoop() = default;

int64_t StepLoop::rows() const {
  return static_cast<int64_t>(rows_.size());
}

int64_t StepLoop::waiting() const {
  int64_t out = 0;
  for (const Row& row : rows_) out += row.left();
  return out;
}

void StepLoop::clear() {
  rows_.clear();
}

void StepLoop::join(StepRequest request) {
  check_sampling(request.options);
  const ModelConfig& c = network_->net().config();
  const auto T = static_cast<int64_t>(request.prompt.size());
  if (T == 0) throw Error(ErrorCode::kInvalidArgument, "the prompt is empty", "give a text");
  if (request.write ? T >= c.max_positions : T > c.max_positions)
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("the prompt has {} tokens, the model {} positions", T, c.max_positions),
        "shorten the prompt");
  for (const int32_t id : request.prompt)
    if (id < 0 || id >= c.vocab_size)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("token {} is none of the model's {}", id, c.vocab_size));
  if (!request.model->net().head().is_same(network_->net().head()))
    throw Error(ErrorCode::kInvalidArgument, "a row of another network");
  Row& row = rows_.emplace_back(std::move(request));
  row.most = std::min(row.request.options.max_tokens, c.max_positions - T);
}

// The next `tokens` tokens of the prompt; at its end the first token is drawn.
void StepLoop::pass_piece(Row& row, int64_t tokens) {
  const StepRequest& r = row.request;
  const Transformer& net = r.model->net();
  const auto T = static_cast<int64_t>(r.prompt.size());
  const int64_t from = row.passed;
  const auto ids = at::empty({1, tokens}, at::kLong);
  std::copy_n(r.prompt.begin() + from, tokens, ids.mutable_data_ptr<int64_t>());
  FfnSide side = r.model->side();
  bool speaks = false;
  for (int64_t j = 0; r.fact && r.fact->vectors.defined() && j < r.fact->sites.at_end; ++j)
    if (const int64_t t = r.fact->sites.token(T, j); t >= 1 && t >= from && t < from + tokens)
      speaks = true;
  if (speaks)
    side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
      if (block != r.fact->sites.block) return {};
      auto out = at::zeros(x.sizes(), at::kFloat);
      for (int64_t j = 0; j < r.fact->sites.at_end; ++j)
        if (const int64_t t = r.fact->sites.token(T, j); t >= 1 && t >= from && t < from + tokens)
          out[0][t - from].add_(r.fact->vectors[j]);
      return out;
    };
  ForwardOptions forward;
  forward.cache = &row.cache;
  forward.side = &side;
  const auto h = net.run(net.embed(ids), 0, net.config().blocks, forward).view({tokens, -1});
  row.passed += tokens;
  const int64_t V = net.config().vocab_size;
  if (r.score_prompt) {
    if (from == 0) row.answer.prompt.push_back({r.prompt.front(), 0, {}});
    // Logits of a long prompt are large: some tokens at a time.
    constexpr int64_t kTogether = 32;
    const int64_t known = std::min(tokens, T - 1 - from);  // those whose next token is there
    for (int64_t t = 0; t < known; t += kTogether) {
      const int64_t n = std::min(kTogether, known - t);
      const auto logits = net.logits(h.narrow(0, t, n)).contiguous();
      for (int64_t i = 0; i < n; ++i)
        row.answer.prompt.push_back(
            score_token({logits.const_data_ptr<float>() + i * V, static_cast<size_t>(V)},
                        r.prompt[static_cast<size_t>(from + t + i + 1)], r.top));
    }
  }
  if (row.left() > 0) return;
  if (!r.write) {
    row.answer.generation.finish_reason = "length";
    return finish(row);
  }
  take(row, net.logits(h.narrow(0, tokens - 1, 1)).contiguous().view({V}));
}

void StepLoop::take(Row& row, const at::Tensor& logits) {
  const StepRequest& r = row.request;
  const std::span<float> v(logits.mutable_data_ptr<float>(), static_cast<size_t>(logits.numel()));
  std::vector<float> before;
  if (r.top >= 0) before.assign(v.begin(), v.end());
  std::string text;
  const auto emit = [&](std::string_view piece) { text += piece; };
  row.last = row.writer.next(v, row.stops, emit);
  const auto n = row.writer.out().tokens.size();
  // Behind a scored prompt stands one more entry, be it of the end: who reads it cuts the last off.
  if (r.top >= 0 && (n > row.answer.scores.size() || r.score_prompt))
    row.answer.scores.push_back(score_token(before, row.last, r.top));
  const bool full = static_cast<int64_t>(n) >= row.most;
  if (full && !row.writer.done()) row.writer.cut(emit);
  const auto& scores = row.answer.scores;
  if (r.on_text && (!text.empty() || (row.writer.done() && row.told < scores.size()))) {
    r.on_text(text, std::span(scores).subspan(row.told));
    row.told = scores.size();
  }
  if (row.writer.done()) {
    row.answer.generation = row.writer.take();
    finish(row);
  }
}

void StepLoop::finish(Row& row) {
  row.finished = true;
  if (row.request.on_done) row.request.on_done(std::move(row.answer));
}

bool StepLoop::step() {
  const c10::InferenceMode inference;
  rows_.remove_if([](const Row& row) {
    return row.finished || (row.request.cancelled && row.request.cancelled());
  });
  if (rows_.empty()) return false;
  // Those whose prompts are passed write a token; then prompts get their piece, first come first.
  std::vector<Row*> writing;
  for (Row& row : rows_)
    if (row.left() == 0) writing.push_back(&row);
  if (!writing.empty()) {
    std::vector<StepPass::Row> in;
    struct Value {
      int64_t block, row;
      at::Tensor vector;
    };
    std::vector<Value> values;
    std::map<const LanguageModel*, std::pair<FfnSide, std::vector<int64_t>>> sides;
    for (size_t i = 0; i < writing.size(); ++i) {
      Row& row = *writing[i];
      const auto at = static_cast<int64_t>(i);
      in.push_back({row.last, &row.cache});
      if (row.request.fact)
        if (const int64_t j = vector_behind(*row.request.fact, row.writer.out().tokens); j >= 0)
          values.push_back({row.request.fact->sites.block, at, row.request.fact->vectors[j]});
      const LanguageModel& model = *row.request.model;
      if (!model.has_memory() || model.memory().overlay.empty()) continue;
      auto& [side, of] = sides[&model];
      if (!side) side = model.side();
      of.push_back(at);
    }
    const StepPass::Add add = [&](int64_t block, const at::Tensor& x, at::Tensor& y) {
      for (const Value& value : values)
        if (value.block == block) y[value.row].add_(value.vector);
      for (const auto& [model, of] : sides) {
        const auto which = at::tensor(of.second, at::kLong);
        const auto more = of.first(block, x.index_select(0, which).unsqueeze(1));
        if (more.defined()) y.index_add_(0, which, more.squeeze(1));
      }
    };
    const auto logits = pass_.run(in, &add);
    for (size_t i = 0; i < writing.size(); ++i) take(*writing[i], logits[static_cast<int64_t>(i)]);
  }
  // A prompt is cut where it alone would be, whatever else there is: what it says depends on it.
  // One that is not through waits behind the others.
  int64_t room = piece_;
  const size_t all = rows_.size();
  auto next = rows_.begin();
  for (size_t i = 0; i < all && room > 0; ++i) {
    const auto row = next++;
    if (row->left() == 0) continue;
    const int64_t tokens = std::min(row->left(), piece_);
    pass_piece(*row, tokens);
    room -= tokens;
    if (row->left() > 0) rows_.splice(rows_.end(), rows_, row);
  }
  rows_.remove_if([](const Row& row) { return row.finished; });
  return true;
}

}  // namespace accrete
