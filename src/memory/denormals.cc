#include "memory/denormals.h"

#include <ATen/Parallel.h>

#ifdef __SSE2__
#include <pmmintrin.h>
#include <xmmintrin.h>
#endif

namespace accrete {
namespace {

// f(i) on every thread of the pool, this one among them.
template <class F>
void on_every_thread(F f) {
  const int threads = at::get_num_threads();
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(static_cast<size_t>(i));
  });
}

}  // namespace

FlushDenormals::FlushDenormals() {
#ifdef __SSE2__
  before_.resize(static_cast<size_t>(at::get_num_threads()));
  on_every_thread([&](size_t i) {
    before_[i] = _mm_getcsr();
    _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
    _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
  });
#endif
}

FlushDenormals::~FlushDenormals() {
#ifdef __SSE2__
  if (before_.size() != static_cast<size_t>(at::get_num_threads())) return;
  on_every_thread([&](size_t i) { _mm_setcsr(before_[i]); });
#endif
}

}  // namespace accrete
