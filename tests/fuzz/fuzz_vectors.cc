// parse_vector_set on a whole file's bytes; the first byte says of which kind they are.
#include "fuzz_testing.h"
#include "io/vector_set.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace accrete;
  if (size == 0) return 0;
  constexpr const char* kNames[] = {"f.npz", "f.jsonl", "f.csv", "f.safetensors"};
  const auto bytes = fuzz::bytes_of(data + 1, size - 1);
  fuzz::allow_errors([&] {
    const VectorSet set = parse_vector_set(bytes, kNames[data[0] % 4]);
    // What was accepted is whole, and says the same when it is written down and read again.
    fuzz::require(set.rows > 0 && set.width > 0 && set.has_targets());
    fuzz::require(set.inputs.size() == static_cast<size_t>(set.rows * set.width));
    for (const int32_t c : set.classes)
      fuzz::require(c >= 0 && static_cast<size_t>(c) < set.labels.size());
    const VectorSet again = parse_vector_rows(to_jsonl(set), "again");
    fuzz::require(again.inputs == set.inputs && again.values == set.values);
  });
  return 0;
}
