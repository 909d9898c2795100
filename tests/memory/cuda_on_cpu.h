// CUDA device code on the CPU, for tests: the threads of a block are fibers that take turns at
// every barrier and shuffle, so what they compute, and which threads meet where, is what a GPU
// would. A barrier that not all threads reach ends in an exception instead of a hang.
//
// Include before the device code. One block runs at a time; blocks run one after another.
//
// Non-goals: speed, races between barriers (threads run one after another), memory spaces.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __device__
#define __global__

namespace cuda_on_cpu {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

class Block {
 public:
  // Runs f once for every thread.
  void run(unsigned threads, const std::function<void()>& f) {
    f_ = &f;
    fibers_.clear();
    slots_.assign(threads, 0);
    barriers_.assign(threads / 32 + 2, {});
    for (unsigned t = 0; t < threads; ++t) {
      fibers_.push_back(std::make_unique<Fiber>());
      Fiber& fiber = *fibers_.back();
      fiber.stack.resize(64 * 1024);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.data();
      fiber.context.uc_stack.ss_size = fiber.stack.size();
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 0);
    }
    for (unsigned left = threads; left > 0;) {
      progress_ = false;
      for (unsigned t = 0; t < threads; ++t) {
        if (fibers_[t]->done) continue;
        current_ = t;
        swapcontext(&scheduler_, &fibers_[t]->context);
        if (fibers_[t]->done) {
          --left;
          progress_ = true;
        }
      }
      if (left > 0 && !progress_) throw std::runtime_error("threads wait at different barriers");
    }
  }

  unsigned current() const { return current_; }
  unsigned threads() const { return static_cast<unsigned>(fibers_.size()); }
  void sync_block() { wait(barriers_.back(), threads()); }
  void sync_warp() {
    const unsigned first = current_ / 32 * 32;
    wait(barriers_[current_ / 32], std::min(32u, threads() - first));
  }
  uint32_t shuffle_xor(uint32_t mine, int mask) {
    slots_[current_] = mine;
    sync_warp();
    const uint32_t other = slots_[current_ ^ static_cast<unsigned>(mask)];
    sync_warp();
    return other;
  }

 private:
  struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
  };
  struct Barrier {
    unsigned arrived = 0, generation = 0;
  };

  void wait(Barrier& barrier, unsigned of) {
    const unsigned generation = barrier.generation;
    if (++barrier.arrived == of) {
      barrier.arrived = 0;
      ++barrier.generation;
      progress_ = true;
      return;
    }
    while (barrier.generation == generation) swapcontext(&fibers_[current_]->context, &scheduler_);
  }

  static void enter();

  const std::function<void()>* f_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<uint32_t> slots_;
  std::vector<Barrier> barriers_;
  ucontext_t scheduler_;
  unsigned current_ = 0;
  bool progress_ = false;
};

inline Block block;
inline Dim block_index, block_size;

inline void Block::enter() {
  (*block.f_)();
  block.fibers_[block.current_]->done = true;
}

// kernel<<<grid, threads>>>, f being its body.
inline void launch(Dim grid, unsigned threads, const std::function<void()>& f) {
  block_size = {threads, 1, 1};
  for (block_index.y = 0; block_index.y < grid.y; ++block_index.y)
    for (block_index.x = 0; block_index.x < grid.x; ++block_index.x) block.run(threads, f);
}

}  // namespace cuda_on_cpu

#define blockIdx (cuda_on_cpu::block_index)
#define blockDim (cuda_on_cpu::block_size)
#define threadIdx (cuda_on_cpu::Dim{cuda_on_cpu::block.current(), 0, 0})

inline void __syncthreads() {
  cuda_on_cpu::block.sync_block();
}
inline void __syncwarp() {
  cuda_on_cpu::block.sync_warp();
}
template <class T>
T __shfl_xor_sync(unsigned, T mine, int mask) {
  static_assert(sizeof(T) == sizeof(uint32_t));
  uint32_t bits;
  std::memcpy(&bits, &mine, sizeof bits);
  bits = cuda_on_cpu::block.shuffle_xor(bits, mask);
  std::memcpy(&mine, &bits, sizeof bits);
  return mine;
}
inline int atomicAdd(int* to, int add) {
  const int old = *to;
  *to += add;
  return old;
}
using std::isfinite;
using std::isnan;
