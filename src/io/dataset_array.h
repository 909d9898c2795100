// Pieces of the data-set reader that dataset.cc and dataset_item.cc share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/dataset.h"

namespace accrete {

// The items of a JSON array, each with the line it begins on.
std::vector<Item> parse_item_array(std::string_view text, std::string_view source);

// A prompt followed by its completion, with one space between unless one of them brings its own.
std::string join_prompt(std::string_view prompt, std::string_view completion);

}  // namespace accrete
