// Rank correlation.
#pragma once

#include <span>

namespace accrete {

// Spearman's rank correlation; ties take their mean rank. 0 when either side is constant or there
// are fewer than two pairs. Throws kInvalidArgument when the sizes differ.
double spearman(std::span<const double> a, std::span<const double> b);

}  // namespace accrete
