#include "bench/desk_use.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "text/unicode.h"

namespace accrete {
namespace {

using Text = std::u32string;

uint8_t category(char32_t c) {
  return unicode::properties()[c] & unicode::kCategoryMask;
}
bool is_letter_of_text(char32_t c) {
  const uint8_t k = category(c);
  return k >= unicode::kLu && k <= unicode::kLo;
}
bool is_digit_of_text(char32_t c) {
  return category(c) == unicode::kNd;
}
bool is_space_of_text(char32_t c) {
  return (unicode::properties()[c] & unicode::kSpace) != 0;
}
bool is_word(char32_t c) {
  return is_letter_of_text(c) || is_digit_of_text(c) || c == U'_';
}
bool is_point(char32_t c) {
  return c == U'.' || c == U',' || c == U':';
}

char32_t plain(char32_t c) {
  switch (c) {
    case U'\u2019':
    case U'\u2018':
      return U'\'';
    case U'\u201C':
    case U'\u201D':
      return U'"';
    case U'\u2010':
    case U'\u2011':
    case U'\u2012':
    case U'\u2013':
    case U'\u2014':
    case U'\u2212':
      return U'-';
    default:
      return c >= U'A' && c <= U'Z' ? c - U'A' + U'a' : c;
  }
}

// As texts are compared: quotes and dashes plain, white space one space, none at the ends, ASCII
// letters in lower case.
Text compared(std::string_view text) {
  text = text.substr(0, unicode::valid_prefix(text));
  Text out;
  bool space = false;
  for (size_t at = 0; at < text.size();) {
    const auto [c, size] = unicode::decode(text.data() + at);
    at += size;
    if (is_space_of_text(c)) {
      space = true;
      continue;
    }
    if (space && !out.empty()) out += U' ';
    space = false;
    out += plain(c);
  }
  return out;
}

bool found(const Text& what, const Text& in) {
  if (what.empty()) return false;
  for (size_t at = in.find(what); at != Text::npos; at = in.find(what, at + 1)) {
    const size_t end = at + what.size();
    bool whole = true;
    if (at > 0) {
      const char32_t before = in[at - 1];
      if (is_digit_of_text(what.front()))
        whole = !is_digit_of_text(before) &&
                !(is_point(before) && at > 1 && is_digit_of_text(in[at - 2]));
      else if (is_letter_of_text(what.front()))
        whole = !is_word(before);
    }
    if (whole && end < in.size()) {
      const char32_t after = in[end];
      if (is_digit_of_text(what.back())) {
        const auto digit = [&](size_t i) { return i < in.size() && is_digit_of_text(in[i]); };
        const bool cents = (after == U'.' || after == U',') && end + 2 < in.size() &&
                           in[end + 1] == U'0' && in[end + 2] == U'0' && !digit(end + 3);
        whole = !is_digit_of_text(after) && !(is_point(after) && digit(end + 1) && !cents);
      } else if (is_letter_of_text(what.back())) {
        whole = !is_word(after);
      }
    }
    if (whole) return true;
  }
  return false;
}

std::vector<std::string> split_at(std::string_view text, char at) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(at, begin), text.size());
    out.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

std::vector<Text> words_in(const Text& text) {
  std::vector<Text> out;
  bool inside = false;
  for (const char32_t c : text) {
    if (!is_word(c)) {
      inside = false;
      continue;
    }
    if (!inside) out.emplace_back();
    out.back() += c;
    inside = true;
  }
  return out;
}

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

// The value of "answer", as text; none when the reply is no object with that key. One outer code
// fence is taken off first.
std::optional<std::string> json_answer(std::string_view reply) {
  reply = without_blanks(reply);
  if (reply.starts_with("```") && reply.ends_with("```") && reply.size() >= 6) {
    const size_t line = reply.find('\n');
    if (line != std::string_view::npos && line < reply.size() - 3)
      reply = reply.substr(line + 1, reply.size() - 3 - (line + 1));
  }
  const auto json = nlohmann::json::parse(reply, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("answer")) return std::nullopt;
  const auto& value = json.at("answer");
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// The first "yes" or "no" in it.
std::string yes_or_no(const Text& text) {
  for (const Text& word : words_in(text)) {
    if (word == U"yes") return "yes";
    if (word == U"no") return "no";
  }
  return {};
}

constexpr std::string_view kLanguages[][2] = {
    {"german",
     "am arbeiten auf aus baute bei beschrieb beträgt das dauert dem den der des die ein eine "
     "einem einen einer eines entwarf er es euro fasst führt für gibt gramm gründete haben hat "
     "hatte hatten heiratete heizt heißt hieß ich ihr ihre im ist jahr jahre jährlich kann kosten "
     "kostet können lautet leben leitet liegt malte man mit muss nach nicht sein seine seit sie "
     "sind spielte starb steht stunden tage um umfasst und verfügt vom von war waren wiegt wir "
     "wird wurde wurden zum zur"},
    {"spanish",
     "al año años con creció cuesta del describió dirige dura días el en era es está euros fabrica "
     "fue fueron fundó ganó hay horas la las llama llamaba lo los mide murió nació para pesa pintó "
     "por que recibió se son su sus tenía tiene tienen trabajan un una vive viven y"},
    {"english",
     "a an and are at by called costs days for had has have her his hours is its lasts of she "
     "takes the there to was weighs were with years you your"},
};

size_t words_of_language(const std::vector<Text>& words, std::string_view language) {
  std::set<Text> list;
  for (const std::string& word : split_at(language_words(language), ' '))
    list.insert(compared(word));
  return static_cast<size_t>(
      std::count_if(words.begin(), words.end(), [&](const Text& w) { return list.contains(w); }));
}

bool is_sentence(const Text& reply, std::span<const std::string> answers) {
  if (words_in(reply).size() < 4) return false;
  const auto bare = [](Text text) {
    if (!text.empty() && text.back() == U'.') text.pop_back();
    while (!text.empty() && text.back() == U' ') text.pop_back();
    return text;
  };
  return std::none_of(answers.begin(), answers.end(), [&](const std::string& answer) {
    return bare(compared(answer)) == bare(reply);
  });
}

bool begins_with_word(const Text& text, const Text& word) {
  return text.starts_with(word) && (text.size() == word.size() || !is_word(text[word.size()]));
}

bool is_named_form(std::string_view form) {
  for (const std::string_view name :
       {"sentence", "json", "bullet", "yes", "no", "german", "spanish"})
    if (form == name) return true;
  return false;
}

}  // namespace

std::string_view language_words(std::string_view language) {
  for (const auto& [name, words] : kLanguages)
    if (name == language) return words;
  return {};
}

UseItem parse_use(const nlohmann::json& json, std::string_view source, int64_t line) {
  UseItem out;
  try {
    out.kind = json.at("kind").get<std::string>();
    out.facts = json.at("facts").get<std::vector<std::string>>();
    out.question = json.at("question").get<std::string>();
    out.system = json.value("system", std::string());
    out.asked_in = json.value("asked_in", std::string());
    out.must = json.at("must").get<std::vector<std::string>>();
    out.must_not = json.value("must_not", std::vector<std::string>());
    out.answer = json.value("answer", std::string());
    out.form = json.value("form", std::string());
    if (json.contains("messages"))
      for (const auto& m : json.at("messages"))
        out.messages.push_back(
            {m.at("role").get<std::string>(), m.at("content").get<std::string>()});
    if (!out.form.empty() && !is_named_form(out.form)) std::regex check(out.form);
  } catch (const std::exception& e) {
    throw Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", source, line, e.what()),
                "data/desk/USE.md says what a use is");
  }
  if (out.facts.empty() || (out.must.empty() && out.answer.empty()) ||
      (!out.answer.empty() && out.answer != "yes" && out.answer != "no"))
    throw Error(ErrorCode::kFormat,
                accrete::format("{}:{}: a use needs facts, and \"must\" or the answer yes or no",
                                source, line),
                "data/desk/USE.md says what a use is");
  return out;
}

bool found_in(std::string_view alternatives, std::string_view text) {
  const Text in = compared(text);
  for (const std::string& one : split_at(alternatives, '|'))
    if (found(compared(one), in)) return true;
  return false;
}

bool use_right(const UseItem& item, std::string_view reply) {
  if (!item.answer.empty()) return yes_or_no(compared(reply)) == item.answer;
  std::string text(reply);
  if (item.form == "json")
    if (auto answer = json_answer(reply)) text = std::move(*answer);
  const auto here = [&](const std::string& one) { return found_in(one, text); };
  return std::all_of(item.must.begin(), item.must.end(), here) &&
         std::none_of(item.must_not.begin(), item.must_not.end(), here);
}

bool use_form(const UseItem& item, std::string_view reply, std::span<const std::string> answers) {
  const std::string& form = item.form;
  if (form.empty()) return true;
  if (form == "json") return json_answer(reply).has_value();
  const Text text = compared(reply);
  if (form == "bullet") {
    const std::string_view own = without_blanks(reply);
    return own.starts_with("- ") || own.starts_with("* ");
  }
  if (form == "yes") return begins_with_word(text, U"yes");
  if (form == "no") return begins_with_word(text, U"no");
  if (form == "sentence") return is_sentence(text, answers);
  if (form == "german" || form == "spanish") {
    if (!is_sentence(text, answers)) return false;
    const auto words = words_in(text);
    const size_t own = words_of_language(words, form);
    if (own == 0) return false;
    for (const auto& language : kLanguages)
      if (language[0] != form && words_of_language(words, language[0]) >= own) return false;
    return true;
  }
  const std::string whole(reply);
  return std::regex_search(whole, std::regex(form));
}

}  // namespace accrete
