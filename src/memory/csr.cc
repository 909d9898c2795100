#include "memory/csr.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/format.h"

namespace accrete {

RowGroups group_by_row(std::span<const int32_t> rows, int64_t R) {
  if (rows.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max()))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} accesses in one call", rows.size()),
                "pass fewer tokens at a time");
  RowGroups groups;
  groups.offsets.assign(static_cast<size_t>(R) + 1, 0);
  for (const int32_t row : rows) {
    if (row >= R || row < -1)
      throw Error(ErrorCode::kInvalidArgument, accrete::format("row {} of a table of {}", row, R));
    if (row >= 0) ++groups.offsets[static_cast<size_t>(row) + 1];
  }
  for (size_t r = 0; r < static_cast<size_t>(R); ++r) groups.offsets[r + 1] += groups.offsets[r];
  groups.order.resize(static_cast<size_t>(groups.offsets.back()));
  auto next = groups.offsets;
  for (size_t i = 0; i < rows.size(); ++i)
    if (rows[i] >= 0)
      groups.order[static_cast<size_t>(next[static_cast<size_t>(rows[i])]++)] =
          static_cast<int32_t>(i);
  return groups;
}

void parallel_over_rows(const std::vector<int64_t>& offsets,
                        const std::function<void(int64_t begin, int64_t end)>& f) {
  const int64_t R = static_cast<int64_t>(offsets.size()) - 1;
  if (R <= 0) return;
  // A row costs its entries and a little for itself. More parts than threads even out the rest.
  const auto cost = [&](int64_t row) { return offsets[static_cast<size_t>(row)] + row; };
  const int64_t parts = std::min<int64_t>(R, 8 * at::get_num_threads());
  const auto start = [&](int64_t part) {
    const int64_t target = cost(R) / parts * part;
    int64_t low = 0, high = R;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (cost(middle) < target)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  };
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t from = start(part), to = part + 1 == parts ? R : start(part + 1);
      if (from < to) f(from, to);
    }
  });
}

}  // namespace accrete
