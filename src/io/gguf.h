// GGUF v2 and v3, read strictly: metadata, and tensors dequantised to float32.
//
// Types: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K. All counts, string
// lengths, offsets and sizes are checked against the file before anything is allocated for them.
//
// Non-goals: writing GGUF, big-endian files, computing on quantised weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"

namespace accrete {

enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

std::string_view ggml_type_name(GgmlType type);
// Rows are stored in blocks of so many values ...
int64_t ggml_block_values(GgmlType type);
// ... each of so many bytes.
size_t ggml_block_bytes(GgmlType type);

// Scalars and arrays of integers, floats and booleans are widened (an array of booleans to integers
// 0 and 1); arrays of arrays and integers over 2^63 - 1 in an array are refused.
using GgufValue = std::variant<uint64_t, int64_t, double, bool, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<int64_t> shape;  // row-major (the file's order reversed): [out, in] for a matrix
  std::span<const std::byte> bytes;

  int64_t numel() const;
};

class GgufFile {
 public:
  // Throws kNotFound, kIo, kFormat, kUnsupported.
  static GgufFile open(const std::filesystem::path& path);
  // From bytes that outlive the object; `source` names them in messages.
  static GgufFile parse(std::span<const std::byte> bytes, std::string_view source);

  uint32_t version() const { return version_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;

  // Metadata with a type; `nullopt`-like overloads take a default. Throws kFormat when the key is
  // missing or of another type (find_ints and find_floats: nullptr when it is missing). Integers
  // convert between signedness when the value fits.
  std::string get_string(std::string_view key) const;
  int64_t get_int(std::string_view key) const;
  double get_float(std::string_view key) const;
  std::string get_string(std::string_view key, std::string_view fallback) const;
  int64_t get_int(std::string_view key, int64_t fallback) const;
  double get_float(std::string_view key, double fallback) const;
  bool get_bool(std::string_view key, bool fallback) const;
  const std::vector<std::string>& get_strings(std::string_view key) const;
  const std::vector<int64_t>* find_ints(std::string_view key) const;
  const std::vector<double>* find_floats(std::string_view key) const;

 private:
  GgufFile() = default;
  std::vector<MappedFile> file_;  // empty when parsed from borrowed bytes
  std::string source_;            // for messages
  uint32_t version_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
};

// Dequantises the whole tensor (row-major): bit for bit what the Python package `gguf` computes.
// `out` must hold tensor.numel() floats, else kInvalidArgument.
void dequantize(const GgufTensor& tensor, std::span<float> out);

}  // namespace accrete
