// Entries grouped by row (compressed sparse rows), and work split evenly over such rows.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace accrete {

struct RowGroups {
  std::vector<int64_t> offsets;  // [R + 1]
  std::vector<int32_t> order;    // entry numbers: row r's are order[offsets[r] .. offsets[r + 1])
};

// Counting sort of entries by their row in [0, R); entries with row -1 are left out. Within a row
// the entries keep their order. Throws kInvalidArgument on a row out of range or 2^31 entries.
RowGroups group_by_row(std::span<const int32_t> rows, int64_t R);

// Calls f(begin, end) on ranges of rows with about equal numbers of entries, in parallel: a row is
// never shared, so writes per row need no atomics.
void parallel_over_rows(const std::vector<int64_t>& offsets,
                        const std::function<void(int64_t begin, int64_t end)>& f);

}  // namespace accrete
