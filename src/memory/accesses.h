// Accesses: which slots a token's lookup touches, and how strongly.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace accrete {

// K = heads x top_k accesses for each of T tokens, to K distinct slots. A padded token has none:
// its slots are -1, weights 0.
struct Accesses {
  at::Tensor slots;    // [T, K] int32, in [0, N) or -1
  at::Tensor weights;  // [T, K] float32; each head's sum to 1 / sqrt(heads)

  bool defined() const { return slots.defined(); }
  int64_t tokens() const { return slots.size(0); }
  int64_t per_token() const { return slots.size(1); }
};

// Rows of several logs under one another (equal K). Undefined parts are left out; nothing but such
// gives undefined accesses. Throws kInvalidArgument when K differs.
Accesses concat(const std::vector<Accesses>& parts);

// Those of the tokens `which` [n] int64.
Accesses select_tokens(const Accesses& accesses, const at::Tensor& which);

}  // namespace accrete
