// Passages: a document cut into pieces that can be put in front of a question.
//
// A document is read as blocks: headings, paragraphs, items of lists, rows of tables, lines of
// code. Blocks under the same headings are gathered into passages of at most some words; a long
// paragraph is parted at the ends of its sentences, and the last sentence stands in the next
// passage again, so that what a sentence leans on is there. A row of a table is written with the
// names of its columns ("Model: Hub 3; Price: 249 euros"), so that it says alone what it says in
// the table.
//
// Markdown as people write it (headings, lists, tables, fences, emphasis, links; CommonMark's
// corner cases are read as text). Plain text has paragraphs, and short lines alone that are
// headings.
//
// Non-goals: reading files (io/documents.h), keys (learn/passages.h).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace accrete {

struct Passage {
  std::string section;  // its headings, outermost first: "Manual > Care"; may be empty
  // Sentences, items, rows. One that begins a line begins with '\n'.
  std::vector<std::string> pieces;
};

struct PassageOptions {
  bool markdown = true;
  size_t words = 110;  // of a passage, at most; a single longer sentence stays whole up to 4 times
};

std::vector<Passage> split_passages(std::string_view document, const PassageOptions& options = {});

// Whether a text that does not say so is Markdown: it has a heading or a table of it.
bool looks_like_markdown(std::string_view document);

// The sentences of a paragraph. "Dr. Ada", "e.g. this", "3.5 kg" and "J. S. Bach" end none.
std::vector<std::string> sentences_of(std::string_view paragraph);

// A piece by itself, without the mark that it begins a line.
std::string piece_alone(const std::string& piece);

// The text of a passage as it is shown: its pieces with what parts them.
std::string joined_pieces(const std::vector<std::string>& pieces);

}  // namespace accrete
