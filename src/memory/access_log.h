// The access log: what the background (and earlier updates, and neighbours) reads from the slots.
//
// Accesses of about 10^5 tokens with a weight per token. From it come, on demand, G_ii = E[w_i^2]
// for every accessed slot and the Gram matrix G_SS = E[a_S a_S^T] of a few selected slots (design
// §3). Expectations divide by the total weight of the background tokens, so joining tokens adds to
// G.
//
// Non-goals: collecting (retrofit and teach do), the solve (learn/).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "memory/accesses.h"
#include "memory/block_symmetric.h"
#include "memory/sparse_rows.h"

namespace accrete {

class AccessLog {
 public:
  AccessLog() = default;
  // Appends T tokens, each counted `weight` times. `background` tokens define the denominator of
  // expectations (a log without any divides by the weight of all its tokens). Padded tokens (no
  // access) are left out: they are no tokens. Throws kInvalidArgument on shapes that do not fit or
  // a negative weight.
  void append(const Accesses& accesses, double weight, bool background);

  int64_t tokens() const;
  double background_tokens() const { return background_tokens_; }

  // G_ii for every slot that the log touches: (ascending slots, values).
  struct Diagonal {
    std::vector<int64_t> slots;
    std::vector<float> values;
  };
  Diagonal diagonal() const;
  // G_SS [t, t] float32, exactly symmetric, for the slots in `selected` (t = selected.size()); sums
  // in float64. Its time grows with the pairs of selected slots that tokens share, not with t^2 T.
  at::Tensor gram(const SlotIndex& selected) const;
  // The same in half the memory.
  BlockSymmetric block_gram(const SlotIndex& selected) const;

  // Document frequency: in how many runs of `batch` consecutive background tokens each of `slots`
  // occurs; and the number of batches (the paper's df and |B|). `slots` must be distinct.
  std::vector<int64_t> document_frequency(std::span<const int64_t> slots, int64_t batch) const;
  int64_t batches(int64_t batch) const;

  // The parts as they were appended, without padding: what is stored.
  struct Part {
    Accesses accesses;
    double weight = 1;
    bool background = true;
  };
  const std::vector<Part>& parts() const { return parts_; }

 private:
  double denominator() const;

  std::vector<Part> parts_;
  double background_tokens_ = 0;
};

}  // namespace accrete
