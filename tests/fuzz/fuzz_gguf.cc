// GgufFile::parse, dequantisation of what it finds, and the checks of the conversion.
#include <nlohmann/json.hpp>
#include <vector>

#include "fuzz_testing.h"
#include "io/gguf.h"
#include "io/gguf_to_hf.h"
#include "io/hf_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace accrete;
  const auto bytes = fuzz::bytes_of(data, size);
  fuzz::allow_errors([&] {
    const GgufFile file = GgufFile::parse(bytes, "fuzz");
    for (const GgufTensor& tensor : file.tensors()) {
      fuzz::require(tensor.bytes.data() >= bytes.data() &&
                    tensor.bytes.data() + tensor.bytes.size() <= bytes.data() + bytes.size());
      // The file holds the blocks, so this is at most 256 values for each 144 of its bytes.
      std::vector<float> values(static_cast<size_t>(tensor.numel()));
      dequantize(tensor, values);
      fuzz::require(file.find(tensor.name) != nullptr);
    }
    fuzz::allow_errors([&] {
      // The dump throws where a string is not UTF-8: none may get that far.
      tokenizer_json_from_gguf(file).dump();
    });
    fuzz::allow_errors([&] { llama_tensors(file, llama_sizes(file)); });
  });
  return 0;
}
