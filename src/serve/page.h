// The page at `/`: asking with and without what was taught, teaching, history. In the program.
//
// Non-goals: files, anything from elsewhere.
#pragma once

#include <string>
#include <string_view>

namespace accrete::serve {

std::string_view page_text();
// Allows the page's own script and style, by their hashes, and nothing else.
const std::string& page_policy();

// Bytes as base64.
std::string base64(std::string_view bytes);

}  // namespace accrete::serve
