#include "text/contrast.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "base/format.h"
#include "text/wording.h"

namespace accrete {
namespace {

constexpr std::string_view kTable =
#include "text/contrast_classes.inc"
    ;

constexpr size_t kShortestFrame = 4;  // words
constexpr size_t kGap = 3;            // words within a~b

std::vector<std::string_view> parts_of(std::string_view text, char border) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(border, at), text.size());
    if (end > at || border != ' ') out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

struct Place {
  int64_t of_class = 0, member = 0;
  bool frame_alone = false;
};
struct Phrase {
  std::string second;
  size_t gap = 0;
  Place place;
};
struct Table {
  std::unordered_map<std::string, std::vector<Place>> words;
  std::unordered_map<std::string, std::vector<Phrase>> phrases;  // by the first word
  std::unordered_set<std::string> none;
};

Table read_table() {
  Table out;
  bool frame = false;
  int64_t of_class = 0;
  for (const std::string_view line : parts_of(kTable, '\n')) {
    ++of_class;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || line.front() == '#') continue;
    const std::string_view name = line.substr(0, colon);
    frame |= name == "frame";
    int64_t member = 0;
    for (const std::string_view words : parts_of(line.substr(colon + 1), '|')) {
      for (const std::string_view word : parts_of(words, ' ')) {
        const Place place = {of_class, member, frame};
        const size_t border = word.find_first_of("_~");
        if (name == "not")
          out.none.emplace(word);
        else if (border == std::string_view::npos)
          out.words[std::string(word)].push_back(place);
        else
          out.phrases[std::string(word.substr(0, border))].push_back(
              {std::string(word.substr(border + 1)), word[border] == '~' ? kGap : 0, place});
      }
      ++member;
    }
  }
  return out;
}

const Table& table() {
  static const Table made = read_table();
  return made;
}

// The word itself, and what it may be a plural or a verb form of.
std::vector<std::string> stems(const std::string& form) {
  std::vector<std::string> out = {form};
  constexpr std::pair<std::string_view, size_t> kEnds[] = {
      {"s", 3}, {"es", 3}, {"ing", 4}, {"ed", 4}};
  for (const auto& [end, least] : kEnds) {
    if (!form.ends_with(end) || form.size() < end.size() + least) continue;
    const std::string stem = form.substr(0, form.size() - end.size());
    out.push_back(stem);
    if (end == "s" || end == "es") continue;
    out.push_back(stem + "e");
    if (stem.back() == stem[stem.size() - 2]) out.push_back(stem.substr(0, stem.size() - 1));
  }
  if (form.ends_with("ies") && form.size() > 5)
    out.push_back(form.substr(0, form.size() - 3) + "y");
  return out;
}

std::span<const Place> places_of(const std::string& form) {
  if (!table().none.contains(form))
    for (const std::string& stem : stems(form))
      if (const auto it = table().words.find(stem); it != table().words.end()) return it->second;
  return {};
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string singular(const std::string& form) {
  const size_t n = form.size();
  if (n > 1 && form[n - 1] == 's' && form[n - 2] != 's' && (n > 3 || is_digit(form.front())))
    return form.substr(0, n - 1);
  return form;
}

// Of what singular() made: "upstair" was "upstairs".
std::span<const Place> places_of_singular(const std::string& form) {
  const auto places = places_of(form);
  return places.empty() ? places_of(form + "s") : places;
}

// What a number counts, as people write it.
std::string unit_of(const std::string& word) {
  static const std::unordered_map<std::string, std::string> kUnits = {{"min", "minute"},
                                                                      {"h", "hour"},
                                                                      {"hr", "hour"},
                                                                      {"sec", "second"},
                                                                      {"kg", "kilogram"},
                                                                      {"kilo", "kilogram"},
                                                                      {"g", "gram"},
                                                                      {"m", "metre"},
                                                                      {"meter", "metre"},
                                                                      {"cm", "centimetre"},
                                                                      {"km", "kilometre"},
                                                                      {"l", "litre"},
                                                                      {"liter", "litre"},
                                                                      {"€", "euro"},
                                                                      {"eur", "euro"},
                                                                      {"$", "dollar"},
                                                                      {"usd", "dollar"},
                                                                      {"£", "pound"},
                                                                      {"gbp", "pound"},
                                                                      {"gb", "gigabyte"},
                                                                      {"%", "percent"},
                                                                      {"children", "child"},
                                                                      {"kid", "child"},
                                                                      {"people", "person"},
                                                                      {"centimeter", "centimetre"},
                                                                      {"kilometer", "kilometre"}};
  const std::string one = singular(word);
  const auto it = kUnits.find(one);
  return it == kUnits.end() ? one : it->second;
}

// The number that a word is, and what is written together with it ("60min"); empty: it is none.
std::string number_in(const std::string& form, std::vector<std::string>& units) {
  static const std::unordered_map<std::string, std::string> kNumbers = [] {
    std::unordered_map<std::string, std::string> out;
    int value = 0;
    for (const std::string_view word : parts_of(
             "zero one two three four five six seven eight nine ten eleven twelve thirteen "
             "fourteen "
             "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy "
             "eighty ninety hundred",
             ' ')) {
      out[std::string(word)] = std::to_string(value);
      value += value < 20 ? 1 : 10;
    }
    return out;
  }();
  if (const auto it = kNumbers.find(form); it != kNumbers.end()) return it->second;
  const auto run = [&form](size_t at, auto&& holds) {
    while (at < form.size() && holds(form[at])) ++at;
    return at;
  };
  const auto letter = [](char c) { return c >= 'a' && c <= 'z'; };
  const size_t begin = run(0, letter);
  const size_t end =
      begin < form.size() && is_digit(form[begin])
          ? run(
                begin, [](char c) { return is_digit(c) || c == '.' || c == ',' || c == ':'; })
          : begin;
  if (end == begin || run(end, letter) != form.size()) return {};
  std::string value = form.substr(begin, end - begin);
  std::erase(value, ',');
  if (value.ends_with(":00") || value.ends_with(".00")) value.resize(value.size() - 3);
  if (begin > 0) units.push_back(form.substr(0, begin));
  if (end < form.size()) units.push_back(form.substr(end));
  return value;
}

std::vector<std::string> forms_of(std::string_view text) {
  std::vector<std::string> out;
  for (Word& word : words_of(text)) out.push_back(std::move(word.form));
  return out;
}

std::vector<std::string> singulars_of(std::string_view text) {
  std::vector<std::string> out = forms_of(text);
  for (std::string& form : out) form = singular(form);
  return out;
}

bool shares_class(std::span<const Place> a, std::span<const Place> b, bool and_member) {
  for (const Place& x : a)
    for (const Place& y : b)
      if (x.of_class == y.of_class && (!and_member || x.member == y.member)) return true;
  return false;
}

}  // namespace

std::string_view contrast_table() {
  return kTable;
}

std::vector<ClassMember> class_members(std::span<const Word> words) {
  std::vector<ClassMember> out;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& form = words[i].form;
    if (const auto it = table().phrases.find(form); it != table().phrases.end())
      for (const Phrase& phrase : it->second)
        for (size_t k = i + 1; k < std::min(i + 2 + phrase.gap, words.size()); ++k)
          if (words[k].form == phrase.second) {
            out.push_back({i, k + 1, std::to_string(phrase.place.of_class),
                           std::to_string(phrase.place.member)});
            break;
          }
    if (i > 0 && words[i - 1].form == "how") continue;  // "how long" asks for the measure
    for (const Place& place : places_of(form))
      if (!place.frame_alone)
        out.push_back({i, i + 1, std::to_string(place.of_class), std::to_string(place.member)});
    std::vector<std::string> units;
    const std::string value = number_in(form, units);
    if (value.empty()) continue;
    const auto counted = [&](size_t k) {
      if (!is_function_word(words[k].form) && !is_digit(words[k].form.front()))
        units.push_back(words[k].form);
    };
    if (i + 1 < words.size()) counted(i + 1);
    if (i > 0) counted(i - 1);
    if (units.empty() && i > 0) units.push_back(words[i - 1].form);
    for (const std::string& unit : units)
      out.push_back({i, i + 1, accrete::format("#{}", unit_of(unit)), value});
  }
  return out;
}

TaughtContrasts::Members TaughtContrasts::members_of(std::string_view text) {
  // By class, of each place in the text what it stands for: a word may stand for several members.
  std::map<std::string, std::vector<std::set<std::string>>> found;
  std::map<std::string, size_t> last_word;
  for (ClassMember& m : class_members(words_of(text))) {
    auto& places = found[m.of_class];
    const bool word = m.last == m.first + 1 && !m.of_class.starts_with('#');
    const auto it = last_word.find(m.of_class);
    if (word && it != last_word.end() && it->second == m.first) {
      places.back().insert(std::move(m.member));
      continue;
    }
    if (word) last_word[m.of_class] = m.first;
    places.push_back({std::move(m.member)});
  }
  Members out;
  for (const auto& [of_class, places] : found) {
    // "Easter holidays" are Easter's: what stands for several counts where nothing stands for one.
    const bool exact = std::any_of(places.begin(), places.end(),
                                   [](const auto& place) { return place.size() == 1; });
    std::set<std::string> members;
    for (const auto& place : places)
      if (!exact || place.size() == 1) members.insert(place.begin(), place.end());
    for (const std::string& member : members) out.emplace_back(of_class, member);
  }
  return out;  // sorted, as maps and sets are
}

void TaughtContrasts::add(std::span<const std::string> wordings) {
  Fact fact;
  fact.first = wordings_.size();
  // By class and member: how many wordings hold it.
  std::map<std::pair<std::string, std::string>, size_t> held;
  for (const std::string& text : wordings) {
    for (auto& member : members_of(text)) ++held[std::move(member)];
    const std::vector<std::string> words = singulars_of(text);
    wordings_.emplace_back(words_.size(), words.size());
    for (const std::string& word : words) {
      const auto [it, fresh] = numbers_.try_emplace(word, static_cast<uint32_t>(names_.size()));
      if (fresh) names_.push_back(word);
      words_.push_back(it->second);
    }
  }
  fact.last = wordings_.size();
  std::set<std::string> fixed;
  for (const auto& [member, times] : held)
    if (times == wordings.size()) fixed.insert(member.first);
  for (const auto& [member, times] : held)
    if (fixed.contains(member.first)) fact.fixed.push_back(member);
  facts_.push_back(std::move(fact));
}

std::vector<bool> TaughtContrasts::with(std::string_view question) const {
  const Members members = members_of(question);
  const std::vector<std::string> words = singulars_of(question);
  std::vector<uint32_t> ids;
  for (const std::string& word : words) {
    const auto it = numbers_.find(word);
    ids.push_back(it == numbers_.end() ? UINT32_MAX : it->second);
  }
  std::vector<bool> out;
  out.reserve(facts_.size());
  for (const Fact& fact : facts_)
    out.push_back(by_class(members, fact.fixed) || by_frame(words, ids, fact));
  return out;
}

bool TaughtContrasts::by_class(const Members& asked, const Members& fixed) {
  if (asked.empty() || fixed.empty()) return false;
  for (size_t i = 0; i < asked.size();) {
    const std::string& of_class = asked[i].first;
    bool shared = false;
    for (; i < asked.size() && asked[i].first == of_class; ++i)
      shared |= std::binary_search(fixed.begin(), fixed.end(), asked[i]);
    const auto it =
        std::lower_bound(fixed.begin(), fixed.end(), std::pair(of_class, std::string()));
    if (!shared && it != fixed.end() && it->first == of_class) return true;
  }
  return false;
}

bool TaughtContrasts::by_frame(const std::vector<std::string>& asked, Ids asked_ids,
                               const Fact& fact) const {
  if (asked.size() < kShortestFrame) return false;
  const auto holds = [this](size_t i, uint32_t word) {
    const Ids words = wording(i);
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  for (size_t w = fact.first; w < fact.last; ++w) {
    const Ids words = wording(w);
    if (words.size() != asked.size()) continue;
    size_t at = 0, differ = 0;
    for (size_t i = 0; i < asked.size() && differ < 2; ++i)
      if (asked_ids[i] != words[i]) {
        at = i;
        ++differ;
      }
    if (differ != 1) continue;
    const std::string &a = asked[at], &b = names_[words[at]];
    if (is_digit(a.front()) != is_digit(b.front()) || !is_content_word(a) || !is_content_word(b))
      continue;
    if (unit_of(a) == unit_of(b)) continue;  // "min", "minute"
    const auto of_a = places_of_singular(a), of_b = places_of_singular(b);
    if (shares_class(of_a, of_b, true)) continue;
    bool has_a = false, all_have_b = true;
    for (size_t i = fact.first; i < fact.last; ++i) {
      has_a |= holds(i, asked_ids[at]);
      all_have_b &= holds(i, words[at]);
    }
    if (!has_a && (all_have_b || shares_class(of_a, of_b, false))) return true;
  }
  return false;
}

}  // namespace accrete
