// The forms a data set comes in, read from memory: what read_dataset does once it has the bytes.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/dataset.h"

namespace accrete {

// One item a line; blank lines are passed over.
std::vector<Item> parse_item_lines(std::string_view text, std::string_view source);

// The items of a JSON array, each with the line it begins on.
std::vector<Item> parse_item_array(std::string_view text, std::string_view source);

// Documents separated by lines "<|endoftext|>"; those without text are left out.
std::vector<Item> parse_documents(std::string_view text, std::string_view source);

// What zstd packed, frame after frame. Throws kFormat (damaged, torn, more than `limit` bytes).
std::string unpack_zstd(std::span<const std::byte> packed, size_t limit, std::string_view source);

// A prompt followed by its completion, with one space between unless one of them brings its own.
std::string join_prompt(std::string_view prompt, std::string_view completion);

// Nothing, or nothing but white space.
bool is_blank(std::string_view text);

}  // namespace accrete
