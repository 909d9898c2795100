#include "bench/desk_measure.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "bench/desk_variants.h"
#include "measure/text_metrics.h"

namespace accrete {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr int64_t kMoreTokens = 16;  // than the longest answer has
constexpr int64_t kMeasured = 14;    // things, for progress reports

// A question with the fact that answers it.
struct AskedQuestion {
  AskRequest request;
  int64_t fact = 0;
};

double share(size_t count, size_t of) {
  return of == 0 ? 0 : static_cast<double>(count) / static_cast<double>(of);
}

std::vector<AskRequest> requests_of(std::span<const AskedQuestion> asked) {
  std::vector<AskRequest> out;
  for (const AskedQuestion& a : asked) out.push_back(a.request);
  return out;
}

class Measure {
 public:
  Measure(DeskMethod& method, const DeskParts& parts, const DeskData& data,
          const DeskLimits& limits, const Reporter& reporter)
      : method_(method),
        parts_(parts),
        set_(parts.set),
        data_(data),
        limits_(limits),
        reporter_(reporter),
        quiet_({nullptr, reporter.cancelled}),
        rng_(Rng(parts.seed).split(60)) {
    size_t wordings = 0;
    for (const Item& item : set_.taught) {
      wordings += item.prompts.size();
      for (const std::string& answer : item.answers)
        longest_ =
            std::max(longest_,
                     static_cast<int64_t>(encode_answer(parts.model, "", answer, set_.raw).size()));
    }
    row_ = {{"facts", set_.taught.size()}, {"wordings", wordings}};
  }

  OrderedJson run() {
    if (!set_.use.empty()) {
      use();
    } else {
      recital();
      variants();
      kept();
    }
    const DeskCost& cost = method_.cost();
    row_["seconds"] = cost.seconds;
    row_["bytes_a_fact"] = cost.bytes_a_fact;
    row_["teach_peak_bytes"] = cost.teach_peak;
    row_["answer_peak_bytes"] = cost.answer_peak;
    return row_;
  }

 private:
  // Of what is measured, the next.
  void next(const char* what) { reporter_.report("measure", done_++, kMeasured, what); }

  AskRequest request(const std::string& text) const {
    return single_question(parts_.model, text, set_.raw);
  }
  std::vector<AskedQuestion> wordings(bool asked) const {
    std::vector<AskedQuestion> out;
    for (size_t i = 0; i < set_.taught.size(); ++i)
      for (const std::string& text : asked ? set_.taught[i].asked : set_.taught[i].prompts)
        out.push_back({request(text), static_cast<int64_t>(i)});
    return out;
  }
  const std::vector<std::string>& answers(int64_t fact) const {
    return set_.taught[static_cast<size_t>(fact)].answers;
  }
  std::vector<std::string> answer(std::span<const AskedQuestion> asked) {
    return method_.answer(requests_of(asked), longest_ + kMoreTokens, quiet_);
  }
  size_t right(std::span<const AskedQuestion> asked, std::span<const std::string> said) const {
    size_t out = 0;
    for (size_t i = 0; i < asked.size(); ++i) out += says_exactly(said[i], answers(asked[i].fact));
    return out;
  }

  void recital() {
    next("taught wordings");
    const auto taught = desk_sample(wordings(false), limits_.taught, rng_.split(1));
    row_["taught"] = share(right(taught, answer(taught)), taught.size());
    next("untaught wordings");
    const auto all = wordings(true);
    const auto asked = desk_sample(all, limits_.untaught, rng_.split(2));
    const auto said = answer(asked);
    row_["untaught_questions"] = asked.size();
    row_["untaught"] = share(right(asked, said), asked.size());
    size_t begins = 0, contains = 0;
    double f1 = 0;
    for (size_t i = 0; i < asked.size(); ++i) {
      begins += begins_right(said[i], answers(asked[i].fact));
      const auto& right = answers(asked[i].fact);
      contains += std::any_of(right.begin(), right.end(),
                              [&](const std::string& one) { return found_in(one, said[i]); });
      f1 += best_answer(said[i], right).f1;
    }
    row_["begins"] = share(begins, asked.size());
    row_["contains"] = share(contains, asked.size());
    row_["f1"] = asked.empty() ? 0 : f1 / static_cast<double>(asked.size());
    choices(all);
    next("the right fact given");
    given(asked);
  }

  using Kinds = std::map<std::string, std::pair<size_t, size_t>>;  // how many, of how many
  void count(const AskRequest& request, bool yes, Kinds& kinds) const {
    const auto kind = set_.kinds.find(text_of(request));
    if (kind == set_.kinds.end()) return;
    kinds[kind->second].first += yes;
    ++kinds[kind->second].second;
  }

  // Which facts untaught wordings choose, all of them.
  void choices(const std::vector<AskedQuestion>& all) {
    const auto chosen = method_.choose(requests_of(all), quiet_);
    if (chosen.empty()) return;
    size_t best = 0, accepted = 0, wrong = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      best += chosen[i].best == all[i].fact;
      accepted += chosen[i].accepted == all[i].fact;
      wrong += chosen[i].accepted >= 0 && chosen[i].accepted != all[i].fact;
      asked_.push_back(chosen[i].probability);
      asked_right_.push_back(chosen[i].best == all[i].fact);
    }
    row_["chosen_right"] = share(best, all.size());
    row_["accepted_right"] = share(accepted, all.size());
    row_["accepted_wrong"] = share(wrong, all.size());
    Kinds kinds;
    for (size_t i = 0; i < all.size(); ++i)
      count(all[i].request, chosen[i].accepted == all[i].fact, kinds);
    for (const auto& [kind, n] : kinds) row_["accepted_right_of"][kind] = share(n.first, n.second);
  }

  void given(std::span<const AskedQuestion> asked) {
    std::vector<std::vector<int64_t>> facts;
    for (const AskedQuestion& a : asked) facts.push_back({a.fact});
    const auto by_fact =
        method_.answer_given(requests_of(asked), facts, longest_ + kMoreTokens, quiet_);
    if (by_fact.size() == asked.size()) row_["given"] = share(right(asked, by_fact), asked.size());
  }

  void variants() {
    const auto asked = desk_sample(wordings(true), limits_.variants, rng_.split(3));
    if (asked.empty()) return;
    next("as it is");
    row_["variants"] = {{"questions", asked.size()},
                        {"as_it_is", share(right(asked, answer(asked)), asked.size())}};
    const auto ask = [&](const char* name, const auto& changed) {
      next(name);
      std::vector<AskedQuestion> other = asked;
      for (size_t i = 0; i < other.size(); ++i) other[i].request = changed(i);
      row_["variants"][name] = share(right(other, answer(other)), other.size());
    };
    const auto drawn = [&](uint64_t kind, size_t i, size_t of) {
      return static_cast<size_t>(rng_.split(kind).split(i).below(of));
    };
    if (parts_.model.uses_chat(set_.raw)) {
      ask("other_system", [&](size_t i) {
        return under_system(asked[i].request, data_.systems[drawn(4, i, data_.systems.size())]);
      });
      ask("third_turn", [&](size_t i) {
        const size_t n = data_.conversations.size(), first = drawn(5, i, n);
        const size_t second = (first + 1 + drawn(6, i, n - 1)) % n;
        return in_third_turn(asked[i].request, data_.conversations[first],
                             data_.conversations[second]);
      });
    }
    ask("capitals", [&](size_t i) {
      return with_text(asked[i].request, in_capitals(text_of(asked[i].request)));
    });
    ask("typo", [&](size_t i) {
      const std::string& subject = set_.taught[static_cast<size_t>(asked[i].fact)].subject;
      return with_text(asked[i].request,
                       with_typo(text_of(asked[i].request), subject, rng_.split(7).split(i)));
    });
    ask("trailing_space",
        [&](size_t i) { return with_text(asked[i].request, text_of(asked[i].request) + " "); });
  }

  // Of requests that are to be left as they are, how many are not, of how many.
  struct Changed {
    size_t changed = 0, of = 0;
  };
  Changed changed(const std::vector<AskRequest>& all, uint64_t stream,
                  std::vector<double>* probabilities = nullptr) {
    const auto chosen = method_.choose(all, quiet_);
    Changed out;
    if (!chosen.empty() || all.empty()) {
      out.of = all.size();
      Kinds told;
      for (size_t i = 0; i < chosen.size(); ++i) {
        out.changed += chosen[i].told;
        if (probabilities != nullptr) probabilities->push_back(chosen[i].probability);
        count(all[i], chosen[i].told, told);
      }
      for (const auto& [kind, n] : told) row_["told_of"][kind] = {n.first, n.second};
      return out;
    }
    const auto some = desk_sample(all, limits_.unchanged, rng_.split(stream));
    const auto before = parts_.base.answer(some, limits_.few_tokens, quiet_);
    const auto after = method_.answer(some, limits_.few_tokens, quiet_);
    out.of = some.size();
    for (size_t i = 0; i < some.size(); ++i) out.changed += before[i] != after[i];
    return out;
  }
  void unchanged(const char* name, const std::vector<AskRequest>& all, uint64_t stream,
                 std::vector<double>* probabilities = nullptr) {
    if (all.empty()) return;
    next(name);
    const Changed c = changed(all, stream, probabilities);
    row_[std::string(name) + "_unchanged"] = share(c.of - c.changed, c.of);
    row_[std::string(name) + "_questions"] = c.of;
  }

  std::vector<AskRequest> requests(const std::vector<std::string>& texts) const {
    std::vector<AskRequest> out;
    for (const std::string& text : texts) out.push_back(request(text));
    return out;
  }

  void kept() {
    std::vector<double> left;
    unchanged("left", requests(set_.left), 11, &left);
    if (!asked_.empty() && !left.empty()) {
      row_["auroc"] = area_under_curve(asked_, left);
      row_["curve"] = curve(left);
    }
    unchanged("twins", requests(set_.twins), 12);
    unchanged("open", requests(set_.open), 13);
    next("unrelated");
    const Changed c = changed(requests(data_.unrelated), 14);
    row_["unrelated_changed"] = c.changed;
    row_["unrelated_questions"] = c.of;
    row_["unrelated_unchanged"] = share(c.of - c.changed, c.of);
    if (!parts_.model.uses_chat(set_.raw)) return;
    std::vector<AskRequest> conversations;
    for (const auto& messages : data_.conversations) {
      AskRequest conversation;
      conversation.messages = messages;
      conversations.push_back(std::move(conversation));
    }
    unchanged("conversations", conversations, 15);
  }

  // The lowest threshold at which at most that share of `left` is accepted.
  OrderedJson curve(std::vector<double> left) const {
    std::sort(left.rbegin(), left.rend());
    OrderedJson out = OrderedJson::array();
    for (const double most : {0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0}) {
      const auto allowed =
          static_cast<size_t>(std::floor(most * static_cast<double>(left.size()) + 1e-9));
      const double above = allowed < left.size() ? left[allowed] : -1;
      size_t count = 0;
      for (size_t i = 0; i < asked_.size(); ++i) count += asked_right_[i] && asked_[i] > above;
      const auto wrong = static_cast<size_t>(
          std::count_if(left.begin(), left.end(), [&](double p) { return p > above; }));
      out.push_back({{"above", above},
                     {"right_and_accepted", share(count, asked_.size())},
                     {"wrongly_accepted", share(wrong, left.size())}});
    }
    return out;
  }

  void use() {
    std::map<std::string, int64_t> at;
    for (size_t i = 0; i < set_.taught.size(); ++i) at[set_.taught[i].id] = static_cast<int64_t>(i);
    const std::vector<UseItem>& items = set_.use;
    std::vector<AskRequest> requests;
    std::vector<std::vector<int64_t>> facts;
    for (const UseItem& item : items) {
      AskRequest r;
      if (!item.messages.empty())
        r.messages = item.messages;
      else
        r.messages.push_back({"user", item.question});
      if (!item.system.empty()) r = under_system(r, item.system);
      requests.push_back(std::move(r));
      facts.emplace_back();
      for (const std::string& id : item.facts) facts.back().push_back(at.at(id));
    }
    next("uses");
    const auto said = method_.answer(requests, limits_.use_tokens, quiet_);
    row_["use"] = scored(items, said, facts);
    const auto chosen = method_.choose(requests, quiet_);
    if (!chosen.empty()) {
      size_t best = 0, accepted = 0;
      for (size_t i = 0; i < items.size(); ++i) {
        const auto has = [&](int64_t f) {
          return std::find(facts[i].begin(), facts[i].end(), f) != facts[i].end();
        };
        best += has(chosen[i].best);
        accepted += has(chosen[i].accepted);
      }
      row_["chosen_right"] = share(best, items.size());
      row_["accepted_right"] = share(accepted, items.size());
    }
    next("uses, the right fact given");
    const auto given = method_.answer_given(requests, facts, limits_.use_tokens, quiet_);
    if (given.size() == items.size()) row_["use_given"] = scored(items, given, facts);
  }

  // Right, and right in the form asked for, by kind and under a few other heads.
  OrderedJson scored(const std::vector<UseItem>& items, std::span<const std::string> said,
                     std::span<const std::vector<int64_t>> facts) const {
    struct Count {
      size_t of = 0, right = 0, formed = 0;
      OrderedJson json() const {
        return {{"questions", of}, {"right", share(right, of)}, {"in_form", share(formed, of)}};
      }
    };
    std::map<std::string, Count> kinds, asked_in, systems, yes_no;
    Count all;
    for (size_t i = 0; i < items.size(); ++i) {
      const UseItem& item = items[i];
      std::vector<std::string> taught;
      for (const int64_t f : facts[i])
        taught.insert(taught.end(), answers(f).begin(), answers(f).end());
      const bool is_right = use_right(item, said[i]);
      const bool formed = is_right && use_form(item, said[i], taught);
      const auto add = [&](Count& count) {
        ++count.of;
        count.right += is_right;
        count.formed += formed;
      };
      add(all);
      add(kinds[item.kind]);
      if (!item.asked_in.empty()) add(asked_in[item.kind + " asked in " + item.asked_in]);
      if (!item.form.empty())
        add(systems[item.system.empty() ? "form in the question" : "form in the system prompt"]);
      if (!item.answer.empty()) add(yes_no[item.kind + " " + item.answer]);
    }
    OrderedJson out = all.json();
    for (const auto& [name, some] : {std::pair("kinds", &kinds), std::pair("asked_in", &asked_in),
                                     std::pair("system", &systems), std::pair("yes_no", &yes_no)})
      for (const auto& [key, count] : *some) out[name][key] = count.json();
    return out;
  }

  DeskMethod& method_;
  const DeskParts& parts_;
  const DeskSet& set_;
  const DeskData& data_;
  const DeskLimits& limits_;
  const Reporter& reporter_;
  Reporter quiet_;
  int64_t done_ = 0;
  Rng rng_;
  int64_t longest_ = 0;
  OrderedJson row_;
  std::vector<double> asked_;      // probability of each untaught wording
  std::vector<bool> asked_right_;  // its best fact is the right one
};

}  // namespace

double area_under_curve(std::span<const double> right, std::span<const double> wrong) {
  if (right.empty() || wrong.empty()) return 0.5;
  std::vector<double> sorted(wrong.begin(), wrong.end());
  std::sort(sorted.begin(), sorted.end());
  double sum = 0;
  for (const double p : right) {
    const auto [low, high] = std::equal_range(sorted.begin(), sorted.end(), p);
    sum += static_cast<double>(low - sorted.begin()) + 0.5 * static_cast<double>(high - low);
  }
  return sum / static_cast<double>(right.size()) / static_cast<double>(wrong.size());
}

bool begins_right(std::string_view output, std::span<const std::string> answers) {
  const std::string said = normalize_answer(output);
  return std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
    const std::string right = normalize_answer(answer);
    return !right.empty() && said.starts_with(right) &&
           (said.size() == right.size() || said[right.size()] == ' ');
  });
}

OrderedJson measure_desk(DeskMethod& method, const DeskParts& parts, const DeskData& data,
                         const DeskLimits& limits, const Reporter& reporter) {
  return Measure(method, parts, data, limits, reporter).run();
}

}  // namespace accrete
