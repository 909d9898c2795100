#include "model/answer_writer.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace accrete {
namespace {

// Whether a token goes on with the word or number before it.
bool within_word(const Tokenizer& tokenizer, int32_t id) {
  const std::string text = tokenizer.decode({&id, 1}, /*skip_special=*/true);
  const auto c = static_cast<unsigned char>(text.empty() ? ' ' : text.front());
  return std::isalnum(c) != 0 || c >= 0x80;
}

}  // namespace

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

int64_t vector_behind(const FactUse& fact, std::span<const int32_t> said) {
  const auto n = static_cast<int64_t>(said.size());
  if (!fact.vectors.defined() || n == 0 || n % fact.sites.every != 0) return -1;
  const int64_t j = fact.sites.at_end + n / fact.sites.every - 1;
  if (j >= fact.vectors.size(0) || said.size() > fact.answer.size() ||
      !std::equal(said.begin(), said.end(), fact.answer.begin()))
    return -1;
  return j;
}

int32_t AnswerWriter::draw(std::span<float> logits) {
  const GenerateOptions& o = *options_;
  if (o.repetition_penalty != 1) {
    std::vector<int32_t> ids = seen_;
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
  double u = rng_.uniform() * kept;
  for (size_t i = 0; i < keep; ++i)
    if ((u -= p[i]) < 0) return order[i];
  return order[keep - 1];
}

// Appends text; cuts at a stop string. Holds back what may yet become one.
void AnswerWriter::append(const std::string& piece, bool last, const Emit& emit) {
  const size_t before = out_.text.size();
  out_.text += piece;
  size_t hold = 0;
  for (const auto& stop : options_->stop) {
    const size_t from = before > stop.size() ? before - stop.size() : 0;
    const size_t at = out_.text.find(stop, from);
    if (at != std::string::npos) {
      out_.text.resize(at);
      out_.finish_reason = "stop";
      done_ = true;
      last = true;
    }
    hold = std::max(hold, stop.size() - 1);
  }
  const size_t size = out_.text.size();
  size_t final_end = last ? size : (size > hold ? size - hold : 0);
  const auto within = [this](size_t at) {  // a character
    return at < out_.text.size() && (static_cast<unsigned char>(out_.text[at]) & 0xC0) == 0x80;
  };
  while (final_end > 0 && within(final_end)) --final_end;
  if (emit && final_end > emitted_)
    emit(std::string_view(out_.text).substr(emitted_, final_end - emitted_));
  emitted_ = std::max(emitted_, std::min(final_end, size));
}

// The token of the answer that it should go on with instead of `id`, or `id`.
int32_t AnswerWriter::kept_to(int32_t id) const {
  const auto& said = out_.tokens;
  if (!options_->recital || fact_->recital == Recital::kFree || said.empty() ||
      said.size() >= fact_->answer.size() ||
      !std::equal(said.begin(), said.end(), fact_->answer.begin()))
    return id;
  const int32_t taught = fact_->answer[said.size()];
  const bool must = fact_->recital == Recital::kWhole || within_word(*tokenizer_, id) ||
                    within_word(*tokenizer_, taught);
  return must ? taught : id;
}

int32_t AnswerWriter::next(std::span<float> logits, std::span<const int64_t> stops,
                           const Emit& emit) {
  int32_t id = draw(logits);
  if (fact_ != nullptr) {
    const int32_t drawn = id;
    id = kept_to(drawn);
    out_.brought_back |= id != drawn;
  }
  if (std::find(stops.begin(), stops.end(), id) != stops.end()) {
    out_.finish_reason = "stop";
    done_ = true;
    append(decoder_.finish(), true, emit);
    return id;
  }
  seen_.push_back(id);
  out_.tokens.push_back(id);
  append(decoder_.push(id), false, emit);
  return id;
}

void AnswerWriter::cut(const Emit& emit) {
  if (done_) return;
  out_.finish_reason = "length";
  append(decoder_.finish(), true, emit);
  if (done_) out_.finish_reason = "stop";
  done_ = true;
}

}  // namespace accrete
