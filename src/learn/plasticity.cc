#include "learn/plasticity.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/format.h"

namespace accrete {

Plasticity parse_plasticity(const std::string& name) {
  if (name == "full") return Plasticity::kFull;
  if (name == "diagonal") return Plasticity::kDiagonal;
  if (name == "flat") return Plasticity::kFlat;
  throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is not a plasticity", name),
              "use full, diagonal or flat");
}

std::string plasticity_name(Plasticity plasticity) {
  switch (plasticity) {
    case Plasticity::kFull:
      return "full";
    case Plasticity::kDiagonal:
      return "diagonal";
    case Plasticity::kFlat:
      return "flat";
  }
  return {};
}

BlockSymmetric seen_gram(BlockSymmetric gram, Plasticity plasticity) {
  for (at::Tensor& row : gram.rows) row = seen_gram(row, plasticity);
  return gram;
}

at::Tensor seen_gram(at::Tensor gram, Plasticity plasticity) {
  if (plasticity == Plasticity::kFull) return gram;
  const auto diagonal = gram.diagonal().clone();
  gram.zero_();
  if (plasticity == Plasticity::kDiagonal) gram.diagonal().copy_(diagonal);
  return gram;
}

}  // namespace accrete
