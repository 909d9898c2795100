// Weights in few bits beside their float32 values.
//
// A decoded token reads every weight once. Where a model folder has the codes of a block-quantised
// original (io/gguf_codes.h), or its weights are stored as bfloat16, reading those instead is what
// makes decoding fast. The values are the same bit for bit; sums are taken in another order. A pass
// of many rows turns a matrix into float32 when it comes to it, which takes less time than to read
// it from memory, and the process never holds all of them: the file of the float32 weights stays
// where it is.
//
// Non-goals: training, other devices.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "io/safetensors.h"
#include "model/kernels/coded.h"

namespace accrete {

class CodedMatrix {
 public:
  explicit CodedMatrix(const kernels::CodedRows& rows) : rows_(rows) {}

  // Whether `x` [..., in] is multiplied here: float32 on the CPU without a gradient; and few rows
  // if W is stored as bfloat16, since the model then has float32 copies.
  bool applies(const at::Tensor& x) const;
  // x W^T: [..., in] to [..., out]. Few rows are multiplied by the codes, more by the values of a
  // part of W at a time.
  at::Tensor product(const at::Tensor& x) const;
  // The same into `out` [n, out], of x [n, in]; and back: y W, [n, out] to `out` [n, in]. All are
  // contiguous float32 on the CPU.
  void product_to(at::Tensor& out, const at::Tensor& x) const;
  // The same with every row as product_to gives it alone, bit for bit, whatever rows are beside it.
  void each_product_to(at::Tensor& out, const at::Tensor& x) const;
  void back_product_to(at::Tensor& out, const at::Tensor& y) const;
  // W [out, in] in float32, and in bfloat16 with no copy in float32 beside it.
  at::Tensor values() const;
  at::Tensor low_values() const;

 private:
  // f(r, values) for the values of rows r, r + 1, ... [n, in], part by part.
  void each_part(const std::function<void(int64_t, const at::Tensor&)>& f) const;
  void values_to(at::Tensor& out, int64_t begin) const;

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
