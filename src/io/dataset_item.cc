#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/slips.h"
#include "io/dataset.h"
#include "io/dataset_formats.h"
#include "io/strict_json.h"
#include "io/utf8.h"

namespace accrete {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 16> kKeys = {
    "prompt", "prompts",  "completion", "completions", "question", "questions",
    "answer", "answers",  "messages",   "text",        "subject",  "asked",
    "id",     "verbatim", "leave",      "corrects"};
constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
constexpr std::string_view kExpected =
    "expected are \"prompt(s)\" or \"question(s)\" with \"completion\" or \"answer(s)\"; or "
    "\"messages\"; or \"text\"";

// Whether `name` is `known` with that many slips, rather than a word of its own. Two slips only in
// a long key with the same beginning: "object" is no "subject", "answered" no "answers".
bool is_slip(std::string_view name, std::string_view known, size_t count) {
  if (count == 0) return true;
  if (count == 1) return known.size() > 4;
  if (count > 2 || known.size() < 6 || name.front() != known.front()) return false;
  const std::string_view singular =
      known.ends_with('s') ? known.substr(0, known.size() - 1) : known;
  return !name.starts_with(singular);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

class ItemReader {
 public:
  ItemReader(std::string_view json, std::string_view source, int64_t line)
      : source_(source), line_(line), json_(parse_json(json, source, kLimits, line)) {
    if (json_.is_array())
      throw Error(
          ErrorCode::kFormat,
          accrete::format("{}:{}: a JSON array where an item is expected", source_, line_),
          "a list of items goes into a file named .json; of a .jsonl each line is one item");
    if (!json_.is_object())
      fail(
          accrete::format("a JSON {} where an item is expected: {}", json_.type_name(), kExpected));
  }

  Item read() {
    Item item;
    item.line = line_;
    item.subject = optional_string("subject");
    item.id = optional_string("id");
    if (json_.contains("asked")) item.asked = strings("asked");
    item.verbatim = optional_flag("verbatim");
    item.leave = optional_flag("leave");
    item.corrects = optional_string("corrects");

    const char* prompt = family("prompt", "question");
    const char* answer = family("completion", "answer");
    const bool messages = json_.contains("messages");
    if (messages && (prompt != nullptr || answer != nullptr || json_.contains("text")))
      fail_keys("\"messages\" stand alone");
    if (messages) {
      item.kind = Item::Kind::kMessages;
      item.messages = conversation();
    } else if (prompt != nullptr || answer != nullptr) {
      item.kind = Item::Kind::kFact;
      read_fact(prompt, answer, item);
    } else if (json_.contains("text")) {
      item.kind = Item::Kind::kText;
      item.text = non_blank(json_["text"], "\"text\"");
      // Annotations of other tools may hold anything: only strings say something.
      const auto annotation = [&](const char* key) {
        const auto found = json_.find(key);
        return found != json_.end() && found->is_string() && !is_blank(found->get<std::string>())
                   ? found->get<std::string>()
                   : std::string();
      };
      item.title = annotation("title");
      item.source = annotation("url");
    } else {
      refuse_slips();
      fail_keys("neither a fact nor messages nor text");
    }
    refuse_slips();
    if ((item.verbatim || item.leave) && item.kind != Item::Kind::kFact)
      fail("\"verbatim\" and \"leave\" belong to a question");
    if (!item.corrects.empty() && item.kind == Item::Kind::kText)
      fail("\"corrects\" belongs to a question; a document replaces itself");
    return item;
  }

 private:
  static constexpr JsonLimits kLimits = {.depth = 64, .values = 10'000'000};

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", source_, line_, what),
                "correct this line and try again");
  }
  [[noreturn]] void fail_keys(std::string_view what) const {
    constexpr size_t kMostKeys = 16;
    std::string found;
    size_t count = 0;
    for (const auto& [key, value] : json_.items()) {
      if (++count > kMostKeys) continue;
      found += (found.empty() ? "" : ", ") + shown(key, 40);
    }
    if (count > kMostKeys) found += ", ...";
    fail(accrete::format("{}: found {}; {}", what, found.empty() ? "no keys" : found, kExpected));
  }

  // A key that is nearly one of ours would otherwise be left alone as an annotation, and a subject
  // or a phrasing silently lost.
  void refuse_slips() const {
    for (const auto& [key, value] : json_.items()) {
      if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) continue;
      const std::string name = lower(key);
      std::string_view nearest;
      size_t fewest = SIZE_MAX;
      for (const std::string_view known : kKeys)
        if (const size_t count = slips(name, known);
            count < fewest && is_slip(name, known, count)) {
          nearest = known;
          fewest = count;
        }
      if (!nearest.empty())
        fail(accrete::format("unknown key {}; did you mean \"{}\"?", shown(key), nearest));
    }
  }

  std::string non_blank(const Json& value, const std::string& what) const {
    if (!value.is_string())
      fail(accrete::format("{} must be a string, not {}", what, value.type_name()));
    const auto& text = value.get_ref<const std::string&>();
    if (is_blank(text)) fail(accrete::format("{} is empty", what));
    if (text.find('\0') != std::string::npos)
      fail(accrete::format("{} holds the character U+0000, which no text has", what));
    return text;
  }

  std::string optional_string(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() ? "" : non_blank(*found, accrete::format("\"{}\"", key));
  }

  bool optional_flag(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) return false;
    if (!found->is_boolean()) fail(accrete::format("\"{}\" must be true or false", key));
    return found->get<bool>();
  }

  std::vector<std::string> strings(const std::string& key) const {
    const Json& list = json_.at(key);
    if (!list.is_array())
      fail(accrete::format("\"{}\" must be a list of strings, not {}", key, list.type_name()));
    if (list.empty()) fail(accrete::format("\"{}\" is empty", key));
    std::vector<std::string> out;
    for (size_t i = 0; i < list.size(); ++i)
      out.push_back(non_blank(list[i], accrete::format("entry {} of \"{}\"", i + 1, key)));
    return out;
  }

  // Which of two synonyms is there, in the singular or the plural; nullptr: neither.
  const char* family(const char* one, const char* other) const {
    const auto has = [&](const std::string& name) {
      return json_.contains(name) || json_.contains(name + "s");
    };
    if (has(one) && has(other))
      fail_keys(accrete::format("\"{}\" and \"{}\" mean the same; give one of them", one, other));
    return has(one) ? one : has(other) ? other : nullptr;
  }

  // The singular, then the plural's entries that differ from it.
  std::vector<std::string> all_of(const std::string& name) const {
    std::vector<std::string> out;
    if (json_.contains(name))
      out.push_back(non_blank(json_.at(name), accrete::format("\"{}\"", name)));
    if (!json_.contains(name + "s")) return out;
    std::vector<std::string> more = strings(name + "s");
    for (std::string& text : more)
      if (out.empty() || !json_.contains(name) || text != out.front())
        out.push_back(std::move(text));
    return out;
  }

  void read_fact(const char* prompt, const char* answer, Item& item) const {
    if (item.leave) {
      if (answer != nullptr || item.verbatim)
        fail("a question that is left to the model (\"leave\") has no answer");
    } else if (answer == nullptr) {
      refuse_slips();
      fail_keys("the answer is missing");
    } else {
      item.answers = all_of(answer);
    }
    if (prompt != nullptr) {
      item.prompts = all_of(prompt);
    } else if (item.asked.empty()) {
      refuse_slips();
      fail_keys("the question is missing");
    }
  }

  std::vector<Message> conversation() const {
    const Json& list = json_.at("messages");
    if (!list.is_array() || list.empty()) fail("\"messages\" must be a list that is not empty");
    std::vector<Message> messages;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string where = accrete::format("message {}", i + 1);
      const Json& one = list[i];
      if (!one.is_object() || !one.contains("role") || !one.contains("content"))
        fail(accrete::format("{} must be an object with \"role\" and \"content\"", where));
      Message message{non_blank(one["role"], where + ": \"role\""),
                      non_blank(one["content"], where + ": \"content\"")};
      if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end())
        fail(accrete::format("{}: the role {} is none of system, user, assistant, tool", where,
                             shown(message.role)));
      messages.push_back(std::move(message));
    }
    if (messages.back().role != "assistant")
      fail(accrete::format("the last message must be the assistant's, not of {}",
                           shown(messages.back().role)));
    return messages;
  }

  std::string_view source_;
  int64_t line_;
  Json json_;
};

}  // namespace

Item parse_item(std::string_view json, std::string_view source, int64_t line) {
  return ItemReader(json, source, line).read();
}

}  // namespace accrete
