// Product keys: which of N = heads * n^2 slots a hidden state uses (Lample et al. 2019; Berges et
// al. 2024).
//
// Head h makes a query q = (x - mean) P_h of two halves; each half is scored against n half-keys,
// s_j = q . key_j + bias_j; the top-k of the k x k sums of both halves' top-k are its slots,
// softmax of the scores its weights (divided by sqrt(heads)). Slot id = h n^2 + i n + j.
//
// Non-goals: value rows (sparse_rows.h), training of keys (learned_lookup.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory/accesses.h"
#include "memory/kernels/key_codes.h"

namespace accrete {

struct ProductKeyOptions {
  int64_t heads = 4;
  int64_t half_keys = 256;  // n; N = heads * n^2
  int64_t top_k = 8;
  int64_t query_width = 128;  // of a head's query; even
};

class ProductKeys {
 public:
  // From the tensors that tensors() gave. Throws kFormat on shapes that do not fit.
  static ProductKeys from_tensors(const ProductKeyOptions& options, at::Tensor mean,
                                  at::Tensor projection, at::Tensor keys, at::Tensor bias);

  const ProductKeyOptions& options() const { return options_; }
  int64_t width() const { return mean_.size(0); }                                             // d
  int64_t slots() const { return options_.heads * options_.half_keys * options_.half_keys; }  // N
  int64_t accesses_per_token() const { return options_.heads * options_.top_k; }              // K

  // x [T, d] (any float type) on the device of the keys to accesses there. `mask` [T] bool: false
  // is padding; undefined: no padding. No autograd: slots and weights are constants for the
  // backward pass. Equal scores go to the lower slot; the same for every number of threads. Throws
  // kInvalidArgument on shapes that do not fit, and on NaN or infinity in an unmasked row.
  Accesses lookup(const at::Tensor& x, const at::Tensor& mask = {}) const;
  // The same in plain tensor operations, one step a line, for tests.
  Accesses lookup_reference(const at::Tensor& x, const at::Tensor& mask = {}) const;

  // The first head's queries, [T, query_width] float32: where a token lies among all tokens, up to
  // a rotation. Distances between them are what a gate measures (gate.h).
  at::Tensor queries(const at::Tensor& x) const;

  struct NamedTensor {
    std::string name;
    at::Tensor tensor;
  };
  // mean [d], projection [d, heads * query_width], keys [heads, 2, half_keys, query_width / 2],
  // bias [heads, 2, half_keys]; float32.
  std::vector<NamedTensor> tensors() const;
  ProductKeys to(at::Device device) const;

 private:
  void check_input(const at::Tensor& x, const at::Tensor& mask) const;
#ifdef ACCRETE_CUDA
  Accesses lookup_cuda(const at::Tensor& x, const at::Tensor& mask) const;
#endif

  ProductKeyOptions options_;
  at::Tensor mean_, projection_, keys_, bias_;
  at::Tensor offset_;                               // mean . projection, [heads * query_width]
  std::shared_ptr<const kernels::KeyCodes> codes_;  // null: half-keys are all scored in float32
};

}  // namespace accrete
