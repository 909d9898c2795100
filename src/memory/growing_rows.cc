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

at::Tensor GrowingRows::narrow(int64_t begin, int64_t n) const {
  std::vector<at::Tensor> out;
  for (const at::Tensor& piece : pieces_) {
    const int64_t from = std::max<int64_t>(begin, 0), to = std::min(begin + n, piece.size(0));
    if (from < to) out.push_back(piece.narrow(0, from, to - from));
    begin -= piece.size(0);
  }
  if (out.empty()) return pieces_.empty() ? at::Tensor() : pieces_.front().narrow(0, 0, 0);
  return out.size() == 1 ? out.front() : at::cat(out);
}

at::Tensor GrowingRows::joined() const {
  return narrow(0, size_);
}

}  // namespace accrete
