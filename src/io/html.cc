#include <libxml/HTMLparser.h>
#include <libxml/HTMLtree.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "io/documents.h"

namespace accrete {
namespace {

const std::set<std::string_view> kSkipped = {
    "script", "style",  "noscript", "template", "nav",   "form",   "button", "select",
    "svg",    "iframe", "object",   "head",     "aside", "footer", "input",  "textarea"};
const std::set<std::string_view> kBlocks = {
    "p",  "div", "section", "article", "main",       "header",  "blockquote", "pre",
    "dl", "dd",  "dt",      "figure",  "figcaption", "address", "details",    "summary",
    "ul", "ol",  "hr",      "body",    "html",       "table",   "caption"};

std::string_view name_of(const xmlNode* node) {
  return node->name == nullptr ? std::string_view()
                               : std::string_view(reinterpret_cast<const char*>(node->name));
}

std::string content_of(const xmlNode* node) {
  return node->content == nullptr ? std::string() : reinterpret_cast<const char*>(node->content);
}

std::string squeezed(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
    if (!space)
      out += c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// So that Markdown reads it as the text that it is.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\`*_[]<>|#").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}
std::string as_line(const std::string& text) {
  std::string out = escaped(squeezed(text));
  // What would begin an item or a rule.
  const size_t digits = out.find_first_not_of("0123456789");
  const bool item = !out.empty() && (out[0] == '-' || out[0] == '+' || out[0] == '=' ||
                                     out[0] == '~' || out[0] == '>');
  if (item) out.insert(0, 1, '\\');
  if (!item && digits != 0 && digits != std::string::npos &&
      (out[digits] == '.' || out[digits] == ')'))
    out.insert(digits, 1, '\\');
  return out;
}

// All text below a node, for what stands in one line.
void collect(const xmlNode* node, std::string& out) {
  for (const xmlNode* child = node->children; child != nullptr; child = child->next) {
    if (child->type == XML_TEXT_NODE || child->type == XML_CDATA_SECTION_NODE) {
      out += content_of(child);
    } else if (child->type == XML_ELEMENT_NODE && !kSkipped.contains(name_of(child))) {
      const bool apart =
          name_of(child) == "br" || kBlocks.contains(name_of(child)) || name_of(child) == "li";
      if (apart) out += ' ';
      collect(child, out);
      if (apart) out += ' ';
    }
  }
}
std::string text_below(const xmlNode* node) {
  std::string out;
  collect(node, out);
  return squeezed(out);
}

class Writer {
 public:
  void walk(const xmlNode* node, int depth = 0) {
    constexpr int kDeepest = 200;
    if (depth > kDeepest) return;
    for (const xmlNode* child = node->children; child != nullptr; child = child->next) {
      if (child->type == XML_TEXT_NODE || child->type == XML_CDATA_SECTION_NODE) {
        open_ += content_of(child);
        continue;
      }
      if (child->type != XML_ELEMENT_NODE) continue;
      const std::string_view name = name_of(child);
      if (kSkipped.contains(name)) continue;
      if (name.size() == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6') {
        close();
        if (const std::string text = text_below(child); !text.empty())
          line(std::string(static_cast<size_t>(name[1] - '0'), '#') + " " + escaped(text));
      } else if (name == "li") {
        close();
        walk_item(child, depth);
      } else if (name == "table") {
        close();
        table(child);
      } else if (name == "br") {
        open_ += ' ';
      } else if (kBlocks.contains(name)) {
        close();
        walk(child, depth + 1);
        close();
      } else {
        walk(child, depth + 1);
      }
    }
  }

  std::string take() {
    close();
    return std::move(out_);
  }

 private:
  void line(const std::string& text) { out_ += text + "\n\n"; }
  void close() {
    if (const std::string text = as_line(open_); !text.empty()) line(prefix_ + text);
    open_.clear();
    prefix_.clear();
  }
  void walk_item(const xmlNode* item, int depth) {
    prefix_ = "- ";
    walk(item, depth + 1);
    close();
  }
  void rows_of(const xmlNode* node, std::vector<const xmlNode*>& out) {
    for (const xmlNode* child = node->children; child != nullptr; child = child->next) {
      if (child->type != XML_ELEMENT_NODE) continue;
      const std::string_view name = name_of(child);
      if (name == "tr")
        out.push_back(child);
      else if (name == "thead" || name == "tbody" || name == "tfoot")
        rows_of(child, out);
      else if (name == "caption")
        line(as_line(text_below(child)));
    }
  }
  void table(const xmlNode* node) {
    std::vector<const xmlNode*> rows;
    rows_of(node, rows);
    bool first = true;
    for (const xmlNode* row : rows) {
      std::string text(1, '|');
      size_t cells = 0;
      bool heads = true;
      for (const xmlNode* cell = row->children; cell != nullptr; cell = cell->next) {
        if (cell->type != XML_ELEMENT_NODE || (name_of(cell) != "td" && name_of(cell) != "th"))
          continue;
        heads = heads && name_of(cell) == "th";
        text += ' ';
        text += escaped(text_below(cell));
        text += " |";
        ++cells;
      }
      if (cells == 0) continue;
      out_ += text + "\n";
      if (first && heads && cells > 1) {
        out_ += "|";
        for (size_t i = 0; i < cells; ++i) out_ += "---|";
        out_ += "\n";
      }
      first = false;
    }
    out_ += "\n";
  }

  std::string out_, open_, prefix_;
};

const xmlNode* find(const xmlNode* node, std::string_view name, int depth = 0) {
  constexpr int kDeepest = 50;
  for (; node != nullptr && depth < kDeepest; node = node->next) {
    if (node->type == XML_ELEMENT_NODE && name_of(node) == name) return node;
    if (const xmlNode* found = find(node->children, name, depth + 1)) return found;
  }
  return nullptr;
}

}  // namespace

std::string markdown_of_html(std::string_view html, std::string_view source, std::string* title) {
  constexpr int kHow = HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                       HTML_PARSE_NONET | HTML_PARSE_COMPACT;
  const std::unique_ptr<xmlDoc, decltype(&xmlFreeDoc)> document(
      htmlReadMemory(html.data(), static_cast<int>(html.size()), nullptr, "UTF-8", kHow),
      &xmlFreeDoc);
  const xmlNode* root = document ? xmlDocGetRootElement(document.get()) : nullptr;
  if (root == nullptr)
    throw Error(ErrorCode::kFormat, accrete::format("{}: this is no HTML page", source),
                "save the page again, or give its text as .md or .txt");
  if (title != nullptr)
    if (const xmlNode* node = find(root, "title")) *title = text_below(node);
  // What is marked as the page's own text, where it is marked.
  const xmlNode* body = find(root, "main");
  if (body == nullptr) body = find(root, "article");
  if (body == nullptr) body = root;
  Writer writer;
  writer.walk(body);
  return writer.take();
}

}  // namespace accrete
