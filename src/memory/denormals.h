// Numbers below the smallest normal one (1.2e-38) as zero, for a while.
//
// Factors of a Gram matrix fill up with products of ever smaller numbers. Once these are denormal
// the processor takes some hundred cycles for each, and the factorisation three times as long
// (bench/scale_bench.cc), for what no result can hold.
//
// Non-goals: other instruction sets than x86's, where this does nothing.
#pragma once

#include <vector>

namespace accrete {

// While it lives, on this thread and on those of libtorch's pool. Not to be made inside a parallel
// region, nor by two threads at once.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  std::vector<unsigned> before_;  // of each thread
};

}  // namespace accrete
