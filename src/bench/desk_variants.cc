#include "bench/desk_variants.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "text/wording.h"

namespace accrete {
namespace {

bool plain_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

std::string in_capitals(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

std::string with_typo(const std::string& text, const std::string& subject, Rng rng) {
  const auto names =
      subject.empty() ? std::vector<std::pair<size_t, size_t>>() : find_name(text, subject);
  std::vector<size_t> places;  // of the first of two letters; a word's first letter stays
  for (const Word& word : words_of(text)) {
    const bool named = std::any_of(names.begin(), names.end(), [&](const auto& name) {
      return word.begin < name.second && word.end > name.first;
    });
    if (named || word.end - word.begin < 4) continue;
    for (size_t i = word.begin + 1; i + 1 < word.end; ++i)
      if (plain_letter(text[i - 1]) && plain_letter(text[i]) && plain_letter(text[i + 1]) &&
          text[i] != text[i + 1])
        places.push_back(i);
  }
  std::string out = text;
  if (places.empty()) return out;
  const size_t at = places[rng.below(places.size())];
  std::swap(out[at], out[at + 1]);
  return out;
}

const std::string& text_of(const AskRequest& request) {
  return request.raw ? request.text : request.messages.back().content;
}

AskRequest with_text(const AskRequest& request, std::string text) {
  AskRequest out = request;
  (out.raw ? out.text : out.messages.back().content) = std::move(text);
  return out;
}

AskRequest under_system(const AskRequest& request, const std::string& system) {
  AskRequest out = request;
  std::erase_if(out.messages, [](const Message& m) { return m.role == "system"; });
  out.messages.insert(out.messages.begin(), {"system", system});
  return out;
}

AskRequest in_third_turn(const AskRequest& request, std::span<const Message> first,
                         std::span<const Message> second) {
  AskRequest out = request;
  out.messages.clear();
  for (const auto& exchange : {first, second})
    for (const Message& m : exchange.first(std::min<size_t>(exchange.size(), 2)))
      out.messages.push_back(m);
  out.messages.insert(out.messages.end(), request.messages.begin(), request.messages.end());
  return out;
}

}  // namespace accrete
