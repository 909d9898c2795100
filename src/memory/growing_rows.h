// A matrix that only gets more rows, in pieces that its copies share.
//
// An overlay that is copied to try one more update shares what it had with the copy: what is tried
// costs what it holds. A piece that is not larger than what is appended is joined with it, so N
// appends copy N log N rows in all and leave log N pieces.
//
// Non-goals: taking rows away.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace accrete {

class GrowingRows {
 public:
  // [m, w], all with one w and on one device; taken as it is, so nobody may write to it.
  void append(at::Tensor rows);
  int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // In order.
  std::span<const at::Tensor> pieces() const { return pieces_; }
  // All of them, [size, w]; undefined when there are none.
  at::Tensor joined() const;

 private:
  std::vector<at::Tensor> pieces_;
  int64_t size_ = 0;
};

}  // namespace accrete
