#include "learn/fact_corrections.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/format.h"
#include "learn/fact_keys.h"
#include "model/fact_memory.h"
#include "text/wording.h"

namespace accrete {
namespace {

// A log-odds above what was needed, in the mean over wordings, on both sides. On the development
// half of data/desk .5 finds 81 % of corrections in other wordings and takes 1 % of neighbours for
// one.
constexpr double kMargin = 0.5;

double log_odds(double p) {
  constexpr double kLeast = 1e-12;
  return std::log(std::max(p, kLeast) / std::max(1 - p, kLeast));
}

// How wordings ask for one fact.
struct Votes {
  size_t accepted = 0, best = 0;
  double margin = 0;  // summed over those whose best it is
  bool word_for_word = false;
  size_t by = 0;  // the wording that is one of its own, or else the first that asks for it

  void add(const Choice& choice) {
    ++best;
    margin += log_odds(choice.best.probability) - log_odds(choice.needed);
  }
  bool most_of(size_t n) const { return 2 * accepted > n; }
  bool sure() const { return best > 0 && margin >= kMargin * static_cast<double>(best); }
};

struct Pending {
  size_t lesson = 0;
  int64_t old = -1;
  size_t by = 0;  // the lesson's wording that asks for it
};

// Whether a lesson says no more than a fact that is there: its wordings are among that one's.
bool says_no_more(const TaughtItem& lesson, const TaughtItem& old) {
  if (lesson.answers != old.answers || lesson.verbatim != old.verbatim ||
      name_key(lesson.subject) != name_key(old.subject))
    return false;
  return std::all_of(lesson.prompts.begin(), lesson.prompts.end(), [&](const std::string& prompt) {
    return std::any_of(old.prompts.begin(), old.prompts.end(),
                       [&](const std::string& own) { return same_text(own, prompt); });
  });
}

class Finder {
 public:
  // `beneath`: these facts are shared, and the lessons are an overlay's. They stay; asked as they
  // are, the overlay is to answer.
  Finder(LanguageModel model, FactLessons& lessons,
         const std::function<std::string(const std::string&)>& source_of, bool beneath)
      : model_(std::move(model)),
        store_(model_.facts().store()),
        lessons_(lessons),
        source_of_(source_of),
        beneath_(beneath) {}

  std::vector<Conflict> run() {
    if (store_.empty()) return {};
    std::vector<AskRequest> requests;
    std::vector<size_t> wordings;  // of each lesson now: it gets those that it takes over
    for (const FactLesson& lesson : lessons_.facts) {
      wordings.push_back(lesson.item.prompts.size());
      for (size_t i = 0; i < wordings.back(); ++i) requests.push_back(lesson.request(i));
    }
    const auto choices = choose_facts(model_, requests);
    find_named();
    std::vector<Pending> pending;
    for (size_t l = 0, at = 0; l < lessons_.facts.size(); ++l) {
      look(l, std::span(choices).subspan(at, wordings[l]), pending);
      at += wordings[l];
    }
    for (const auto& [p, taken] : taken_back(pending)) {
      if (taken)
        replace(lessons_.facts[p.lesson], p.old, p.by);
      else if (!same_answer(lessons_.facts[p.lesson].item, store_.fact(p.old).text()))
        remark(lessons_.facts[p.lesson], p.old);
    }
    return std::move(conflicts_);
  }

 private:
  static bool same_answer(const TaughtItem& a, const TaughtItem& b) {
    return a.leave == b.leave && (a.leave || same_text(a.answers.front(), b.answers.front()));
  }

  // The facts that lessons say they correct.
  void find_named() {
    std::vector<AskRequest> requests;
    std::vector<FactLesson*> of;
    for (FactLesson& lesson : lessons_.facts) {
      if (lesson.corrects.empty()) continue;
      requests.push_back(request_of(lesson.item, lesson.corrects));
      of.push_back(&lesson);
    }
    if (requests.empty()) return;
    const auto choices = choose_facts(model_, requests);
    for (size_t i = 0; i < of.size(); ++i) {
      if (choices[i].fact < 0) continue;
      const TaughtItem& old = store_.fact(choices[i].fact).text();
      if (!same_answer(of[i]->item, old)) replace(*of[i], choices[i].fact, 0);
      of[i]->corrects.clear();
    }
  }

  // What a lesson's wordings ask for in what is there.
  void look(size_t l, std::span<const Choice> choices, std::vector<Pending>& pending) {
    FactLesson& lesson = lessons_.facts[l];
    const size_t n = choices.size();
    std::map<int64_t, Votes> votes;
    for (size_t i = 0; i < n; ++i) {
      const Choice& c = choices[i];
      if (!c.left && c.best.fact >= 0) votes[c.best.fact].add(c);
      const int64_t f = c.left ? c.left_to : c.fact;
      if (f < 0) continue;
      Votes& v = votes[f];
      if (v.accepted++ == 0) v.by = i;
      for (const std::string& prompt : store_.fact(f).text().prompts)
        if (!v.word_for_word &&
            name_key(plain_question(prompt)) == name_key(plain_question(lesson.item.prompts[i]))) {
          v.word_for_word = true;
          v.by = i;
        }
    }
    for (const auto& [f, v] : votes) {
      if (v.accepted == 0) continue;
      const TaughtItem& old = store_.fact(f).text();
      const auto& replaced = lesson.item.replaces;
      if (std::find(replaced.begin(), replaced.end(), store_.fact(f).id) != replaced.end())
        continue;  // as the lesson itself says
      if (same_answer(lesson.item, old)) {
        if (beneath_ || name_key(old.subject) != name_key(lesson.item.subject)) continue;
        if (says_no_more(lesson.item, old))
          lesson.there = true;
        else if (old.leave)
          continue;
        else if (v.word_for_word)
          replace(lesson, f, v.by);
        else if (v.most_of(n) && v.sure())
          pending.push_back({l, f, v.by});
        continue;
      }
      if (beneath_ && (old.leave || lesson.item.leave)) continue;
      // A question that is left to the model takes no other wording of a fact with it.
      if (lesson.item.leave && !old.leave && v.accepted < old.prompts.size()) continue;
      const bool either_left = old.leave || lesson.item.leave;
      if (v.word_for_word || (either_left && v.most_of(n)))
        replace(lesson, f, v.by);
      else if (v.most_of(n) && v.sure())
        pending.push_back({l, f, v.by});
      else
        remark(lesson, f);
    }
  }

  // Of each whether the old wordings ask for the new fact when it stands in the old one's place.
  std::vector<std::pair<Pending, bool>> taken_back(const std::vector<Pending>& pending) const {
    if (pending.empty()) return {};
    Update update;
    std::vector<AskRequest> requests;
    for (const Pending& p : pending) {
      const StoredFact& old = store_.fact(p.old);
      TaughtItem item = lessons_.facts[p.lesson].item;
      item.replaces = {old.id};
      update.taught.items.push_back(std::move(item));
      update.facts.vectors.push_back(0);
      for (const std::string& prompt : old.text().prompts)
        requests.push_back(request_of(old.text(), prompt));
    }
    append_keys(model_.facts().reader(), update.taught.items, update.facts);
    LanguageModel trial = model_;
    trial.use_facts(model_.facts().plus("", std::move(update)));
    const FactStore& store = trial.facts().store();
    const auto choices = choose_facts(trial, requests);
    std::vector<std::pair<Pending, bool>> out;
    for (size_t p = 0, at = 0; p < pending.size(); ++p) {
      const size_t n = store_.fact(pending[p].old).text().prompts.size();
      Votes votes;
      const auto is_new = [&](int64_t f) {
        return f >= 0 && store.fact(f).update_id.empty() && store.fact(f).item == p;
      };
      for (size_t i = at; i < at + n; ++i) {
        if (is_new(choices[i].best.fact)) votes.add(choices[i]);
        votes.accepted += is_new(choices[i].fact);
      }
      at += n;
      out.emplace_back(pending[p], votes.most_of(n) && votes.sure());
    }
    return out;
  }

  // A fact that is there gives way to the lesson, whose wording `by` asks for it.
  void replace(FactLesson& lesson, int64_t f, size_t by) {
    const StoredFact& fact = store_.fact(f);
    const TaughtItem& old = fact.text();
    if (!beneath_) lesson.item.replaces.push_back(fact.id);
    if (old.leave || lesson.item.leave) return;
    Conflict conflict{lesson.item.prompts[by],
                      lesson.item.answers.front(),
                      lesson.item.line,
                      fact.update_id,
                      old.line,
                      old.answers.front(),
                      source_of_(fact.update_id)};
    // What asked for the old answer asks for the new one.
    for (const std::string& prompt : old.prompts)
      if (take_wording(lesson, prompt, old.subject)) conflict.taken.push_back(prompt);
    if (!same_answer(lesson.item, old))
      conflicts_.push_back(std::move(conflict));
    else if (lessons_.remarks.size() < kMostRemarks)
      lessons_.remarks.push_back(accrete::format(
          "line {} asks for what {} of update {} answers: they are one fact from now on",
          lesson.item.line, quoted(old.prompts.front()), fact.update_id));
  }

  // One more wording of a lesson, unless it is there or names another subject.
  static bool take_wording(FactLesson& lesson, const std::string& prompt,
                           const std::string& subject) {
    if (name_key(subject) != name_key(lesson.item.subject)) return false;
    for (const std::string& own : lesson.item.prompts)
      if (name_key(own) == name_key(prompt)) return false;
    lesson.item.prompts.push_back(prompt);
    lesson.before.emplace_back();
    return true;
  }

  void remark(const FactLesson& lesson, int64_t f) {
    if (beneath_ || lessons_.remarks.size() >= kMostRemarks) return;
    const TaughtItem& old = store_.fact(f).text();
    lessons_.remarks.push_back(accrete::format(
        "line {} lies near {} of update {}, which stays{}; if it corrects that, write "
        "\"corrects\" with that question beside it",
        lesson.item.line, quoted(old.prompts.front()), store_.fact(f).update_id,
        old.leave ? std::string() : accrete::format(" and says {}", quoted(old.answers.front()))));
  }

  const LanguageModel model_;
  const FactStore& store_;
  FactLessons& lessons_;
  const std::function<std::string(const std::string&)>& source_of_;
  bool beneath_;
  std::vector<Conflict> conflicts_;
};

}  // namespace

std::vector<Conflict> find_corrections(
    const LanguageModel& model, FactLessons& lessons,
    const std::function<std::string(const std::string&)>& source_of) {
  const auto with = [&](FactMemory facts) {
    LanguageModel out = model;
    out.use_facts(std::move(facts));
    return out;
  };
  std::vector<Conflict> out;
  const auto look_in = [&](FactMemory facts, bool beneath) {
    auto found = Finder(with(std::move(facts)), lessons, source_of, beneath).run();
    out.insert(out.end(), found.begin(), found.end());
  };
  look_in(model.facts().alone(), false);
  if (model.facts().shared() != nullptr) look_in(model.facts().beneath(), true);
  for (const FactLesson& lesson : lessons.facts)
    if (!lesson.corrects.empty())
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{}:{}: nothing that was taught answers {}", lessons.source,
                                  lesson.item.line, quoted(lesson.corrects)),
                  "\"corrects\" holds a question as the fact that is corrected was taught it");
  const auto there = std::erase_if(lessons.facts, [](const FactLesson& l) { return l.there; });
  if (there > 0)
    lessons.remarks.push_back(accrete::format(
        "{} taught already, in these words, and left out",
        there == 1 ? std::string("1 fact was") : accrete::format("{} facts were", there)));
  return out;
}

}  // namespace accrete
