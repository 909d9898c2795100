// Unpacks what zip and numpy.savez_compressed deflate (RFC 1951).
//
// Read strictly: it must end where the bytes end and make exactly the size that was announced, so
// nothing larger is ever made.
//
// Non-goals: packing, headers of zlib or gzip, streams.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace accrete {

// nullopt: the bytes are damaged, or make another size.
std::optional<std::vector<std::byte>> inflate(std::span<const std::byte> packed, size_t size);

}  // namespace accrete
