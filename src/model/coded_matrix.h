// Weights in few bits beside their float32 values, for products of few rows.
//
// A decoded token reads every weight once. Where a model folder has the codes of a block-quantised
// original (io/gguf_codes.h), or its weights are stored as bfloat16, reading those instead is what
// makes decoding fast. The values are the same bit for bit; sums are taken in another order.
//
// Non-goals: prompts (plain products of the float32 weights), training of them, other devices.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "io/safetensors.h"
#include "model/kernels/coded.h"

namespace accrete {

class CodedMatrix {
 public:
  // More rows than this are not faster than with the float32 weights.
  static constexpr int64_t kMostRows = 16;

  explicit CodedMatrix(const kernels::CodedRows& rows) : rows_(rows) {}

  // Whether `x` [..., in] is float32 on the CPU, needs no gradient and has few rows.
  static bool applies(const at::Tensor& x);
  // x W^T: [..., in] to [..., out].
  at::Tensor product(const at::Tensor& x) const;
  // The same into `out` [n, out], of x [n, in]; and back: y W, [n, out] to `out` [n, in]. All are
  // contiguous float32 on the CPU.
  void product_to(at::Tensor& out, const at::Tensor& x) const;
  void back_product_to(at::Tensor& out, const at::Tensor& y) const;

 private:
  kernels::CodedRows rows_;  // borrows the bytes
};

// The codes of a model folder. Matrices borrow from this and from the weights' own file.
class CodedWeights {
 public:
  // `folder/accrete/codes.safetensors`; empty where there is none. Throws kFormat (a damaged file,
  // shapes that do not fit one another).
  static CodedWeights open(const std::filesystem::path& folder);

  // Of the weight `name` whose stored form is `stored` [out, in]: its codes, or itself if it is
  // bfloat16; null for none. Throws kFormat if the codes are not those of these weights: of another
  // shape, or with another first block.
  std::shared_ptr<const CodedMatrix> find(const std::string& name, const TensorView& stored) const;

  // Compares every value, not the first block alone. Throws kFormat at the first that differs.
  void check(const std::string& name, const TensorView& stored) const;

 private:
  std::optional<kernels::CodedRows> rows_of(const std::string& name,
                                            const TensorView& stored) const;
  Error refusal(const std::string& name, const std::string& what) const;

  std::shared_ptr<const SafetensorsFile> file_;  // null: none
  std::filesystem::path path_;
};

}  // namespace accrete
