#include "ledger/taught.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "io/utf8.h"

namespace accrete {
namespace {

[[noreturn]] void refuse(std::string_view source, int64_t number, std::string_view what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: taught item {}: {}", source, number, what),
              "the update file is damaged, was changed, or is not one of accrete's; get it again");
}

std::vector<std::string> strings(const nlohmann::json& value, std::string_view source,
                                 int64_t number) {
  std::vector<std::string> out;
  if (!value.is_array()) refuse(source, number, "prompts and answers are lists");
  for (const auto& entry : value) {
    if (!entry.is_string()) refuse(source, number, "prompts and answers hold text");
    out.push_back(entry.get<std::string>());
  }
  return out;
}

// A question has answers, unless it is left to the model or a passage.
bool sides_fit(const TaughtItem& item) {
  if (item.passage()) return item.answers.empty() && !item.leave && !item.verbatim;
  return (item.prompts.empty() || item.leave) == item.answers.empty();
}

}  // namespace

std::string taught_items_to_text(const std::vector<TaughtItem>& items) {
  std::string out;
  for (const TaughtItem& item : items) {
    nlohmann::ordered_json line = {{"line", item.line}};
    if (!item.prompts.empty()) {
      line["prompts"] = item.prompts;
      if (!item.leave && !item.passage()) line["answers"] = item.answers;
    }
    if (!item.subject.empty()) line["subject"] = item.subject;
    if (item.raw) line["raw"] = true;
    if (!item.excerpt.empty()) line["excerpt"] = item.excerpt;
    if (item.verbatim) line["verbatim"] = true;
    if (item.leave) line["leave"] = true;
    if (!item.replaces.empty()) line["replaces"] = item.replaces;
    if (item.passage()) line["document"] = item.document;
    if (!item.document_digest.empty()) line["document_digest"] = item.document_digest;
    if (!item.section.empty()) line["section"] = item.section;
    out += line.dump() + "\n";
  }
  return out;
}

std::vector<TaughtItem> taught_items_from_text(std::string_view text, std::string_view source) {
  std::vector<TaughtItem> items;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const auto number = static_cast<int64_t>(items.size()) + 1;
    if (end == std::string_view::npos) refuse(source, number, "its line has no end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (!is_utf8(line)) refuse(source, number, "it is not UTF-8");
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) refuse(source, number, "it is not a JSON object");
    TaughtItem item;
    for (const auto& [key, value] : json.items()) {
      if (key == "line" && value.is_number_integer())
        item.line = value.get<int64_t>();
      else if (key == "prompts")
        item.prompts = strings(value, source, number);
      else if (key == "answers")
        item.answers = strings(value, source, number);
      else if (key == "subject" && value.is_string())
        item.subject = value.get<std::string>();
      else if (key == "raw" && value.is_boolean())
        item.raw = value.get<bool>();
      else if (key == "excerpt" && value.is_string())
        item.excerpt = value.get<std::string>();
      else if (key == "verbatim" && value.is_boolean())
        item.verbatim = value.get<bool>();
      else if (key == "leave" && value.is_boolean())
        item.leave = value.get<bool>();
      else if (key == "replaces")
        item.replaces = strings(value, source, number);
      else if (key == "document" && value.is_string())
        item.document = value.get<std::string>();
      else if (key == "document_digest" && value.is_string())
        item.document_digest = value.get<std::string>();
      else if (key == "section" && value.is_string())
        item.section = value.get<std::string>();
      else
        refuse(source, number,
               accrete::format("its key {} is not known or of another type", shown(key)));
    }
    if (!sides_fit(item)) refuse(source, number, "it has only one of prompts and answers");
    items.push_back(std::move(item));
  }
  return items;
}

std::string fault(const Taught& taught) {
  const size_t n = taught.owner.size();
  if (taught.slots.size() != taught.weights.size())
    return "taught slots and weights differ in size";
  if (n == 0 && !taught.slots.empty()) return "taught accesses belong to no item";
  if (n > 0 && (taught.per_token < 1 || taught.slots.size() % n != 0 ||
                taught.slots.size() / n != static_cast<size_t>(taught.per_token)))
    return "taught accesses are not as many for each token";
  const auto items = static_cast<int64_t>(taught.items.size());
  for (const int32_t owner : taught.owner)
    if (owner < 0 || owner >= items) return "taught accesses belong to an item that is not there";
  for (const int32_t slot : taught.slots)
    if (slot < -1) return "a taught slot is negative";
  for (const uint16_t weight : taught.weights)
    if ((weight & 0x7C00) == 0x7C00) return "a taught weight is not finite";
  for (const TaughtItem& item : taught.items) {
    if (!sides_fit(item)) return "a taught item has only one of prompts and answers";
    bool well = is_utf8(item.subject) && is_utf8(item.excerpt) && is_utf8(item.document) &&
                is_utf8(item.section);
    for (const auto& text : item.prompts) well = well && is_utf8(text);
    for (const auto& text : item.replaces) well = well && is_utf8(text);
    for (const auto& text : item.answers) well = well && is_utf8(text);
    if (!well) return "a taught item is not UTF-8";
  }
  return {};
}

std::string excerpt_of(std::string_view text, size_t bytes) {
  std::string out;
  bool space = false;
  for (const char c : text) {
    const bool blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (blank) {
      space = !out.empty();
      continue;
    }
    if (space) out += ' ';
    space = false;
    out += c;
    if (out.size() > bytes) break;
  }
  if (out.size() > bytes) {
    size_t end = bytes;
    while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0) == 0x80) --end;
    out.resize(end);
  }
  return out;
}

}  // namespace accrete
