// What the tests of the io layer share: a scratch folder, errors as values, and builders of GGUF
// and safetensors files that can be wrong on purpose.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "io/gguf.h"

namespace accrete::testing {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "accrete-io-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no scratch folder");
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  // Writes a file and returns its path.
  std::filesystem::path write(std::string_view name, std::string_view content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }
  // Names in the folder, sorted.
  std::vector<std::string> names() const { return names_in(path_); }
  static std::vector<std::string> names_in(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  std::filesystem::path path_;
};

// What `call` throws; nullopt if nothing. Anything but an Error fails the test.
template <typename Call>
std::optional<Error> error_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& other) {
    ADD_FAILURE() << "not an accrete::Error: " << other.what();
  }
  return std::nullopt;
}

// Expects an Error of `code` whose message has all the `parts`.
template <typename Call>
void expect_error(ErrorCode code, std::initializer_list<const char*> parts, Call call) {
  const std::optional<Error> error = error_of(call);
  ASSERT_TRUE(error.has_value()) << "nothing was thrown";
  EXPECT_EQ(error_code_name(error->code()), error_code_name(code)) << error->what();
  for (const char* part : parts) EXPECT_THAT(error->what(), ::testing::HasSubstr(part));
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

template <typename T>
std::string raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

template <typename T>
std::string raw(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A safetensors file of a header and data, the length put before.
inline std::string safetensors_file(const std::string& header, const std::string& data = "") {
  return raw(uint64_t{header.size()}) + header + data;
}

// Puts a GGUF file together. Offsets, padding and counts come out right unless a test sets them.
class GgufBuilder {
 public:
  static std::string text(std::string_view s) { return raw(uint64_t{s.size()}) + std::string(s); }

  GgufBuilder& pair(std::string_view key, uint32_t type, const std::string& value) {
    pairs_ += text(key) + raw(type) + value;
    ++pair_count;
    return *this;
  }
  GgufBuilder& u32(std::string_view key, uint32_t value) { return pair(key, 4, raw(value)); }
  GgufBuilder& f32(std::string_view key, float value) { return pair(key, 6, raw(value)); }
  GgufBuilder& boolean(std::string_view key, bool value) {
    return pair(key, 7, raw(uint8_t{value}));
  }
  GgufBuilder& string(std::string_view key, std::string_view value) {
    return pair(key, 8, text(value));
  }
  GgufBuilder& strings(std::string_view key, const std::vector<std::string>& values) {
    std::string all = raw(uint32_t{8}) + raw(uint64_t{values.size()});
    for (const std::string& value : values) all += text(value);
    return pair(key, 9, all);
  }
  template <typename T>
  GgufBuilder& numbers(std::string_view key, uint32_t type, const std::vector<T>& values) {
    return pair(key, 9, raw(type) + raw(uint64_t{values.size()}) + raw(values));
  }
  // `dimensions` in the file's order: the row's length first.
  GgufBuilder& tensor(std::string_view name, uint32_t type, const std::vector<uint64_t>& dimensions,
                      const std::string& bytes, std::optional<uint64_t> offset = std::nullopt) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    entries_ += text(name) + raw(static_cast<uint32_t>(dimensions.size())) + raw(dimensions) +
                raw(type) + raw(offset.value_or(data_.size()));
    data_ += bytes;
    ++tensor_count;
    return *this;
  }
  GgufBuilder& floats(std::string_view name, const std::vector<uint64_t>& dimensions,
                      const std::vector<float>& values) {
    return tensor(name, 0, dimensions, raw(values));
  }

  std::string build() const {
    std::string file =
        magic + raw(version) + raw(tensor_count) + raw(pair_count) + pairs_ + entries_;
    if (!data_.empty()) file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
    return file + data_;
  }

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t tensor_count = 0;
  uint64_t pair_count = 0;
  uint64_t alignment = 32;

 private:
  std::string pairs_, entries_, data_;
};

}  // namespace accrete::testing
