// Teach sets of numbers: rows of inputs with what the model should say to each.
//
// The same names in every kind of file: `inputs` [n, ...] (numbers; what lies behind the first
// dimension is one row) and `targets`, either [n] whole numbers, which are classes, or [n, a]
// numbers, which are values (actions, a risk).
//   .safetensors  `inputs` F32, F16 or U8, `targets` F32 or I32; metadata `task`, `metric`
//                 (accuracy, auc, fit), `labels` (a JSON array of names: class i is labels[i])
//   .npz          the same as arrays, `labels` an array of text (io/npz.h); `observations` and
//                 `actions` are taken for `inputs` and `targets`
//   .jsonl        a line a row: {"inputs": [...], "label": NAME} or {"inputs": [...], "targets":
//                 [...]}; also "label": NUMBER
//   .csv          a header of names, then numbers; the column `label` or `target` is what it names
// Without `labels` the name of class 7 is "7".
//
// Non-goals: which labels a model has, scaling, pictures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct VectorSet {
  std::filesystem::path path;
  std::string digest;  // SHA-256 of the file's bytes
  int64_t rows = 0;
  int64_t width = 0;                // of a row of inputs
  std::vector<float> inputs;        // [rows, width], finite
  std::vector<std::string> labels;  // names of the classes; empty: the targets are values
  std::vector<int32_t> classes;     // [rows] of those
  int64_t outputs = 0;              // of values
  std::vector<float> values;        // [rows, outputs], finite
  std::string task, metric;         // may be empty

  bool in_classes() const { return !labels.empty(); }
  // Without targets: rows to be answered.
  bool has_targets() const { return in_classes() || outputs > 0; }
};

// Throws kNotFound, kIo, kFormat (what is wrong and in which row), kInvalidArgument (no row; a name
// of no kind; one input with two labels, with both rows), kUnsupported (an encrypted .npz).
VectorSet read_vector_set(const std::filesystem::path& path);
// The same of bytes that are at hand: those of the file `path`, which says of which kind they are.
// The fuzz target calls it.
VectorSet parse_vector_set(std::span<const std::byte> bytes, const std::filesystem::path& path);

// Rows of .jsonl, which may have no targets: observations. All or none have them.
VectorSet parse_vector_rows(std::string_view text, std::string_view source);
// The same of numbers that are at hand, [n, width].
VectorSet vector_rows(std::vector<float> inputs, int64_t width, std::string_view source);
// Lines that parse_vector_rows() reads as the same set, to the bit.
std::string to_jsonl(const VectorSet& set);

}  // namespace accrete
