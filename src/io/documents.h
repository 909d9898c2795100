// What people bring to be taught: teach sets (io/dataset.h), documents, and folders of both.
//
// Documents are .md, .txt, .html (.htm) and .pdf; each is one text, whose `source` is its path as
// given and whose `digest` is that of its bytes. HTML is read by libxml2 and PDF by poppler's
// pdftotext, which must be installed to read one. A folder is walked in order of names, without
// links that lead to folders; what is none of these kinds, hidden, empty or binary is left out with
// a remark, while a file that was named is refused for it.
//
// Non-goals: cutting texts (text/passages.h), scanned pages.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "io/dataset.h"

namespace accrete {

// A set of one file of items is read as read_dataset does. Throws as it does, kUnsupported (a PDF
// without pdftotext), kInvalidArgument (nothing to read in it, text that is no UTF-8).
Dataset read_teach_sets(std::span<const std::filesystem::path> paths);

// The text of an HTML page as Markdown: headings, paragraphs, lists, tables; nothing of scripts,
// styles, navigation and forms. `title` gets that of the page. Throws kFormat.
std::string markdown_of_html(std::string_view html, std::string_view source, std::string* title);

}  // namespace accrete
