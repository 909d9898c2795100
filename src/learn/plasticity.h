// Plasticity: how far each selected slot may move (docs/algorithm.md).
//
// The full preconditioner lambda (G_SS + lambda I)^-1 knows how slots are read together; its
// diagonal lambda / (lambda + G_ii) is a step length a slot; the flat step is 1 everywhere. They
// are there to be compared: docs/benchmarks.md says what each keeps.
//
// Non-goals: G itself (memory/access_log.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "memory/block_symmetric.h"

namespace accrete {

enum class Plasticity { kFull, kDiagonal, kFlat };

// Throws kInvalidArgument for another name than full, diagonal, flat.
Plasticity parse_plasticity(const std::string& name);
std::string plasticity_name(Plasticity plasticity);

// G_SS [t, t] as the kind sees it; `gram` may be written to.
at::Tensor seen_gram(at::Tensor gram, Plasticity plasticity);
BlockSymmetric seen_gram(BlockSymmetric gram, Plasticity plasticity);

}  // namespace accrete
