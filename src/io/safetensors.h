// The safetensors format, read strictly and written atomically.
//
// A file is: u64 little-endian header length, a JSON header, the tensors' bytes. The reader refuses
// headers over 100 MB, overlapping or missing byte ranges, duplicate keys, trailing bytes, unknown
// types, and shapes whose size does not match or overflows, all before it allocates for a tensor.
// Tensors are views into the mapped file; their bytes need not be aligned.
//
// Non-goals: quantised tensors; editing in place.
#pragma once

#include <cstdint>
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
  std::vector<size_t> by_name_;  // indices into tensors_, sorted by name
  Metadata metadata_;
};

// Checks a whole file's bytes; what SafetensorsFile::open does after mapping. `source` names the
// file in messages. The fuzz target calls it.
void parse_safetensors(std::span<const std::byte> bytes, std::string_view source,
                       std::vector<TensorView>& tensors, Metadata& metadata);

// A tensor to be written: all but its bytes.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

// Writes a file piece by piece, for tensors that do not fit in memory together. Atomic: nothing is
// there under `path` before commit(). The same input gives the same bytes.
class SafetensorsWriter {
 public:
  // `tensors` in the order of their bytes. Throws kIo, kInvalidArgument (duplicate names, negative
  // or overflowing shapes, an order that leaves a tensor unaligned: wide types come first).
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                    const Metadata& metadata = {});
  // The next bytes: tensors in the order given, in pieces of any size. Throws kIo, kInvalidArgument
  // (more bytes than announced).
  void write(std::span<const std::byte> bytes);
  // Throws kIo, kInvalidArgument (fewer bytes than announced).
  void commit();

 private:
  AtomicFile file_;
  uint64_t missing_ = 0;
};

// Tensors in the order given, but stably sorted by the width of their type, widest first, so that
// each is aligned, as other readers expect. Atomic; the same input gives the same bytes. Throws
// kIo, kInvalidArgument (sizes that do not match, duplicate names).
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata = {});

// The bytes of that file. `source` names them in messages. Throws kInvalidArgument.
std::string safetensors_bytes(std::string_view source, std::span<const TensorView> tensors,
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
  std::vector<std::filesystem::path> files_;
};

}  // namespace accrete
