// parse_safetensors on a whole file's bytes.
#include "fuzz_testing.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace accrete;
  const auto bytes = fuzz::bytes_of(data, size);
  fuzz::allow_errors([&] {
    std::vector<TensorView> tensors;
    Metadata metadata;
    parse_safetensors(bytes, "fuzz", tensors, metadata);
    // The tensors fill the end of the file without a gap, and each has the size of its shape.
    const std::byte* at = bytes.data() + bytes.size();
    for (auto tensor = tensors.rbegin(); tensor != tensors.rend(); ++tensor) {
      fuzz::require(tensor->bytes.data() + tensor->bytes.size() == at);
      fuzz::require(static_cast<size_t>(tensor->numel()) * dtype_size(tensor->dtype) ==
                    tensor->bytes.size());
      at = tensor->bytes.data();
    }
    for (const TensorView& tensor : tensors) fuzz::allow_errors([&] { to_float32(tensor); });
  });
  return 0;
}
