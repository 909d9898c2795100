#include "io/dataset_formats.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "io/utf8.h"

namespace accrete {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";

[[noreturn]] void fail_line(std::string_view source, int64_t line, std::string_view what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", source, line, what),
              "correct this line and try again");
}

// Calls line(text, number) for each, without its end ("\n" or "\r\n").
template <typename Line>
void for_each_line(std::string_view text, Line line) {
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view one = text.substr(0, end);
    if (one.ends_with('\r')) one.remove_suffix(1);
    line(one, ++number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Splits an array into the texts of its elements. It knows of JSON only what that takes: strings
// and brackets; whatever is wrong inside an element, parse_item finds and names with its line.
class ArraySplitter {
 public:
  ArraySplitter(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  std::vector<Item> items() {
    skip_blanks();
    if (peek() != '[') fail("a .json data set must be an array of items");
    ++at_;
    std::vector<Item> items;
    skip_blanks();
    if (peek() == ']') {
      ++at_;
    } else {
      for (;;) {
        skip_blanks();
        const int64_t line = line_;
        items.push_back(parse_item(element(), source_, line));
        const char after = peek();
        ++at_;
        if (after == ']') break;
      }
    }
    skip_blanks();
    if (at_ < text_.size()) fail("something follows the array");
    return items;
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", source_, line_, what),
                "write [item, item, ...], or one item a line in a .jsonl file");
  }
  char peek() const {
    if (at_ >= text_.size()) fail("the file ends inside the array");
    return text_[at_];
  }
  void skip_blanks() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '\n')
        ++line_;
      else if (c != ' ' && c != '\t' && c != '\r')
        return;
    }
  }
  void skip_string() {
    for (++at_; peek() != '"'; ++at_) {
      if (peek() == '\\') ++at_;
      if (peek() == '\n') fail("a string does not end on its line");
    }
  }
  // Up to the comma or bracket that ends the element, which stays unread.
  std::string_view element() {
    const size_t begin = at_;
    int64_t depth = 0;
    for (;; ++at_) {
      const char c = peek();
      if (depth == 0 && (c == ',' || c == ']')) break;
      if (c == '"')
        skip_string();
      else if (c == '{' || c == '[')
        ++depth;
      else if (c == '}' || c == ']')
        --depth;
      else if (c == '\n')
        ++line_;
      if (depth < 0) fail("a bracket closes what was not open");
    }
    if (begin == at_) fail("an item is missing");
    return text_.substr(begin, at_ - begin);
  }

  std::string_view text_;
  std::string_view source_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

std::vector<Item> parse_item_lines(std::string_view text, std::string_view source) {
  std::vector<Item> items;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (!is_blank(line)) items.push_back(parse_item(line, source, number));
  });
  return items;
}

std::vector<Item> parse_documents(std::string_view text, std::string_view source) {
  std::vector<Item> items;
  Item current;
  const auto finish = [&] {
    if (current.text.ends_with('\n')) current.text.pop_back();
    if (!is_blank(current.text)) {
      current.kind = Item::Kind::kText;
      items.push_back(std::move(current));
    }
    current = {};
  };
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (!is_utf8(line)) fail_line(source, number, "not UTF-8");
    if (line == kSeparator) return finish();
    if (current.line == 0) current.line = number;
    current.text.append(line).push_back('\n');
  });
  finish();
  return items;
}

std::vector<Item> parse_item_array(std::string_view text, std::string_view source) {
  return ArraySplitter(text, source).items();
}

std::string join_prompt(std::string_view prompt, std::string_view completion) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  std::string out(prompt);
  if (!prompt.empty() && !completion.empty() && !is_space(prompt.back()) &&
      !is_space(completion.front()))
    out += ' ';
  return out.append(completion);
}

}  // namespace accrete
