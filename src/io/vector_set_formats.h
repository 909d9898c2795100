// The kinds of text that a set of rows may be written in. For vector_set.cc.
//
// Non-goals: checking what the rows mean (vector_set.cc).
#pragma once

#include <string>
#include <string_view>

#include "io/vector_set.h"

namespace accrete {

// Throws kFormat.
[[noreturn]] void refuse_set(std::string_view source, const std::string& what);

// Lines of JSON; lines without targets are allowed if all are.
VectorSet parse_vector_lines(std::string_view text, std::string_view source);
// CSV with a header.
VectorSet parse_vector_table(std::string_view text, std::string_view source);

}  // namespace accrete
