#include "base/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace accrete {

namespace {

// Of the pages that lie wholly inside these bytes. If the system declines, nothing changes.
void advise(std::span<const std::byte> mapped, int advice) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(mapped.data());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + mapped.size()) / page * page;
  if (first < last) (void)::madvise(reinterpret_cast<void*>(first), last - first, advice);
}

}  // namespace

void forget_pages(std::span<const std::byte> mapped) {
  advise(mapped, MADV_DONTNEED);
}

void read_at_random(std::span<const std::byte> mapped) {
  advise(mapped, MADV_RANDOM);
}

void return_free_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace accrete
