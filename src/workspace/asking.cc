// Asking: answers, why they are so, and how many are right.
#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "learn/explain.h"
#include "learn/fact_inspect.h"
#include "measure/abilities.h"
#include "measure/probe.h"
#include "measure/score.h"
#include "measure/text_metrics.h"
#include "model/ask.h"
#include "model/fact_memory.h"
#include "workspace/impl.h"

namespace accrete {
namespace {

AskOptions inner_options(const api::AskOptions& given) {
  AskOptions inner;
  inner.generate.max_tokens = given.max_tokens;
  inner.generate.temperature = given.temperature;
  inner.generate.top_k = given.top_k;
  inner.generate.top_p = given.top_p;
  inner.generate.min_p = given.min_p;
  inner.generate.repetition_penalty = given.repetition_penalty;
  inner.generate.stop = given.stop;
  inner.generate.seed = given.seed;
  inner.caution = given.caution;
  inner.otherwise = given.otherwise;
  return inner;
}

// Where what a state says was taught: of an overlay its own ledger and the model's.
struct Ledgers {
  std::string overlay;
  Ledger own;
  std::optional<Ledger> shared;

  const Ledger& of(const FactMemory& memory, int64_t fact) const {
    return shared && memory.is_shared(fact) ? *shared : own;
  }
  std::string name_of(const FactMemory& memory, int64_t fact) const {
    return memory.is_shared(fact) ? std::string() : overlay;
  }
};

Ledgers open_ledgers(const std::filesystem::path& folder, const std::filesystem::path& place,
                     const std::string& overlay) {
  Ledgers out{overlay, Ledger::open(place, Ledger::Mode::kRead), std::nullopt};
  if (!overlay.empty()) out.shared.emplace(Ledger::open(folder, Ledger::Mode::kRead));
  return out;
}

api::FactExplanation::Candidate plain(const FactMemory& memory, const Ledgers& ledgers,
                                      const Candidate& c) {
  const StoredFact& fact = memory.fact(c.fact);
  const TaughtItem& item = fact.text();
  const UpdateRecord origin = origin_of(ledgers.of(memory, c.fact), fact);
  api::FactExplanation::Candidate out;
  out.update = origin.id;
  out.source = origin.source;
  out.line = item.line;
  out.wording = item.prompts[static_cast<size_t>(c.key)];
  out.subject = item.subject;
  out.leave = item.leave;
  if (!item.leave) out.answer = item.answers.front();
  out.probability = c.probability;
  out.masked_cosine = c.masked;
  out.whole_cosine = c.whole;
  out.contrast = c.contrast;
  out.cross = c.cross;
  out.overlay = ledgers.name_of(memory, c.fact);
  return out;
}

api::FactExplanation plain(const FactMemory& memory, const Ledgers& ledgers, const Choice& choice) {
  api::FactExplanation out;
  out.accepted = choice.fact >= 0;
  out.needed = choice.needed;
  out.left = choice.left;
  out.only_told = choice.only_told;
  out.about = static_cast<int64_t>(choice.about.size());
  out.read = choice.read;
  if (choice.best.fact >= 0) out.nearest = plain(memory, ledgers, choice.best);
  if (choice.runner_up.fact >= 0) out.runner_up = plain(memory, ledgers, choice.runner_up);
  for (const Candidate& other : choice.also) out.also.push_back(plain(memory, ledgers, other));
  return out;
}

api::PassageSource plain(const FactMemory& memory, const Ledgers& ledgers, const PassageChoice& c) {
  const StoredFact& fact = memory.fact(c.fact);
  const TaughtItem& item = fact.text();
  api::PassageSource out;
  out.update = origin_of(ledgers.of(memory, c.fact), fact).id;
  out.source = item.document;
  out.line = item.document_digest.empty() ? 0 : item.line;
  out.section = item.section;
  out.quote = quote_of(memory, c);
  out.probability = c.probability;
  out.covered = c.covered;
  out.cosine = c.nearest;
  out.read = c.read;
  out.overlay = ledgers.name_of(memory, c.fact);
  return out;
}

api::RowExplanation plain(const Explanation& e) {
  api::RowExplanation out;
  out.log_probability = e.log_probability;
  out.base_log_probability = e.base_log_probability;
  for (const Influence& u : e.updates) {
    auto& to = out.updates.emplace_back();
    to.update = u.update;
    to.tag = u.tag;
    to.source = u.source;
    to.effect = u.effect;
    for (const SourceLine& l : u.lines)
      to.lines.push_back({l.line, l.question, l.answer, l.similarity});
  }
  return out;
}

api::Explanation explanation(const LanguageModel& model, const Ledgers& ledgers,
                             const Choice& choice, const std::string& prompt,
                             const std::string& answer, bool raw) {
  api::Explanation out;
  if (model.has_facts()) out.fact = plain(model.facts(), ledgers, choice);
  if (choice.best_passage)
    out.nearest_passage = plain(model.facts(), ledgers, *choice.best_passage);
  if (!model.has_facts())
    out.rows = plain(accrete::explain(model, load_members(ledgers.own), prompt, answer, raw));
  return out;
}

// The question, or the last one of a conversation.
const std::string& question_in(const api::Request& request) {
  return request.messages.empty() ? request.prompt : request.messages.back().content;
}

AskRequest request_of(const LanguageModel& model, const api::Request& request, bool raw) {
  if (request.messages.empty()) {
    if (request.prompt.empty()) throw Error(ErrorCode::kInvalidArgument, "the prompt is empty");
    return single_question(model, request.prompt, raw);
  }
  AskRequest out;
  for (const api::Message& m : request.messages) out.messages.push_back({m.role, m.content});
  return out;
}

}  // namespace

std::vector<api::Answer> Workspace::ask(std::span<const api::Request> requests,
                                        const api::AskOptions& options, const Stream& stream,
                                        const Reporter& reporter, State state) const {
  if (!state) state = now();
  const LanguageModel& model = *state;
  std::vector<AskRequest> inner;
  for (const api::Request& request : requests)
    inner.push_back(request_of(model, request, options.raw));
  const auto asked = accrete::ask(model, inner, inner_options(options), stream, reporter);
  std::vector<api::Answer> out;
  for (size_t i = 0; i < asked.size(); ++i) {
    const Generation& said = asked[i].generation;
    api::Answer& answer = out.emplace_back();
    answer.text = said.text;
    answer.fact = asked[i].choice.fact >= 0;
    answer.has_facts = model.has_facts();
    if (!asked[i].choice.passages.empty()) {
      const Ledgers ledgers = open_ledgers(impl_->folder, impl_->place, impl_->overlay);
      for (const PassageChoice& passage : asked[i].choice.passages)
        answer.sources.push_back(plain(model.facts(), ledgers, passage));
    }
    answer.tokens = static_cast<int64_t>(said.tokens.size());
    answer.finish_reason = said.finish_reason;
    if (options.explain)
      answer.explanation =
          explanation(model, open_ledgers(impl_->folder, impl_->place, impl_->overlay),
                      asked[i].choice, question_in(requests[i]), said.text, options.raw);
  }
  return out;
}

api::Answer Workspace::ask(const api::Request& request, const api::AskOptions& options,
                           const Stream& stream, const Reporter& reporter, State state) const {
  const std::span<const api::Request> one(&request, 1);
  return ask(one, options, stream, reporter, std::move(state)).front();
}

void Workspace::require_chat() const {
  if (!now()->uses_chat(false))
    throw Error(ErrorCode::kUnsupported, "this model has no chat template",
                "use `accrete ask --raw`");
}

api::Explanation Workspace::explain(const api::Request& request, const std::string& answer,
                                    const api::AskOptions& options, State state) const {
  if (!state) state = now();
  const std::vector<AskRequest> asked = {request_of(*state, request, options.raw)};
  Choice choice;
  if (state->has_facts()) choice = choose_facts(*state, asked, options.caution).front();
  return explanation(*state, open_ledgers(impl_->folder, impl_->place, impl_->overlay), choice,
                     question_in(request), answer, options.raw);
}

api::EvalReport Workspace::eval(const Dataset& data, const api::EvalOptions& options,
                                const std::optional<Dataset>& demonstrations,
                                const Reporter& reporter, State state) const {
  std::optional<FewShot> few_shot;
  if (demonstrations) few_shot = make_few_shot(demonstrations->items);
  if (!state) state = now();
  const LanguageModel& model = *state;
  api::EvalReport report;
  report.items = static_cast<int64_t>(data.items.size());
  std::vector<std::string> texts;
  std::vector<const Item*> facts;
  for (const Item& item : data.items) {
    if (item.kind == Item::Kind::kText) texts.push_back(item.text);
    if (item.kind == Item::Kind::kFact && !item.leave) facts.push_back(&item);
  }
  if (!texts.empty()) report.bits_per_byte = bits_per_byte(model, texts, reporter);
  if (facts.empty()) return report;

  const bool raw = options.raw || few_shot.has_value();
  AskOptions how;
  how.generate.max_tokens = options.max_tokens;
  how.generate.seed = options.seed;
  how.caution = options.caution;
  // A demonstration's answer ends with its line; all else is read to its natural stop.
  if (few_shot) how.generate.stop = {"\n"};
  double exact = 0, f1 = 0, begins = 0, by_facts = 0, by_documents = 0;
  constexpr size_t kBatch = 32;
  for (size_t at = 0; at < facts.size(); at += kBatch) {
    reporter.check_cancelled();
    const size_t n = std::min(kBatch, facts.size() - at);
    std::vector<AskRequest> requests;
    std::vector<std::string> asked;
    for (size_t i = 0; i < n; ++i) {
      const Item& item = *facts[at + i];
      asked.push_back((options.asked || item.prompts.empty()) && !item.asked.empty()
                          ? item.asked.front()
                          : item.prompts.front());
      requests.push_back(single_question(
          model, few_shot ? few_shot_prompt(*few_shot, asked.back()) : asked.back(), raw));
    }
    const auto outputs = accrete::ask(model, requests, how);
    for (size_t i = 0; i < n; ++i) {
      const Item& item = *facts[at + i];
      api::EvalReport::Question& q = report.questions.emplace_back();
      q.prompt = asked[i];
      q.answer = item.answers.front();
      q.output = outputs[i].generation.text;
      q.exact = says_exactly(q.output, item.answers);
      q.f1 = best_answer(q.output, item.answers).f1;
      const std::string said = normalize_answer(q.output) + " ";
      q.begins = std::any_of(item.answers.begin(), item.answers.end(), [&](const auto& answer) {
        return said.starts_with(normalize_answer(answer) + " ");
      });
      exact += q.exact;
      f1 += q.f1;
      begins += q.begins;
      by_facts += outputs[i].choice.fact >= 0;
      by_documents += !outputs[i].choice.passages.empty();
    }
    reporter.report("eval", static_cast<int64_t>(at + n), static_cast<int64_t>(facts.size()));
  }
  const auto n = static_cast<double>(facts.size());
  report.shares = {exact / n, f1 / n, begins / n, std::nullopt, std::nullopt};
  if (model.has_facts()) report.shares->by_facts = by_facts / n;
  if (by_documents > 0) report.shares->by_documents = by_documents / n;
  return report;
}

api::EvalReport Workspace::eval_file(const std::filesystem::path& file,
                                     const api::EvalOptions& options,
                                     const std::optional<Dataset>& demonstrations,
                                     const Reporter& reporter) const {
  const auto choices = read_choices(file);
  if (!choices) return eval(read_dataset(file), options, demonstrations, reporter);
  if (demonstrations)
    throw Error(ErrorCode::kInvalidArgument, "questions with choices stand for themselves",
                "leave out --few-shot, or put the demonstrations into the prompts");
  const auto scores = choice_scores(*now(), *choices, reporter);
  api::EvalReport report;
  report.items = static_cast<int64_t>(choices->items.size());
  double right = 0;
  size_t at = 0;
  for (const AbilityItem& item : choices->items) {
    const auto own = std::span(scores).subspan(at, item.choices.size());
    at += own.size();
    api::EvalReport::Question& q = report.questions.emplace_back();
    q.prompt = item.prompt;
    q.answer = item.choices[static_cast<size_t>(item.right)];
    q.output = item.choices[static_cast<size_t>(likeliest(own))];
    q.exact = likeliest(own) == item.right;
    for (const Score& score : own) q.logprobs.push_back(-score.nll);
    right += q.exact ? 1 : 0;
  }
  report.accuracy = right / static_cast<double>(report.items);
  return report;
}

}  // namespace accrete
