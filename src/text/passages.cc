#include "text/passages.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "text/wording.h"

namespace accrete {
namespace {

bool blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n\f\v");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n\f\v") - begin + 1);
}

std::string squeezed(std::string_view text) {
  std::string out;
  for (const char c : trimmed(text)) {
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
    if (!space)
      out += c;
    else if (out.back() != ' ')
      out += ' ';
  }
  return out;
}

// Without signs: a line of stars has none.
size_t words_in(std::string_view text) {
  const auto words = words_of(text);
  return static_cast<size_t>(std::count_if(words.begin(), words.end(), [](const Word& word) {
    return is_function_word(word.form) || is_content_word(word.form);
  }));
}

// Text of a Markdown line without its marks: emphasis, code marks, links, images, escapes.
std::string plain_inline(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\\' && i + 1 < text.size() &&
        std::ispunct(static_cast<unsigned char>(text[i + 1])) != 0) {
      out += text[i + 1];
      i += 2;
      continue;
    }
    if (c == '!' && i + 1 < text.size() && text[i + 1] == '[') {
      ++i;
      continue;
    }
    if (c == '[') {  // [shown](address): what is shown
      const size_t close = text.find(']', i);
      if (close != std::string_view::npos && close + 1 < text.size() && text[close + 1] == '(') {
        const size_t end = text.find(')', close);
        if (end != std::string_view::npos) {
          out += plain_inline(text.substr(i + 1, close - i - 1));
          i = end + 1;
          continue;
        }
      }
    }
    if (text.substr(i).starts_with("<!--")) {
      const size_t end = text.find("-->", i);
      i = end == std::string_view::npos ? text.size() : end + 3;
      continue;
    }
    const size_t run = std::min(text.find_first_not_of(c, i), text.size()) - i;
    if (c == '`') {
      i += run;
      continue;
    }
    // A mark touches a word on one side and none on the other; "2 * 3" and "a_b" are text.
    if ((c == '*' || c == '_') && run <= 3) {
      const auto space = [&](size_t at) {
        return at >= text.size() || std::isalnum(static_cast<unsigned char>(text[at])) == 0;
      };
      const bool before = i == 0 || space(i - 1), after = space(i + run);
      const bool blanks =
          (i == 0 || text[i - 1] == ' ') && (i + run >= text.size() || text[i + run] == ' ');
      if (!blanks && (before || after || c == '*')) {
        i += run;
        continue;
      }
    }
    out += c;
    ++i;
  }
  return out;
}

enum class Kind { kHeading, kParagraph, kItem, kRow };
struct Block {
  Kind kind = Kind::kParagraph;
  size_t level = 0;  // of a heading, from 1
  std::string text;
};

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    out.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return out;
}

// Cells of "| a | b |"; empty: it is no row.
std::vector<std::string> cells_of(std::string_view line) {
  line = trimmed(line);
  if (!line.starts_with('|') || line.size() < 2) return {};
  line.remove_prefix(1);
  if (line.ends_with('|')) line.remove_suffix(1);
  std::vector<std::string> out(1);
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == '|') {
      out.back() += '|';
      ++i;
    } else if (line[i] == '|') {
      out.emplace_back();
    } else {
      out.back() += line[i];
    }
  }
  for (std::string& cell : out) cell = squeezed(plain_inline(cell));
  return out;
}

bool is_rule(std::string_view line) {  // |---|:--:|, ---, ===
  line = trimmed(line);
  return line.size() >= 3 && line.find_first_not_of("-=:| \t") == std::string_view::npos &&
         line.find_first_of("-=") != std::string_view::npos;
}

// The text behind "- ", "* ", "+ ", "1. ", "2) "; npos: it is no item.
size_t item_text(std::string_view line) {
  size_t i = line.find_first_not_of(" \t");
  if (i == std::string_view::npos) return i;
  if (line[i] == '-' || line[i] == '*' || line[i] == '+') {
    ++i;
  } else {
    const size_t first = i;
    while (i < line.size() && std::isdigit(static_cast<unsigned char>(line[i])) != 0) ++i;
    if (i == first || i - first > 3 || i >= line.size() || (line[i] != '.' && line[i] != ')'))
      return std::string_view::npos;
    ++i;
  }
  if (i >= line.size() || (line[i] != ' ' && line[i] != '\t')) return std::string_view::npos;
  return line.find_first_not_of(" \t", i);
}

std::string row_text(const std::vector<std::string>& names, const std::vector<std::string>& cells) {
  std::string out;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].empty()) continue;
    if (!out.empty()) out += "; ";
    if (i < names.size() && !names[i].empty()) out += names[i] + ": ";
    out += cells[i];
  }
  return out;
}

std::vector<Block> markdown_blocks(std::string_view document) {
  auto lines = lines_of(document);
  size_t i = 0;
  if (!lines.empty() && trimmed(lines[0]) == "---")  // settings before the text
    for (size_t end = 1; end < lines.size(); ++end)
      if (trimmed(lines[end]) == "---") {
        i = end + 1;
        break;
      }
  std::vector<Block> out;
  std::string paragraph;
  Kind kind = Kind::kParagraph;
  const auto close = [&] {
    if (std::string text = squeezed(plain_inline(paragraph)); !text.empty())
      out.push_back({kind, 0, std::move(text)});
    paragraph.clear();
    kind = Kind::kParagraph;
  };
  for (; i < lines.size(); ++i) {
    std::string_view line = lines[i];
    std::string_view text = trimmed(line);
    if (text.empty()) {
      close();
      continue;
    }
    if (text.starts_with("```") || text.starts_with("~~~")) {
      close();
      const std::string_view fence = text.substr(0, 3);
      for (++i; i < lines.size() && !trimmed(lines[i]).starts_with(fence); ++i)
        if (!blank(lines[i])) out.push_back({Kind::kRow, 0, std::string(trimmed(lines[i]))});
      continue;
    }
    if (text.starts_with('#')) {
      const size_t level = text.find_first_not_of('#');
      if (level != std::string_view::npos && level <= 6 && text[level] == ' ') {
        close();
        std::string_view title = trimmed(text.substr(level));
        while (title.ends_with('#')) title.remove_suffix(1);
        out.push_back({Kind::kHeading, level, squeezed(plain_inline(title))});
        continue;
      }
    }
    if (auto names = cells_of(line); !names.empty()) {
      close();
      const bool headed = i + 1 < lines.size() && is_rule(lines[i + 1]);
      if (headed)
        i += 2;
      else
        names.clear();
      for (; i < lines.size(); ++i) {
        const auto cells = cells_of(lines[i]);
        if (cells.empty()) break;
        if (std::string row = row_text(names, cells); !row.empty() && !is_rule(lines[i]))
          out.push_back({Kind::kRow, 0, std::move(row)});
      }
      --i;
      continue;
    }
    if (is_rule(text)) {  // under a line it makes a heading of it
      if (!paragraph.empty() && kind == Kind::kParagraph)
        out.push_back(
            {Kind::kHeading, text.front() == '=' ? 1U : 2U, squeezed(plain_inline(paragraph))});
      else
        close();
      paragraph.clear();
      continue;
    }
    while (text.starts_with('>')) text = trimmed(text.substr(1));
    if (const size_t at = item_text(text); at != std::string_view::npos) {
      close();
      kind = Kind::kItem;
      text = text.substr(at);
    }
    if (!paragraph.empty()) paragraph += ' ';
    paragraph += text;
  }
  close();
  return out;
}

bool ends_sentence(std::string_view text) {
  static constexpr std::array<std::string_view, 9> kEnds = {".",  "!",  "?",  ":", ";",
                                                            "。", "！", "？", "…"};
  return std::any_of(kEnds.begin(), kEnds.end(),
                     [text](std::string_view end) { return text.ends_with(end); });
}

// "Date: 14 January", a line of a form or of a letter's head.
bool is_entry(std::string_view line) {
  constexpr size_t kLongest = 24;
  line = trimmed(line);
  const size_t colon = line.find(": ");
  if (colon == std::string_view::npos || colon > kLongest || colon == 0) return false;
  return std::isupper(static_cast<unsigned char>(line.front())) != 0 &&
         line.substr(0, colon).find_first_of(".,;!?") == std::string_view::npos;
}

std::vector<Block> plain_blocks(std::string_view document) {
  std::vector<Block> out;
  std::vector<std::string_view> lines;
  const auto close = [&] {
    if (lines.empty()) return;
    std::string text;
    Kind kind = Kind::kParagraph;
    for (std::string_view line : lines) {
      // Within a sentence "30. After that" is a line's beginning and no item.
      const size_t at = item_text(line);
      if (at != std::string_view::npos &&
          (text.empty() || kind == Kind::kItem || ends_sentence(text) ||
           std::isdigit(static_cast<unsigned char>(trimmed(line).front())) == 0)) {
        if (!text.empty()) out.push_back({kind, 0, squeezed(text)});
        text.clear();
        kind = Kind::kItem;
        line = line.substr(at);
      }
      if (at == std::string_view::npos && !text.empty() && is_entry(line)) {
        out.push_back({kind, 0, squeezed(text)});
        text.clear();
        kind = Kind::kParagraph;
      }
      // A word that a line's end parted is one again.
      if (text.size() > 1 && text.back() == '-' &&
          std::isalpha(static_cast<unsigned char>(text[text.size() - 2])) != 0 &&
          std::islower(static_cast<unsigned char>(trimmed(line).front())) != 0)
        text.pop_back();
      else if (!text.empty())
        text += ' ';
      text += trimmed(line);
    }
    const bool heading = lines.size() == 1 && words_in(text) <= 9 && !ends_sentence(text) &&
                         kind == Kind::kParagraph;
    out.push_back({heading ? Kind::kHeading : kind, 1, squeezed(text)});
    lines.clear();
  };
  for (const std::string_view line : lines_of(document)) {
    if (blank(line) || line.starts_with('\f')) close();
    if (!blank(line)) lines.push_back(line);
  }
  close();
  // A heading stands over something.
  for (size_t i = 0; i < out.size(); ++i)
    if (out[i].kind == Kind::kHeading && (i + 1 == out.size() || out[i + 1].kind == Kind::kHeading))
      out[i].kind = Kind::kParagraph;
  return out;
}

// Pieces of a block: sentences of at most `words` words, longer ones cut between words.
std::vector<std::string> pieces_of(const Block& block, size_t words) {
  if (block.kind == Kind::kRow) return {"\n" + block.text};
  std::vector<std::string> out;
  for (std::string& sentence : sentences_of(block.text)) {
    const auto all = words_of(sentence);
    size_t from = 0;
    for (size_t w = 4 * words; w < all.size(); w += 4 * words) {
      out.push_back(sentence.substr(from, all[w].begin - from));
      from = all[w].begin;
    }
    out.push_back(from == 0 ? std::move(sentence) : sentence.substr(from));
  }
  if (!out.empty()) out.front().insert(0, block.kind == Kind::kItem ? "\n- " : "\n");
  return out;
}

}  // namespace

std::vector<std::string> sentences_of(std::string_view paragraph) {
  static const std::set<std::string, std::less<>> kShort = {
      "dr",  "mr",  "mrs",  "ms",  "prof", "st",   "no",  "nr",  "vs",     "etc",  "fig", "inc",
      "ltd", "co",  "jr",   "sr",  "e.g",  "i.e",  "cf",  "ca",  "approx", "dept", "est", "vol",
      "p",   "pp",  "al",   "gen", "col",  "capt", "rev", "hon", "jan",    "feb",  "mar", "apr",
      "aug", "sep", "sept", "oct", "nov",  "dec",  "u.s", "z.b", "bzw",    "usw"};
  static constexpr std::array<std::string_view, 3> kWide = {"。", "！", "？"};
  std::vector<std::string> out;
  size_t begin = 0;
  const auto close = [&](size_t end) {
    if (const auto text = trimmed(paragraph.substr(begin, end - begin)); !text.empty())
      out.emplace_back(text);
    begin = end;
  };
  for (size_t i = 0; i < paragraph.size(); ++i) {
    const std::string_view rest = paragraph.substr(i);
    if (const auto wide = std::find_if(kWide.begin(), kWide.end(),
                                       [&](std::string_view end) { return rest.starts_with(end); });
        wide != kWide.end()) {
      close(i + wide->size());
      i += wide->size() - 1;
      continue;
    }
    const char c = paragraph[i];
    if (c != '.' && c != '!' && c != '?') continue;
    size_t end = i + 1;  // closing quotes and brackets belong to it
    while (end < paragraph.size() &&
           std::string_view(".!?\"')]").find(paragraph[end]) != std::string_view::npos)
      ++end;
    while (paragraph.substr(end).starts_with("”") || paragraph.substr(end).starts_with("’"))
      end += 3;
    if (end >= paragraph.size() || paragraph[end] != ' ') continue;
    const size_t after = paragraph.find_first_not_of(' ', end);
    if (after == std::string_view::npos) break;
    if (c == '.') {
      const size_t space = paragraph.substr(0, i).find_last_of(" (\"");
      const size_t from = space == std::string_view::npos ? 0 : space + 1;
      std::string word(paragraph.substr(std::max(from, begin), i - std::max(from, begin)));
      const bool initial =
          word.size() == 1 && std::isupper(static_cast<unsigned char>(word[0])) != 0;
      std::transform(word.begin(), word.end(), word.begin(),
                     [](unsigned char x) { return static_cast<char>(std::tolower(x)); });
      if (initial || kShort.contains(word)) continue;
      if (std::islower(static_cast<unsigned char>(paragraph[after])) != 0) continue;
    }
    close(end);
    i = end;
  }
  close(paragraph.size());
  return out;
}

bool looks_like_markdown(std::string_view document) {
  for (const std::string_view line : lines_of(document)) {
    const size_t level = line.find_first_not_of('#');
    if (level != std::string_view::npos && level > 0 && level <= 6 && line[level] == ' ')
      return true;
    if (line.starts_with('|') && is_rule(line)) return true;
  }
  return false;
}

std::string piece_alone(const std::string& piece) {
  return piece.starts_with('\n') ? piece.substr(1) : piece;
}

std::string joined_pieces(const std::vector<std::string>& pieces) {
  std::string out;
  for (const std::string& piece : pieces) {
    if (out.empty())
      out = piece_alone(piece);
    else
      out += (piece.starts_with('\n') ? "" : " ") + piece;
  }
  return out;
}

std::vector<Passage> split_passages(std::string_view document, const PassageOptions& options) {
  const auto blocks = options.markdown ? markdown_blocks(document) : plain_blocks(document);
  std::vector<Passage> out;
  std::vector<std::pair<size_t, std::string>> headings;  // level and text
  Passage open;
  size_t words = 0;
  bool in_block = false;  // the passage ends within a paragraph
  const auto close = [&] {
    if (!open.pieces.empty()) out.push_back(open);
    open.pieces.clear();
    words = 0;
  };
  for (const Block& block : blocks) {
    if (block.kind == Kind::kHeading) {
      close();
      while (!headings.empty() && headings.back().first >= block.level) headings.pop_back();
      headings.emplace_back(block.level, block.text);
      open.section.clear();
      for (const auto& [level, text] : headings)
        open.section += (open.section.empty() ? "" : " > ") + text;
      continue;
    }
    in_block = false;
    for (std::string& piece : pieces_of(block, options.words)) {
      const size_t more = words_in(piece);
      if (more == 0) continue;
      if (words > 0 && words + more > options.words) {
        // Within a paragraph the last sentence is said again, unless it is long.
        std::string last = in_block ? open.pieces.back() : std::string();
        close();
        const size_t again = last.empty() ? 0 : words_in(last);
        if (again > 0 && again * 3 < options.words) {
          open.pieces.push_back(std::move(last));
          words = again;
        }
      }
      open.pieces.push_back(std::move(piece));
      words += more;
      in_block = true;
    }
  }
  close();
  return out;
}

}  // namespace accrete
