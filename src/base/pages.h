// What the system is told about memory: that some of it can go before a stage that needs much, and
// how a file map will be read.
//
// Non-goals: allocation.
#pragma once

#include <cstddef>
#include <span>

namespace accrete {

// The pages that lie wholly inside these bytes of a read-only file map leave the process; a later
// read brings them back from the file.
void forget_pages(std::span<const std::byte> mapped);

// These bytes of a file map will be read here and there: a read brings its own page and no others.
void read_at_random(std::span<const std::byte> mapped);

// What was freed and the allocator keeps for later goes back to the system, where it can.
void return_free_memory();

}  // namespace accrete
