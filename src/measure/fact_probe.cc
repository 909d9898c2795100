#include "measure/fact_probe.h"

#include <algorithm>

#include "measure/score.h"
#include "model/ask.h"
#include "model/fact_memory.h"
#include "text/wording.h"

namespace accrete {

std::string base_answers(const LanguageModel& model, const Probe& probe, const Reporter& reporter) {
  if (probe.is_text()) return {};
  LanguageModel base = model;
  if (base.has_facts()) base.use_facts(model.facts().untaught());
  std::string out;
  for (const Score& s : score_items(base, probe.data.items, probe.example_options(), false,
                                    reporter, "probe " + probe.record.name))
    out += s.exact ? '1' : '0';
  return out;
}

const std::string& probe_question(const Item& item) {
  return item.prompts.empty() ? item.asked.at(0) : item.prompts.front();
}

FactProbeState fact_probe_state(const LanguageModel& model, const Probe& probe,
                                const std::string& base, const Reporter& reporter) {
  FactProbeState out;
  if (probe.is_text()) {
    out.score = probe.record.base;  // a text asks nothing
    return out;
  }
  const auto& items = probe.data.items;
  std::vector<AskRequest> requests;
  for (const Item& item : items) {
    AskRequest request;
    if (item.kind == Item::Kind::kMessages) {
      request.messages.assign(item.messages.begin(), item.messages.end() - 1);
    } else {
      request = single_question(model, probe_question(item), probe.raw);
      if (request.raw) request.text = probe.prefix + request.text;
    }
    requests.push_back(std::move(request));
  }
  std::vector<AskRequest> accepted;
  std::vector<Choice> taken;
  std::vector<size_t> which;
  out.exact.resize(items.size());
  const auto choices = choose_facts(model, requests);
  for (size_t i = 0; i < items.size(); ++i) {
    const Choice& choice = choices[i];
    std::vector<int64_t> told;
    if (choice.fact >= 0) told.push_back(choice.fact);
    told.insert(told.end(), choice.about.begin(), choice.about.end());
    for (const PassageChoice& passage : choice.passages) told.push_back(passage.fact);
    out.chosen.push_back(told.empty() ? -1 : told.front());
    std::string& id = out.id.emplace_back();
    for (const int64_t fact : told) id += (id.empty() ? "" : " ") + model.facts().fact(fact).id;
    out.exact[i] = i < base.size() && base[i] == '1';
    if (told.empty()) continue;
    accepted.push_back(requests[i]);
    taken.push_back(choice);
    which.push_back(i);
  }
  GenerateOptions options;
  constexpr size_t kBatch = 16;
  for (size_t at = 0; at < accepted.size(); at += kBatch) {
    reporter.check_cancelled();
    const size_t n = std::min(kBatch, accepted.size() - at);
    const auto said = answer_with(model, std::span(accepted).subspan(at, n),
                                  std::span(taken).subspan(at, n), options);
    for (size_t k = 0; k < n; ++k) {
      const Item& item = items[which[at + k]];
      std::vector<std::string> answers = item.answers;
      if (item.kind == Item::Kind::kMessages) answers = {item.messages.back().content};
      out.exact[which[at + k]] =
          std::any_of(answers.begin(), answers.end(),
                      [&](const std::string& a) { return same_text(a, said[k].text); });
    }
    reporter.report("probe " + probe.record.name, static_cast<int64_t>(at + n),
                    static_cast<int64_t>(accepted.size()));
  }
  double right = 0;
  for (const uint8_t e : out.exact) right += e;
  out.score = items.empty() ? 0 : right / static_cast<double>(items.size());
  return out;
}

}  // namespace accrete
