// Facts of an update that are addressed by the question: their values and the keys of their
// wordings, as tensors of the update file. Their texts are `Taught::items`, one item a fact.
//
// Keys are unit vectors of the reader (model/reader.h), whole and with the subject masked, as 8-bit
// integers with a scale each; values are bfloat16. A fact is a few kilobytes.
//
// Non-goals: reading questions, choosing (memory/fact_store.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "ledger/taught.h"

namespace accrete {

struct UpdateFacts {
  int64_t width = 0;             // d of a value vector
  std::vector<int32_t> vectors;  // [F] value vectors of each fact; 0: it has no value of its own
  std::vector<uint16_t> values;  // [sum of vectors, d] bfloat16 bits
  int64_t key_width = 0;
  std::vector<int8_t> whole;   // [W, key_width], the wordings of all facts one after another
  std::vector<int8_t> masked;  // likewise
  std::vector<float> scales;   // [W, 2]: of whole, of masked
  // [F, key_width], of the answers, the subject masked; of a passage the whole of it
  std::vector<int8_t> answers;
  std::vector<float> answer_scales;  // [F]

  bool empty() const { return vectors.empty(); }
  int64_t facts() const { return static_cast<int64_t>(vectors.size()); }
  int64_t keys() const { return static_cast<int64_t>(scales.size()) / 2; }
  bool operator==(const UpdateFacts&) const = default;
};

// A unit vector as 8-bit integers: returns the scale, to / from within half a step.
float quantize_key(const float* key, int64_t width, int8_t* out);

// Identity of a fact, the same wherever it is stored: 16 hex digits over subject, wordings, answer;
// of a passage over document, section and text.
std::string fact_id(const TaughtItem& item);

// Empty when everything fits together and with `items`, else what does not.
std::string fault(const UpdateFacts& facts, const std::vector<TaughtItem>& items);

// The tensors `facts.*`; views into `facts`.
void append_tensors(const UpdateFacts& facts, std::vector<TensorView>& views);
// Takes a tensor of that name into `facts`; false: it is no tensor of facts. Throws kFormat.
bool take_tensor(const TensorView& tensor, std::string_view source, UpdateFacts& facts);

}  // namespace accrete
