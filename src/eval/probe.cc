#include "eval/probe.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "eval/score.h"

namespace accrete {

ExampleOptions Probe::example_options() const {
  ExampleOptions options;
  options.raw = raw;
  options.prefix = prefix;
  return options;
}

std::vector<Probe> load_probes(const Ledger& ledger) {
  std::vector<Probe> probes;
  for (auto& record : ledger.probes()) {
    Probe probe;
    probe.data = read_dataset(ledger.folder() / record.file);
    probe.raw = record.details.value("raw", false);
    probe.prefix = record.details.value("prefix", std::string());
    probe.record = std::move(record);
    probes.push_back(std::move(probe));
  }
  return probes;
}

double probe_score(const LanguageModel& model, const Probe& probe, const Reporter& reporter) {
  if (probe.is_text()) {
    std::vector<std::string> texts;
    for (const Item& item : probe.data.items) texts.push_back(item.text);
    return bits_per_byte(model, texts, reporter);
  }
  return exact_rate(score_items(model, probe.data.items, probe.example_options(),
                                /*use_asked=*/false, reporter, probe.record.name));
}

double probe_kept(const Probe& probe, double now) {
  const double base = probe.record.base;
  if (probe.is_text()) return now > 0 ? base / now : 1;
  return base > 0 ? now / base : 1;
}

bool probe_holds(const Probe& probe, double now) {
  return !probe.record.floor || probe_kept(probe, now) >= *probe.record.floor - 1e-12;
}

FewShot make_few_shot(std::span<const Item> demonstrations) {
  FewShot few_shot{"", "\nAnswer:"};
  for (const Item& item : demonstrations) {
    if (item.kind != Item::Kind::kFact || item.prompts.empty())
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("line {}: a demonstration needs a question and an answer", item.line));
    std::string q = item.prompts.front();
    if (!q.empty() && q.back() != '?') q += '?';
    few_shot.before += "Question: " + q + few_shot.after + " " + item.answers.front() + "\n\n";
  }
  few_shot.before += "Question: ";
  return few_shot;
}

std::string few_shot_prompt(const FewShot& few_shot, const std::string& question) {
  std::string q = question;
  if (!q.empty() && q.back() != '?') q += '?';
  return few_shot.before + q + few_shot.after;
}

std::vector<Item> discover(const LanguageModel& model, std::span<const Item> items,
                           const std::optional<FewShot>& few_shot, bool raw,
                           const Reporter& reporter) {
  std::vector<Example> examples;
  ExampleOptions options;
  options.raw = raw || few_shot.has_value();
  struct Origin {
    size_t item;
    size_t answer;
  };
  std::vector<Origin> origin;
  std::vector<std::string> prompts(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    const Item& item = items[i];
    if (item.kind != Item::Kind::kFact || item.prompts.empty()) continue;
    prompts[i] = few_shot ? few_shot_prompt(*few_shot, item.prompts.front()) : item.prompts.front();
    for (size_t a = 0; a < item.answers.size(); ++a) {
      examples.push_back(make_example(model, prompts[i], item.answers[a], "", options));
      origin.push_back({i, a});
    }
  }
  const auto scores = score_examples(model, examples, reporter, "discover");
  std::vector<Item> kept;
  for (size_t k = 0; k < scores.size(); ++k) {
    if (!scores[k].exact) continue;
    const auto [i, a] = origin[k];
    if (!kept.empty() && kept.back().line == items[i].line)
      continue;  // another answer was right too
    Item item;
    item.prompts = {prompts[i]};
    item.answers = {items[i].answers[a]};
    item.id = items[i].id;
    item.line = items[i].line;
    kept.push_back(std::move(item));
  }
  return kept;
}

std::string to_jsonl(std::span<const Item> items) {
  std::string out;
  for (const Item& item : items) {
    nlohmann::ordered_json line;
    if (item.kind == Item::Kind::kText) {
      line["text"] = item.text;
    } else if (item.kind == Item::Kind::kMessages) {
      line["messages"] = nlohmann::json::array();
      for (const auto& m : item.messages)
        line["messages"].push_back({{"role", m.role}, {"content", m.content}});
    } else {
      line["prompts"] = item.prompts;
      line["answers"] = item.answers;
      if (!item.asked.empty()) line["asked"] = item.asked;
      if (!item.subject.empty()) line["subject"] = item.subject;
    }
    if (!item.id.empty()) line["id"] = item.id;
    out += line.dump() + "\n";
  }
  return out;
}

}  // namespace accrete
