#include "memory/fact_store.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "memory/key_cosine.h"
#include "text/contrast.h"
#include "text/follow_up.h"
#include "text/passages.h"
#include "text/wording.h"

namespace accrete {
namespace {

std::vector<std::string> forms_of(std::string_view name) {
  std::vector<std::string> out;
  for (Word& word : words_of(name)) out.push_back(std::move(word.form));
  return out;
}

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add_key(const int8_t* key, float scale, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += scale * static_cast<float>(key[i]);
}

// out = (x - y) to unit length.
void centred(const float* x, const float* y, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] - y[i];
  const float length = std::sqrt(std::max(dot(out, out, n), 1e-18F));
  for (int64_t i = 0; i < n; ++i) out[i] /= length;
}

// One wording's keys.
struct Keys {
  const int8_t *whole, *masked;
  float whole_scale, masked_scale;
};
Keys keys_at(const StoredFact& fact, int64_t k, int64_t width) {
  const UpdateFacts& f = fact.update->facts;
  const int64_t i = fact.first_key + k;
  return {f.whole.data() + i * width, f.masked.data() + i * width,
          f.scales[static_cast<size_t>(2 * i)], f.scales[static_cast<size_t>(2 * i) + 1]};
}

// Whether a message speaks of something new ("Where can I park?", "Is there a gym?"): none of what
// was spoken of is meant by it, nor by what comes after it. `news`: the words that tell.
bool changes_topic(std::span<const Word> words, const std::set<std::string>& news) {
  const auto holds = [&](const std::set<std::string>& any) {
    return std::any_of(words.begin(), words.end(),
                       [&](const Word& word) { return any.contains(word.form); });
  };
  return holds(news) && !has_pronoun(words);
}

// Whether a question holds what could be a name: "How heavy is the Hub 4?" is not about the Hub 3
// that was spoken of before.
bool names_somebody(const std::string& text) {
  const bool capitals =
      std::none_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  return !capitals && !shared_name({&text, 1}).empty();
}

// With few facts little is in common: h = (n - 1) / (n - 1 + kShrink) of their mean is taken off.
constexpr float kShrink = 2;

}  // namespace

int64_t FactStore::find(const std::string& id) const {
  const auto it = fact_by_id_.find(id);
  return it == fact_by_id_.end() ? -1 : it->second;
}

FactStore FactStore::with(const std::string& update_id,
                          std::shared_ptr<const Update> update) const {
  FactStore out = *this;
  out.append(update_id, std::move(update));
  out.index();
  return out;
}

FactStore FactStore::of(std::span<const Named> updates) {
  FactStore out;
  for (const auto& [id, update] : updates) out.append(id, update);
  out.index();
  return out;
}

// Facts that go stay in `facts_` without an update until index() is called.
void FactStore::append(const std::string& update_id, std::shared_ptr<const Update> update) {
  const UpdateFacts& facts = update->facts;
  if (facts.empty()) return;
  if (key_width_ == 0) key_width_ = facts.key_width;
  if (facts.key_width != key_width_)
    throw Error(ErrorCode::kFormat,
                accrete::format("update {} has keys of width {}, the others {}", update_id,
                                facts.key_width, key_width_),
                "it was made with another reader");
  const auto forget = [this](const std::string& id) {
    if (const auto it = fact_by_id_.find(id); it != fact_by_id_.end()) {
      facts_[static_cast<size_t>(it->second)].update = nullptr;
      fact_by_id_.erase(it);
    }
  };
  for (const TaughtItem& item : update->taught.items)
    for (const std::string& id : item.replaces) forget(id);
  int64_t key = 0, vector = 0;
  for (size_t i = 0; i < update->taught.items.size(); ++i) {
    StoredFact fact;
    fact.update_id = update_id;
    fact.update = update;
    fact.item = i;
    fact.id = fact_id(fact.text());
    fact.first_key = key;
    fact.first_vector = vector;
    key += fact.keys();
    vector += fact.vectors();
    if (fact.keys() == 0) continue;  // it only took others away
    forget(fact.id);                 // the same fact again takes the place of the one that is there
    fact_by_id_[fact.id] = size();
    facts_.push_back(std::move(fact));
  }
}

namespace {

// A store is about one subject where it has this many facts of it, and this share of those that
// have one.
constexpr size_t kMainFacts = 5;
constexpr double kMainShare = 0.8;

}  // namespace

void FactStore::index() {
  groups_ = std::make_shared<Groups>();
  std::erase_if(facts_, [](const StoredFact& fact) { return fact.update == nullptr; });
  subjects_.clear();
  open_.clear();
  passages_.clear();
  subject_by_key_.clear();
  subjects_by_first_.clear();
  fact_by_id_.clear();
  for (size_t i = 0; i < facts_.size(); ++i) {
    StoredFact& fact = facts_[i];
    fact.subject = subject_of(fact.text().subject);
    fact_by_id_[fact.id] = static_cast<int64_t>(i);
    if (fact.text().passage()) {
      passages_.push_back(static_cast<int64_t>(i));
      continue;
    }
    if (fact.subject < 0)
      open_.push_back(static_cast<int64_t>(i));
    else
      subjects_[static_cast<size_t>(fact.subject)].facts.push_back(static_cast<int64_t>(i));
  }
  main_subject_ = -1;
  size_t with_subject = 0;
  for (const Subject& subject : subjects_) with_subject += subject.facts.size();
  for (size_t s = 0; s < subjects_.size(); ++s)
    if (const size_t n = subjects_[s].facts.size();
        n >= kMainFacts && static_cast<double>(n) >= kMainShare * static_cast<double>(with_subject))
      main_subject_ = static_cast<int64_t>(s);
}

int64_t FactStore::subject_of(const std::string& name) {
  auto forms = forms_of(name);
  if (forms.empty()) return -1;
  std::string key;
  for (const auto& form : forms) key += form + " ";
  const auto [it, fresh] = subject_by_key_.try_emplace(key, static_cast<int64_t>(subjects_.size()));
  if (fresh) {
    subjects_by_first_[forms.front()].push_back(it->second);
    subjects_.push_back({name, std::move(forms), {}});
  }
  return it->second;
}

// The facts of one subject, or those without one: means of their keys, centred.
struct FactStore::Group {
  std::vector<int64_t> facts;                     // those that are left to the model last
  int64_t answered = 0;                           // the others
  std::vector<float> mean_masked, mean_whole;     // [w] what is taken off
  std::vector<float> masked, whole, answer;       // [facts, w] unit length; answers of the answered
  std::unordered_map<std::string, int64_t> same;  // by the words of a wording: index into `facts`
  TaughtContrasts contrasts;                      // of `facts`
  std::unordered_set<std::string> taught_words, subject_words;
};

struct FactStore::Groups {
  std::mutex mutex;
  std::unique_ptr<const PassageIndex> passages;
  std::map<std::pair<int64_t, bool>, std::unique_ptr<const Group>> made;
};

const FactStore::Group& FactStore::group(int64_t subject, bool raw) const {
  const std::lock_guard lock(groups_->mutex);
  auto& made = groups_->made[{subject, raw}];
  if (made) return *made;
  auto out = std::make_unique<Group>();
  const auto& all = subject < 0 ? open_ : subjects_[static_cast<size_t>(subject)].facts;
  for (const bool leave : {false, true})
    for (const int64_t f : all)
      if (fact(f).text().raw == raw && fact(f).text().leave == leave) out->facts.push_back(f);
  for (const int64_t f : out->facts) out->answered += !fact(f).text().leave;
  if (subject >= 0) add_words(subjects_[static_cast<size_t>(subject)].name, out->subject_words);
  const int64_t w = key_width_, n = out->answered;
  const auto total = static_cast<int64_t>(out->facts.size());
  const auto at = [w](std::vector<float>& of, int64_t i) { return of.data() + i * w; };
  out->masked.assign(static_cast<size_t>(total * w), 0.0F);
  out->whole = out->masked;
  out->answer.assign(static_cast<size_t>(n * w), 0.0F);
  std::vector<float> mean_answer(static_cast<size_t>(w), 0.0F);
  out->mean_masked = out->mean_whole = mean_answer;
  const float share = n > 0 ? static_cast<float>(n - 1) / (static_cast<float>(n - 1) + kShrink) /
                                  static_cast<float>(n)
                            : 0.0F;
  for (int64_t i = 0; i < total; ++i) {
    const StoredFact& f = fact(out->facts[static_cast<size_t>(i)]);
    const auto keys = static_cast<float>(f.keys());
    std::vector<std::string> masked;
    for (int64_t k = 0; k < f.keys(); ++k) {
      const Keys key = keys_at(f, k, w);
      add_key(key.masked, key.masked_scale / keys, at(out->masked, i), w);
      add_key(key.whole, key.whole_scale / keys, at(out->whole, i), w);
      const std::string text = plain_question(f.text().prompts[static_cast<size_t>(k)]);
      masked.push_back(subject < 0 ? text
                                   : mask_name(text, subjects_[static_cast<size_t>(subject)].name));
      add_words(masked.back(), out->taught_words);
      // The same words twice: what was taught later counts.
      const auto [it, fresh] = out->same.try_emplace(name_key(text), i);
      if (!fresh &&
          out->facts[static_cast<size_t>(i)] > out->facts[static_cast<size_t>(it->second)])
        it->second = i;
    }
    out->contrasts.add(masked);
    if (i >= n) continue;
    const auto item = static_cast<int64_t>(f.item);
    add_key(f.update->facts.answers.data() + item * w, f.update->facts.answer_scales[f.item],
            at(out->answer, i), w);
    for (int64_t j = 0; j < w; ++j) {
      out->mean_masked[static_cast<size_t>(j)] += share * at(out->masked, i)[j];
      out->mean_whole[static_cast<size_t>(j)] += share * at(out->whole, i)[j];
      mean_answer[static_cast<size_t>(j)] += share * at(out->answer, i)[j];
    }
  }
  for (int64_t i = 0; i < total; ++i) {
    centred(at(out->masked, i), out->mean_masked.data(), at(out->masked, i), w);
    centred(at(out->whole, i), out->mean_whole.data(), at(out->whole, i), w);
    if (i < n) centred(at(out->answer, i), mean_answer.data(), at(out->answer, i), w);
  }
  for (const std::string& word : out->subject_words) out->taught_words.erase(word);
  made = std::move(out);
  return *made;
}

// At each place the longest name counts, unless it goes on with a word that was not taught about
// it. Those named last come last.
std::vector<int64_t> FactStore::named_in(const std::string& text, std::span<const Word> words,
                                         bool raw) const {
  std::vector<int64_t> out;
  for (size_t at = 0; at < words.size();) {
    int64_t longest = -1;
    size_t length = 0;
    if (const auto it = subjects_by_first_.find(words[at].form); it != subjects_by_first_.end())
      for (const int64_t s : it->second) {
        const auto& forms = subjects_[static_cast<size_t>(s)].forms;
        bool here = at + forms.size() <= words.size() && forms.size() > length;
        for (size_t k = 1; k < forms.size() && here; ++k) here = words[at + k].form == forms[k];
        const size_t end = at + forms.size();
        if (!here || (name_goes_on(text, words, at, end) &&
                      !group(s, raw).taught_words.contains(words[end].form)))
          continue;
        longest = s;
        length = forms.size();
      }
    if (longest >= 0) {
      std::erase(out, longest);
      out.push_back(longest);
    }
    at += std::max<size_t>(length, 1);
  }
  return out;
}

// The question with what it leaves out of those before it (text/follow_up.h).
std::string FactStore::whole_question(const Question& question) const {
  constexpr size_t kMost = 6;  // messages that are looked back at
  const auto last_name = [&](const std::string& text) {
    const auto named = named_in(text, words_of(text), question.raw);
    return named.empty() ? std::string() : subject_name(named.back());
  };
  const auto& earlier = question.earlier;
  std::string before;
  for (size_t i = earlier.size() - std::min(kMost, earlier.size()); i <= earlier.size(); ++i) {
    std::string text = plain_question(i < earlier.size() ? earlier[i] : question.text);
    if (!before.empty())
      if (std::string whole = follow_up(text, before, last_name(text), last_name(before));
          !whole.empty())
        text = std::move(whole);
    before = std::move(text);
  }
  return before;
}

FactStore::Asked FactStore::read(const Question& question, const Vocabulary& vocabulary) const {
  Asked out;
  out.raw = question.raw;
  const std::string text = whole_question(question);
  const auto words = words_of(text);
  for (const Word& word : words) out.key += (out.key.empty() ? "" : " ") + word.form;
  out.to_write = !out.raw && asks_to_write(question.text);
  out.subjects = named_in(text, words, out.raw);
  // Nobody is named, not even somebody unknown: whom was spoken of last.
  const bool named = !out.subjects.empty() || names_somebody(text);
  static const std::set<std::string> kNews = {"a", "an"};
  static const std::set<std::string> kNewsBefore = {"a",   "an", "i",   "we",
                                                    "you", "my", "our", "your"};
  const bool follows = !named && !changes_topic(words, kNews);
  for (size_t i = question.earlier.size(); follows && out.subjects.empty() && i-- > 0;) {
    const std::string before = plain_question(question.earlier[i]);
    const auto before_words = words_of(before);
    const auto spoken_of = named_in(before, before_words, out.raw);
    if (!spoken_of.empty())
      out.subjects = {spoken_of.back()};
    else if (changes_topic(before_words, kNewsBefore))
      break;
  }
  const auto mend = [&](int64_t subject) {
    const Group& g = group(subject, out.raw);
    return mended(text, g.taught_words, g.subject_words, vocabulary);
  };
  static const std::set<std::string> kAhead = {"and", "or", "but", "so"};
  const bool goes_on = !words.empty() && kAhead.contains(words.front().form);
  // A word that nobody knows may be a name that is written small.
  const auto all_known = [&](const std::string& mended) {
    const Group& g = group(main_subject_, out.raw);
    const auto mended_words = words_of(mended);
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string& form = words[i].form;
      if (!is_content_word(form) || vocabulary(form) >= 0) continue;
      const std::string& other = i < mended_words.size() ? mended_words[i].form : form;
      if (is_content_word(other) && !g.taught_words.contains(other)) return false;
    }
    return true;
  };
  // In a conversation "it" and what goes on are about what was spoken of there.
  const bool of_earlier = !question.earlier.empty() && (goes_on || has_pronoun(words));
  if (!named && out.subjects.empty() && !out.raw && main_subject_ >= 0 && !of_earlier &&
      all_known(mend(main_subject_))) {
    out.subjects = {main_subject_};
    out.unnamed = true;
  }
  // "And on Sundays?" with nothing before it asks no page.
  const bool asks_nothing = question.earlier.empty() && goes_on && is_fragment(text);
  if (!passages_.empty() && !out.raw && !asks_nothing) {
    out.passage_texts.push_back(text);
    if (!question.earlier.empty() && leans_on_earlier(words))
      out.passage_texts.push_back(plain_question(question.earlier.back()) + " " + text);
  }
  if (!open_.empty()) out.texts.push_back(mend(-1));
  for (const int64_t s : out.subjects) {
    const std::string& name = subjects_[static_cast<size_t>(s)].name;
    const bool as_it_is = named || (out.unnamed && !has_pronoun(words));
    out.texts.push_back(as_it_is ? mend(s) : with_name(mend(s), name));
    out.texts.push_back(mask_name(out.texts.back(), name));
  }
  return out;
}

void FactStore::gather(int64_t subject, size_t text, const float* whole, const float* masked,
                       const Asked& asked, std::vector<Evidence>& out) const {
  const Group& g = group(subject, asked.raw);
  if (g.facts.empty()) return;
  const int64_t w = key_width_;
  std::vector<float> m(static_cast<size_t>(w)), v(static_cast<size_t>(w));
  centred(masked, g.mean_masked.data(), m.data(), w);
  centred(whole, g.mean_whole.data(), v.data(), w);
  const std::vector<bool> contrasts = g.contrasts.with(asked.texts[text]);
  const auto same = g.same.find(asked.key);
  for (size_t i = 0; i < g.facts.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    const StoredFact& f = fact(g.facts[i]);
    Evidence e;
    e.fact = g.facts[i];
    e.rivals = g.answered;
    e.named = subject >= 0 && !asked.unnamed;
    e.unnamed = subject >= 0 && asked.unnamed;
    e.leave = f.text().leave;
    e.raw = asked.raw;
    e.contrast = contrasts[i];
    e.text = text;
    e.centred = dot(m.data(), g.masked.data() + row * w, w);
    // Without the name there is nothing whole to compare.
    e.whole = e.unnamed ? e.centred : dot(v.data(), g.whole.data() + row * w, w);
    if (row < g.answered) e.answer = dot(m.data(), g.answer.data() + row * w, w);
    e.same = same != g.same.end() && same->second == row;
    // By how near they lie; of equal ones the first.
    std::array<double, std::tuple_size_v<decltype(e.keys)>> nearest;
    nearest.fill(-2);
    for (int64_t k = 0; k < f.keys(); ++k) {
      const Keys key = keys_at(f, k, w);
      double cosine = key_cosine(masked, key.masked, key.masked_scale, w);
      if (cosine > nearest.front())
        e.nearest_whole = e.unnamed ? cosine : key_cosine(whole, key.whole, key.whole_scale, w);
      int64_t own = k;
      for (size_t place = 0; place < nearest.size(); ++place)
        if (cosine > nearest[place]) {
          std::swap(cosine, nearest[place]);
          std::swap(own, e.keys[place]);
        }
    }
    e.nearest = nearest.front();
    e.key = e.keys.front();
    out.push_back(e);
  }
}

std::vector<Evidence> FactStore::weigh(const Asked& asked, const float* vectors) const {
  std::vector<Evidence> out;
  size_t text = 0;
  if (!open_.empty()) {
    gather(-1, text++, vectors, vectors, asked, out);
    vectors += key_width_;
  }
  for (const int64_t subject : asked.subjects) {
    gather(subject, text + 1, vectors, vectors + key_width_, asked, out);
    text += 2;
    vectors += 2 * key_width_;
  }
  return out;
}

ReadPair FactStore::pair(const Asked& asked, const Evidence& evidence) const {
  const TaughtItem& item = fact(evidence.fact).text();
  ReadPair out;
  out.question = asked.texts[evidence.text];
  for (const int64_t k : evidence.keys)
    if (k >= 0)
      out.wordings.push_back(
          mask_name(plain_question(item.prompts[static_cast<size_t>(k)]), item.subject));
  if (!item.leave) out.answer = mask_name(plain_question(item.answers.front()), item.subject);
  return out;
}

void FactStore::decide_about(const Asked& asked, std::span<const Evidence> evidence,
                             Choice& choice) const {
  constexpr size_t kMost = 8;
  constexpr double kMeantToo = 0.3;  // probability of the runner-up
  if (choice.left || asked.raw) return;
  const auto told = [&](int64_t f) { return f >= 0 && f != choice.fact && !fact(f).text().leave; };
  if (!asked.to_write) {
    const Candidate& other = choice.runner_up;
    if (choice.fact >= 0 && told(other.fact) && other.probability >= kMeantToo)
      choice.about = {other.fact};
    return;
  }
  std::vector<const Evidence*> near;
  for (const Evidence& e : evidence)
    if (e.named && told(e.fact)) near.push_back(&e);
  std::stable_sort(near.begin(), near.end(), [](const Evidence* a, const Evidence* b) {
    return a->nearest + a->whole > b->nearest + b->whole;
  });
  for (const Evidence* e : near)
    if (choice.about.size() < kMost) choice.about.push_back(e->fact);
}

const PassageIndex& FactStore::passage_index() const {
  const std::lock_guard lock(groups_->mutex);
  if (groups_->passages) return *groups_->passages;
  std::vector<PassageIndex::Entry> entries;
  for (const int64_t i : passages_) {
    const StoredFact& f = fact(i);
    entries.push_back({f.update, f.item, f.first_key});
  }
  groups_->passages = std::make_unique<const PassageIndex>(std::move(entries), key_width_);
  return *groups_->passages;
}

std::vector<PassageEvidence> FactStore::weigh_passages(const Asked& asked,
                                                       const float* vectors) const {
  constexpr size_t kMost = 4;
  std::vector<PassageEvidence> out;
  for (size_t t = 0; t < asked.passage_texts.size(); ++t) {
    auto more = passage_index().search(asked.passage_texts[t],
                                       vectors + static_cast<int64_t>(t) * key_width_, kMost);
    if (more.empty() || (!out.empty() && more.front().log_odds <= out.front().log_odds)) continue;
    out = std::move(more);
    for (PassageEvidence& e : out) e.text = t;
  }
  return out;
}

ReadPassage FactStore::read_passage(const Asked& asked, const PassageEvidence& evidence) const {
  const TaughtItem& item = fact(passages_[static_cast<size_t>(evidence.passage)]).text();
  ReadPassage out{asked.passage_texts[evidence.text], item.section, {}};
  for (const std::string& piece : item.prompts) out.pieces.push_back(piece_alone(piece));
  return out;
}

void FactStore::decide_passages(std::vector<PassageEvidence> evidence, double caution,
                                Choice& choice) const {
  rank_passages(evidence, static_cast<int64_t>(passages_.size()));
  for (const PassageEvidence& e : evidence) {
    PassageChoice one;
    one.fact = passages_[static_cast<size_t>(e.passage)];
    one.piece = e.piece;
    one.probability = 1 / (1 + std::exp(caution - e.log_odds));
    one.covered = e.covered;
    one.nearest = e.nearest;
    one.read = e.read;
    if (!choice.best_passage) choice.best_passage = one;
    if (choice.fact >= 0 || choice.left || evidence.front().log_odds < caution) break;
    if (e.log_odds >= evidence.front().log_odds - passage_rule(e.read.has_value()).beside)
      choice.passages.push_back(one);
  }
}

Choice FactStore::decide(const Asked& asked, std::span<const Evidence> evidence,
                         const AcceptanceRule& rule, double caution) const {
  Choice out = accrete::decide(evidence, rule, caution);
  for (const Evidence& e : evidence)
    if (e.fact == out.best.fact && e.fact >= 0)
      out.read = asked.texts[e.text - (fact(e.fact).subject >= 0)];
  return out;
}

}  // namespace accrete
