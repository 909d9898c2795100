#include "base/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace accrete {

void forget_pages(std::span<const std::byte> mapped) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(mapped.data());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + mapped.size()) / page * page;
  // Advice: if the system declines, the pages stay.
  if (first < last) (void)::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

void return_free_memory() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
}

}  // namespace accrete
