#include "memory/growing_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace accrete {

void GrowingRows::append(at::Tensor rows) {
  if (rows.size(0) == 0) return;
  size_ += rows.size(0);
  auto first = pieces_.end();
  for (int64_t behind = rows.size(0); first != pieces_.begin() && first[-1].size(0) <= behind;)
    behind += (--first)->size(0);
  if (first != pieces_.end()) {
    std::vector<at::Tensor> small(first, pieces_.end());
    small.push_back(std::move(rows));
    pieces_.erase(first, pieces_.end());
    rows = at::cat(small);
  }
  pieces_.push_back(std::move(rows));
}

at::Tensor GrowingRows::joined() const {
  if (pieces_.empty()) return {};
  return pieces_.size() == 1 ? pieces_.front() : at::cat(pieces_);
}

}  // namespace accrete
