// .npz files as numpy.savez writes them, made by hand: and every part of them wrong on demand.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace accrete::testing {

inline uint32_t plain_crc32(const std::string& bytes) {
  uint32_t c = ~0U;
  for (const char b : bytes) {
    c ^= static_cast<uint8_t>(b);
    for (int k = 0; k < 8; ++k) c = (c & 1) != 0 ? 0xedb88320U ^ (c >> 1) : c >> 1;
  }
  return ~c;
}

template <typename T>
std::string raw_bytes(const std::vector<T>& values) {
  std::string out(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

inline std::string npy(const std::string& type, const std::string& shape, const std::string& data) {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
  header += std::string(63 - (10 + header.size()) % 64, ' ') + "\n";
  const auto n = static_cast<uint16_t>(header.size());
  return std::string("\x93NUMPY\x01\x00", 8) + raw_bytes(std::vector<uint16_t>{n}) + header + data;
}

// `method`: what the directory says; the data are stored as they are.
inline std::string npz(const std::vector<std::pair<std::string, std::string>>& members,
                       uint16_t method = 0) {
  std::string out, directory;
  for (const auto& [name, data] : members) {
    const auto at = static_cast<uint32_t>(out.size());
    const auto size = static_cast<uint32_t>(data.size());
    const std::string common =
        raw_bytes(std::vector<uint16_t>{20, 0, method, 0, 0}) +
        raw_bytes(std::vector<uint32_t>{plain_crc32(data), size, size}) +
        raw_bytes(std::vector<uint16_t>{static_cast<uint16_t>(name.size()), 0});
    out += "PK\x03\x04" + common + name + data;
    directory += std::string("PK\x01\x02\x14\x00", 6) + common +
                 raw_bytes(std::vector<uint16_t>{0, 0, 0, 0, 0}) +
                 raw_bytes(std::vector<uint32_t>{at}) + name;
  }
  const auto n = static_cast<uint16_t>(members.size());
  const auto begin = static_cast<uint32_t>(out.size());
  return out + directory + "PK\x05\x06" + raw_bytes(std::vector<uint16_t>{0, 0, n, n}) +
         raw_bytes(std::vector<uint32_t>{static_cast<uint32_t>(directory.size()), begin}) +
         raw_bytes(std::vector<uint16_t>{0});
}

}  // namespace accrete::testing
