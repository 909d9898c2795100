// Update files: what one committed `teach` changed, and where it came from.
//
// A safetensors file with, for every memory layer b it touches, `b.indices` I64 [t] (slot ids,
// strictly ascending) and `b.delta` F32 [t, d] (added to the value rows), and string metadata (base
// digest, parent, data digest, seed, method, measurements; keys in docs/formats.md).
// Content-addressed: the id is the first 16 hex digits of the SHA-256 of the file's bytes, so the
// same teach gives the same id.
//
// Non-goals: order, activity and time of updates (ledger.h); signing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace accrete {

struct LayerDelta {
  int block = 0;                 // the transformer block whose memory layer this is
  int64_t width = 0;             // d
  std::vector<int64_t> indices;  // [t] strictly ascending slot ids
  std::vector<float> delta;      // [t, d] row-major
};

struct Update {
  std::vector<LayerDelta> layers;  // strictly ascending by block; at least one, each with t >= 1
  Metadata metadata;
};

// Writes atomically and returns the id. Throws kInvalidArgument (unsorted, empty, sizes, non-finite
// values), kIo. The file is named `<id>.safetensors` in `folder`.
std::string write_update(const std::filesystem::path& folder, const Update& update);

// Strict: names, types, shapes, order, finite values, and (when `expected_id` is not empty) the id.
// Throws kFormat, kNotFound, kIo.
Update read_update(const std::filesystem::path& file, const std::string& expected_id = "");

}  // namespace accrete
