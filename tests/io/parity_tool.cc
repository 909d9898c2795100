// What parity_io.py drives: one verb a call, files in and files out.
//
//   dequantize IN.gguf OUT.safetensors   every tensor as float32
//   rewrite IN.safetensors OUT.safetensors
//   convert IN.gguf FOLDER
//   tokenizer IN.gguf OUT.json
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"
#include "io/hf_folder.h"
#include "io/safetensors.h"

namespace {

void dequantize_all(const char* from, const char* to) {
  const accrete::GgufFile file = accrete::GgufFile::open(from);
  std::vector<std::vector<float>> values;
  std::vector<accrete::TensorView> views;
  for (const accrete::GgufTensor& tensor : file.tensors()) {
    values.emplace_back(static_cast<size_t>(tensor.numel()));
    accrete::dequantize(tensor, values.back());
    views.push_back(
        {tensor.name, accrete::DType::kF32, tensor.shape, std::as_bytes(std::span(values.back()))});
  }
  accrete::write_safetensors(to, views);
}

void rewrite(const char* from, const char* to) {
  const auto file = accrete::SafetensorsFile::open(from);
  accrete::write_safetensors(to, file.tensors(), file.metadata());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const std::string verb = argv[1];
  try {
    if (verb == "dequantize") {
      dequantize_all(argv[2], argv[3]);
    } else if (verb == "rewrite") {
      rewrite(argv[2], argv[3]);
    } else if (verb == "convert") {
      accrete::convert_gguf_to_hf(argv[2], argv[3]);
    } else if (verb == "tokenizer") {
      const auto file = accrete::GgufFile::open(argv[2]);
      accrete::write_file_atomically(argv[3], accrete::tokenizer_json_from_gguf(file).dump());
    } else {
      return 2;
    }
  } catch (const accrete::Error& error) {
    std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
    return 1;
  }
  return 0;
}
