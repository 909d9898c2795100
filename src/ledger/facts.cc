#include "ledger/facts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"

namespace accrete {
namespace {

constexpr std::string_view kVectors = "facts.vectors";
constexpr std::string_view kValues = "facts.values";
constexpr std::string_view kWhole = "facts.whole";
constexpr std::string_view kMasked = "facts.masked";
constexpr std::string_view kScales = "facts.scales";
constexpr std::string_view kAnswers = "facts.answers";
constexpr std::string_view kAnswerScales = "facts.answer_scales";

template <typename T>
std::vector<T> take(const TensorView& t, DType dtype, size_t dimensions, std::string_view source) {
  if (t.dtype != dtype || t.shape.size() != dimensions || t.bytes.size() % sizeof(T) != 0 ||
      std::any_of(t.shape.begin(), t.shape.end(), [](int64_t n) { return n < 1; }))
    throw Error(
        ErrorCode::kFormat,
        accrete::format("{}: {} is not {} of {} dimensions", source, t.name, dtype_name(dtype),
                        dimensions),
        "the update file is damaged, was changed, or is not one of accrete's; get it again");
  std::vector<T> out(t.bytes.size() / sizeof(T));
  std::memcpy(out.data(), t.bytes.data(), t.bytes.size());
  return out;
}

}  // namespace

float quantize_key(const float* key, int64_t width, int8_t* out) {
  float most = 0;
  for (int64_t i = 0; i < width; ++i) most = std::max(most, std::abs(key[i]));
  const float scale = most > 0 ? most / 127 : 1;
  for (int64_t i = 0; i < width; ++i)
    out[i] = static_cast<int8_t>(std::clamp(std::lround(key[i] / scale), -127L, 127L));
  return scale;
}

std::string fact_id(const TaughtItem& item) {
  std::string text;
  const auto add = [&text](const std::string& part) {
    text += std::to_string(part.size()) + ":" + part + "\n";
  };
  add(item.subject);
  for (const auto& prompt : item.prompts) add(prompt);
  add("");
  for (const auto& answer : item.answers) add(answer);
  text += item.raw ? "raw" : "chat";
  if (item.leave) text += " leave";
  if (item.verbatim) text += " verbatim";
  if (item.passage()) {
    add(item.document);
    add(item.section);
  }
  return sha256_hex(text).substr(0, 16);
}

std::string fault(const UpdateFacts& facts, const std::vector<TaughtItem>& items) {
  if (facts.empty())
    return facts.values.empty() && facts.whole.empty() && facts.masked.empty() &&
                   facts.scales.empty() && facts.answers.empty() && facts.answer_scales.empty()
               ? ""
               : "it has keys or values but no facts";
  if (items.size() != facts.vectors.size()) return "it has not one taught item a fact";
  int64_t rows = 0, keys = 0;
  for (size_t f = 0; f < items.size(); ++f) {
    if (facts.vectors[f] < 0) return "a fact has a negative number of vectors";
    if (items[f].prompts.empty() && !items[f].passage()) return "a fact has no wording";
    rows += facts.vectors[f];
    keys += static_cast<int64_t>(items[f].prompts.size());
  }
  if (rows > 0 && facts.width < 1) return "facts.values has no width";
  if (static_cast<int64_t>(facts.values.size()) != rows * facts.width)
    return accrete::format("facts.values has not {} rows", rows);
  for (const uint16_t v : facts.values)
    if ((v & 0x7F80) == 0x7F80) return "facts.values holds values that are not finite";
  if (facts.key_width < 1 || facts.keys() != keys || facts.scales.size() % 2 != 0 ||
      static_cast<int64_t>(facts.whole.size()) != keys * facts.key_width ||
      facts.masked.size() != facts.whole.size())
    return accrete::format("it has not a whole and a masked key for each of {} wordings", keys);
  if (facts.answer_scales.size() != items.size() ||
      facts.answers.size() != items.size() * static_cast<size_t>(facts.key_width))
    return "it has not a key for each answer";
  for (const auto* scales : {&facts.scales, &facts.answer_scales})
    for (const float s : *scales)
      if (!(s > 0) || !std::isfinite(s)) return "a key's scale is not positive";
  return {};
}

void append_tensors(const UpdateFacts& facts, std::vector<TensorView>& views) {
  if (facts.empty()) return;
  const int64_t keys = facts.keys();
  const auto add = [&views](std::string_view name, DType dtype, std::vector<int64_t> shape,
                            std::span<const std::byte> bytes) {
    views.push_back({std::string(name), dtype, std::move(shape), bytes});
  };
  // Larger elements first, so that every tensor starts at a multiple of its element's size.
  if (keys > 0) add(kScales, DType::kF32, {keys, 2}, std::as_bytes(std::span(facts.scales)));
  add(kAnswerScales, DType::kF32, {facts.facts()}, std::as_bytes(std::span(facts.answer_scales)));
  add(kVectors, DType::kI32, {facts.facts()}, std::as_bytes(std::span(facts.vectors)));
  if (!facts.values.empty())
    add(kValues, DType::kBF16,
        {static_cast<int64_t>(facts.values.size()) / facts.width, facts.width},
        std::as_bytes(std::span(facts.values)));
  if (keys > 0) {
    add(kWhole, DType::kI8, {keys, facts.key_width}, std::as_bytes(std::span(facts.whole)));
    add(kMasked, DType::kI8, {keys, facts.key_width}, std::as_bytes(std::span(facts.masked)));
  }
  add(kAnswers, DType::kI8, {facts.facts(), facts.key_width},
      std::as_bytes(std::span(facts.answers)));
}

bool take_tensor(const TensorView& tensor, std::string_view source, UpdateFacts& facts) {
  if (tensor.name == kVectors) {
    facts.vectors = take<int32_t>(tensor, DType::kI32, 1, source);
  } else if (tensor.name == kValues) {
    facts.values = take<uint16_t>(tensor, DType::kBF16, 2, source);
    facts.width = tensor.shape[1];
  } else if (tensor.name == kWhole) {
    facts.whole = take<int8_t>(tensor, DType::kI8, 2, source);
    facts.key_width = tensor.shape[1];
  } else if (tensor.name == kMasked) {
    facts.masked = take<int8_t>(tensor, DType::kI8, 2, source);
  } else if (tensor.name == kScales) {
    facts.scales = take<float>(tensor, DType::kF32, 2, source);
  } else if (tensor.name == kAnswers) {
    facts.answers = take<int8_t>(tensor, DType::kI8, 2, source);
    facts.key_width = tensor.shape[1];
  } else if (tensor.name == kAnswerScales) {
    facts.answer_scales = take<float>(tensor, DType::kF32, 1, source);
  } else {
    return false;
  }
  return true;
}

}  // namespace accrete
