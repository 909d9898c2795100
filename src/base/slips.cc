#include "base/slips.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace accrete {

size_t slips(std::string_view a, std::string_view b) {
  constexpr size_t kMany = 3;
  if (a.size() > b.size() + 2 || b.size() > a.size() + 2) return kMany;
  std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return std::min(last[b.size()], kMany);
}

std::string nearest_word(std::string_view word, std::span<const std::string> known) {
  std::string nearest;
  size_t fewest = 3;
  for (const std::string& one : known)
    if (const size_t count = slips(word, one); count < fewest && 3 * count < one.size()) {
      nearest = one;
      fewest = count;
    }
  return nearest;
}

}  // namespace accrete
