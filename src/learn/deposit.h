// Deposit: value rows that give chosen tokens chosen memory outputs, and all others as little as
// possible.
//
// Writing v_j at tokens with accesses a_j (rows of A) and leaving everything else alone is a ridge
// problem with a closed form:
//
//   delta = argmin  sum_j |a_j delta - v_j|^2 / epsilon + tr(delta^T (G_SS + lambda I) delta)
//         = P A^T (A P A^T + epsilon I)^-1 V,    P = (G_SS + lambda I)^-1,
//
// where E|a^T delta|^2 = tr(delta^T G_SS delta) is exactly what the update does to the logged
// tokens (kin: MEMIT's closed form over dense FFN keys, Meng et al. 2023).
//
// Non-goals: finding v_j (value_solver.h), choosing S (ranking.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "learn/plasticity.h"
#include "memory/access_log.h"
#include "memory/accesses.h"
#include "memory/sparse_rows.h"

namespace accrete {

struct DepositOptions {
  double lambda = 1e-5;   // in units of G
  double epsilon = 1e-2;  // in units of each token's diagonal entry of A P A^T
  Plasticity plasticity = Plasticity::kFull;
  at::Device device = at::kCPU;  // of the factorisations; tensors come and go on the CPU
};

// What n tokens are to have: token j has row of[j] of `values` [v, d] float32. Few values for many
// tokens are solved for by which token has which, in v columns and not in d.
struct Targets {
  at::Tensor values;
  std::vector<int64_t> of;  // [n]

  // Token j has row j.
  static Targets each(at::Tensor values);
};

// `accesses` of n tokens, `selected` the t slots S, `gram` G_SS [t, t]. Tokens with equal accesses
// and the same value count as often as they occur, but cost as one. Returns delta [t, d] float32.
// Throws kInvalidArgument when a matrix is not positive definite (lambda <= 0) or a value is not
// finite.
at::Tensor deposit(const Accesses& accesses, const Targets& targets, const SlotIndex& selected,
                   const at::Tensor& gram, const DepositOptions& options);

// The same for `selected` slots (distinct) and what is to stay as it is. Slots that the log never
// reads take no part in a Gram matrix, so that memory and time grow with those that it does; half
// of it is made, and becomes its factor.
at::Tensor deposit(const Accesses& accesses, const Targets& targets,
                   std::span<const int64_t> selected, const AccessLog& log,
                   const DepositOptions& options);

}  // namespace accrete
