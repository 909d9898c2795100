#include "measure/probe.h"

#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "measure/fact_probe.h"
#include "measure/score.h"
#include "measure/text_metrics.h"
#include "model/ask.h"
#include "model/generate.h"

namespace accrete {

ExampleOptions Probe::example_options() const {
  ExampleOptions options;
  options.raw = raw;
  options.prefix = prefix;
  return options;
}

std::vector<Probe> probes_of(const Ledger& ledger, const Snapshot& snapshot) {
  std::vector<Probe> probes;
  for (const StoredProbe& stored : snapshot.probes) {
    Probe& probe = probes.emplace_back();
    probe.record = stored.record;
    probe.data =
        parse_dataset(std::as_bytes(std::span(stored.items)), ledger.folder() / stored.record.file);
    probe.digest = stored.digest;
    probe.raw = stored.record.details.value("raw", false);
    probe.prefix = stored.record.details.value("prefix", std::string());
  }
  return probes;
}

std::vector<Probe> load_probes(const Ledger& ledger) {
  return probes_of(ledger, ledger.snapshot());
}

double probe_score(const LanguageModel& model, const Probe& probe, const Reporter& reporter) {
  if (probe.is_text()) {
    std::vector<std::string> texts;
    for (const Item& item : probe.data.items) texts.push_back(item.text);
    return bits_per_byte(model, texts, reporter);
  }
  if (model.has_facts()) {
    std::string base = probe.record.details.value("base_answers", std::string());
    if (base.empty()) base = base_answers(model, probe, reporter);
    return fact_probe_state(model, probe, base, reporter).score;
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
    if (item.kind != Item::Kind::kFact || item.prompts.empty() || item.leave)
      throw Error(
          ErrorCode::kInvalidArgument,
          accrete::format("line {}: a demonstration needs a question and an answer", item.line));
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

namespace {

// Whether `said` begins with `answer` as a whole: 3 is no beginning of 35 or of 3.5.
bool begins_with(std::string_view said, std::string_view answer) {
  if (!said.starts_with(answer)) return false;
  said.remove_prefix(answer.size());
  const auto joins = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           (static_cast<unsigned char>(c) & 0x80);
  };
  if (said.empty() || answer.empty()) return true;
  if (joins(said.front()) && joins(answer.back())) return false;
  const bool inside = said.front() == '.' || said.front() == ',' || said.front() == ':' ||
                      said.front() == '%' || said.front() == '+' || said.front() == '#';
  return !(inside && said.size() > 1 && joins(said[1])) && said.front() != '+' &&
         said.front() != '#' && said.front() != '%';
}

}  // namespace

std::vector<Item> discover(const LanguageModel& model, std::span<const Item> items,
                           const std::optional<FewShot>& few_shot, bool raw,
                           const Reporter& reporter) {
  ExampleOptions how;
  how.raw = raw || few_shot.has_value();
  GenerateOptions options;
  options.max_tokens = 24;
  options.stop = {"\n"};
  std::vector<Item> kept;
  std::set<size_t> by_facts;  // of these, answered by what was taught
  constexpr size_t kBatch = 32;
  for (size_t at = 0; at < items.size(); at += kBatch) {
    reporter.check_cancelled();
    std::vector<const Item*> facts;
    std::vector<std::string> prompts;
    std::vector<AskRequest> requests;
    for (size_t i = at; i < std::min(items.size(), at + kBatch); ++i) {
      const Item& item = items[i];
      if (item.kind != Item::Kind::kFact || item.prompts.empty()) continue;
      facts.push_back(&item);
      prompts.push_back(few_shot ? few_shot_prompt(*few_shot, item.prompts.front())
                                 : item.prompts.front());
      requests.push_back(single_question(model, prompts.back(), how.raw));
    }
    AskOptions ask_how;
    ask_how.generate = options;
    const auto outputs = ask(model, requests, ask_how);
    for (size_t i = 0; i < facts.size(); ++i) {
      std::string said = outputs[i].generation.text;
      said.erase(0, said.find_first_not_of(' '));
      // A line that is an answer, or (the beginning of a sentence goes on) one that begins with it.
      std::string right;
      if (best_answer(said, facts[i]->answers).exact) {
        right = said;
      } else if (how.raw && !few_shot) {
        for (const auto& answer : facts[i]->answers)
          if (begins_with(said, answer)) right = answer;
      }
      if (right.empty()) continue;
      Item item;
      item.prompts = {prompts[i]};
      item.answers = {right};
      item.id = facts[i]->id;
      item.line = facts[i]->line;
      kept.push_back(std::move(item));
      if (outputs[i].choice.taught()) by_facts.insert(kept.size() - 1);
    }
    reporter.report("discover", static_cast<int64_t>(std::min(items.size(), at + kBatch)),
                    static_cast<int64_t>(items.size()));
  }
  // What teacher forcing does not confirm (an answer that is written in other tokens) would be lost
  // from the start.
  const auto scores = score_items(model, kept, how, false);
  std::vector<Item> confirmed;
  for (size_t i = 0; i < kept.size(); ++i)
    if (scores[i].exact || by_facts.contains(i)) confirmed.push_back(std::move(kept[i]));
  return confirmed;
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
