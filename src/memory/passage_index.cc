#include "memory/passage_index.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "memory/key_cosine.h"
#include "text/passages.h"
#include "text/wording.h"

namespace accrete {
namespace {

// The more passages there are, the nearer lies the nearest of those that do not answer. So that of
// questions whose document alone was left out about a tenth is told a neighbour among hundreds.
constexpr PassageRule kApart = {.words = 1.394,
                                .covered = 4.686,
                                .nearest = 9.502,
                                .whole = 3.066,
                                .read = 0,
                                .bias = -11.026,
                                .few = 20,
                                .slope = 0.31,
                                .most = 1.3,
                                .margin = 0.382,
                                .beside = 1.0};
constexpr PassageRule kRead = {.words = 1.624,
                               .covered = 1.191,
                               .nearest = 4.162,
                               .whole = 1.942,
                               .read = 0.365,
                               .bias = -4.906,
                               .few = 20,
                               .slope = 0.4,
                               .most = 1.5,
                               .margin = 0.317,
                               .beside = 1.0};
// Read together with the question are so many, of those whose words and cosines alone say at least
// that.
constexpr size_t kMostRead = 3;
constexpr double kLeastRead = -3;

// BM25's saturation and length, as usual.
constexpr double kSaturation = 1.2, kLength = 0.75;
// Passages that are looked at closely, by words and by the reader each.
constexpr size_t kLookedAt = 32;

// The indices of the greatest `most` scores above `floor`, ties by index.
std::vector<size_t> greatest(const std::vector<float>& scores, size_t most, float floor) {
  std::vector<size_t> out;
  for (size_t i = 0; i < scores.size(); ++i)
    if (scores[i] > floor) out.push_back(i);
  const size_t n = std::min(most, out.size());
  std::partial_sort(
      out.begin(), out.begin() + static_cast<int64_t>(n), out.end(),
      [&](size_t a, size_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  out.resize(n);
  return out;
}

double log_odds_by(const PassageRule& rule, const PassageEvidence& e) {
  return rule.words * e.words + rule.covered * e.covered + rule.nearest * e.nearest +
         rule.whole * e.whole + rule.read * e.read.value_or(0) + rule.bias;
}

void sort_by_log_odds(std::vector<PassageEvidence>& evidence) {
  std::stable_sort(
      evidence.begin(), evidence.end(),
      [](const PassageEvidence& a, const PassageEvidence& b) { return a.log_odds > b.log_odds; });
}

}  // namespace

const PassageRule& passage_rule(bool read) {
  return read ? kRead : kApart;
}

size_t passages_to_read(std::span<const PassageEvidence> evidence) {
  if (evidence.empty() || evidence.front().log_odds <= kLeastRead) return 0;
  size_t n = std::min<size_t>(2, evidence.size());  // what the best leads the second by is weighed
  while (n < std::min(kMostRead, evidence.size()) && evidence[n].log_odds > kLeastRead) ++n;
  return n;
}

int64_t answering_piece(std::string_view question, std::span<const std::string> pieces,
                        std::span<const double> read) {
  std::vector<std::set<std::string>> words;
  for (const std::string& piece : pieces) {
    const auto all = index_words(piece);
    words.emplace_back(all.begin(), all.end());
  }
  std::vector<double> score(read.begin(), read.end());
  score.resize(pieces.size(), 0);
  const auto asked = index_words(question);
  for (const std::string& word : std::set<std::string>(asked.begin(), asked.end())) {
    const auto df = std::count_if(words.begin(), words.end(),
                                  [&](const auto& piece) { return piece.contains(word); });
    if (df == 0) continue;
    const double idf = std::log(static_cast<double>(pieces.size()) / static_cast<double>(df));
    for (size_t i = 0; i < words.size(); ++i)
      if (words[i].contains(word)) score[i] += idf;
  }
  return std::max_element(score.begin(), score.end()) - score.begin() - (score.empty() ? 1 : 0);
}

void rank_passages(std::vector<PassageEvidence>& evidence, int64_t passages) {
  const bool read = std::any_of(evidence.begin(), evidence.end(),
                                [](const PassageEvidence& e) { return e.read.has_value(); });
  if (read) std::erase_if(evidence, [](const PassageEvidence& e) { return !e.read; });
  const PassageRule& rule = passage_rule(read);
  const double asked_for =
      std::clamp(rule.slope * std::log(static_cast<double>(passages) / rule.few), 0.0, rule.most);
  for (PassageEvidence& e : evidence) e.log_odds = log_odds_by(rule, e) - asked_for;
  sort_by_log_odds(evidence);
  if (evidence.size() > 1)
    evidence[0].log_odds += rule.margin * (evidence[0].log_odds - evidence[1].log_odds);
}

std::vector<std::string> index_words(std::string_view text) {
  std::vector<std::string> out;
  for (Word& word : words_of(text)) {
    if (!is_content_word(word.form)) continue;
    std::string& form = word.form;
    if (!word.number && form.size() > 3 && form.back() == 's' && form[form.size() - 2] != 's')
      form.pop_back();
    out.push_back(std::move(form));
  }
  return out;
}

PassageIndex::PassageIndex(std::vector<Entry> passages, int64_t key_width)
    : passages_(std::move(passages)), key_width_(key_width) {
  std::vector<std::map<std::string, int>> counts;
  double total = 0;
  for (const Entry& entry : passages_) {
    auto& own = counts.emplace_back();
    const TaughtItem& item = entry.text();
    for (const auto& word : index_words(item.section + " " + joined_pieces(item.prompts)))
      ++own[word];
    for (const auto& [word, n] : own) total += n;
  }
  const double mean = passages_.empty() ? 1 : std::max(total / static_cast<double>(size()), 1.0);
  for (size_t i = 0; i < counts.size(); ++i) {
    double length = 0;
    for (const auto& [word, n] : counts[i]) length += n;
    const double damp = kSaturation * (1 - kLength + kLength * length / mean);
    for (const auto& [word, n] : counts[i])
      postings_[word].push_back(
          {static_cast<int32_t>(i), static_cast<float>(n * (kSaturation + 1) / (n + damp))});
  }
}

std::vector<PassageEvidence> PassageIndex::search(std::string_view question, const float* vector,
                                                  size_t most) const {
  const size_t n = passages_.size();
  if (n == 0) return {};
  std::vector<float> by_words(n, 0), covered(n, 0), whole(n, 0);
  double weight = 0;
  const auto words = index_words(question);
  for (const std::string& word : std::set<std::string>(words.begin(), words.end())) {
    const auto it = postings_.find(word);
    const double df = it == postings_.end() ? 0 : static_cast<double>(it->second.size());
    const double idf = std::log(1 + (static_cast<double>(n) - df + 0.5) / (df + 0.5));
    weight += idf;
    if (it == postings_.end()) continue;
    for (const Posting& p : it->second) {
      by_words[static_cast<size_t>(p.passage)] += static_cast<float>(idf) * p.weight;
      covered[static_cast<size_t>(p.passage)] += static_cast<float>(idf);
    }
  }
  const int64_t w = key_width_;
  for (size_t i = 0; i < n; ++i) {
    const Entry& entry = passages_[i];
    const UpdateFacts& facts = entry.update->facts;
    whole[i] = key_cosine(vector, facts.answers.data() + static_cast<int64_t>(entry.item) * w,
                          facts.answer_scales[entry.item], w);
  }
  std::vector<size_t> candidates = greatest(by_words, kLookedAt, 0);
  for (const size_t i : greatest(whole, kLookedAt, -2)) candidates.push_back(i);
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());

  const double each = weight > 0 ? 1 / weight : 0;
  std::vector<PassageEvidence> out;
  for (const size_t i : candidates) {
    const Entry& entry = passages_[i];
    const UpdateFacts& facts = entry.update->facts;
    PassageEvidence e;
    e.passage = static_cast<int64_t>(i);
    e.words = by_words[i] * each;
    e.covered = std::min(1.0, covered[i] * each);
    e.whole = whole[i];
    e.nearest = -1;
    for (int64_t k = 0; k < static_cast<int64_t>(entry.text().prompts.size()); ++k) {
      const int64_t key = entry.first_key + k;
      const double cosine = key_cosine(vector, facts.whole.data() + key * w,
                                       facts.scales[static_cast<size_t>(2 * key)], w);
      if (cosine <= e.nearest) continue;
      e.nearest = cosine;
      e.piece = k;
    }
    e.log_odds = log_odds_by(kApart, e);
    out.push_back(e);
  }
  sort_by_log_odds(out);
  if (out.size() > most) out.resize(most);
  return out;
}

}  // namespace accrete
