// The safetensors format, read strictly and written atomically.
//
// A file is: u64 little-endian header length, a JSON header, the tensors' bytes. The reader refuses
// headers over 100 MB, overlapping or missing byte ranges, duplicate keys, trailing bytes, unknown
// types, and shapes whose size does not match or overflows, all before it allocates for a tensor.
//
// Non-goals: quantised tensors; editing in place.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "io/tensor.h"

namespace accrete {

using Metadata = std::map<std::string, std::string>;  // `__metadata__`

class SafetensorsFile {
 public:
  // Maps and checks the file. Throws kNotFound, kIo, kFormat (with the file's name).
  static SafetensorsFile open(const std::filesystem::path& path);

  // In the order of their bytes. Views stay valid while this object lives (moves included).
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // nullptr if there is none of that name.
  const TensorView* find(std::string_view name) const;
  // Throws kFormat with the names that exist if there is none.
  const TensorView& at(std::string_view name) const;
  const Metadata& metadata() const { return metadata_; }

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::vector<TensorView> tensors_;
  Metadata metadata_;
};

// Checks a whole file's bytes; what SafetensorsFile::open does after mapping. `source` names the
// file in messages. The fuzz target calls it.
void parse_safetensors(std::span<const std::byte> bytes, std::string_view source,
                       std::vector<TensorView>& tensors, Metadata& metadata);

// Writes tensors in the order given (atomically; see AtomicFile). The same input gives the same
// bytes. Throws kIo, kInvalidArgument (sizes that do not match, duplicate names).
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata = {});

// A model's tensors: one file, or the shards that a `*.safetensors.index.json` names.
class ShardedSafetensors {
 public:
  // `folder` holds `model.safetensors` or `model.safetensors.index.json`. Throws as above, and
  // kFormat where the index and the shards disagree or a shard's path leaves the folder.
  static ShardedSafetensors open(const std::filesystem::path& folder);
  const TensorView* find(std::string_view name) const;
  std::vector<const TensorView*> tensors() const;  // sorted by name
  std::vector<std::filesystem::path> files() const;

 private:
  std::vector<SafetensorsFile> shards_;
};

}  // namespace accrete
