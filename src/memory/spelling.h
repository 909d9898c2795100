// Slips of typing in a question, mended before it is read: a reader knows few misspelt words.
//
// Non-goals: languages, grammar, names (a subject is matched before, and never made here).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>

namespace accrete {

// The place of a word among the reader's whole words, about by how common it is; -1: it is none.
using Vocabulary = std::function<int32_t(std::string_view)>;

// `text` with each word of four or more letters a-z that nobody knows (neither the vocabulary, nor
// `taught`, nor `subject`) replaced by a word one slip away (Damerau): one that was taught, by
// alphabet, or else the most common. Words with a capital are left alone unless the whole text is
// in capitals. All words are lower case.
std::string mended(std::string_view text, const std::unordered_set<std::string>& taught,
                   const std::unordered_set<std::string>& subject, const Vocabulary& vocabulary);

// The lower-case words a-z of a text, of three letters and more.
void add_words(std::string_view text, std::unordered_set<std::string>& to);

}  // namespace accrete
