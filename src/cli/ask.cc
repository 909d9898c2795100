#include "model/ask.h"

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "base/interrupt.h"
#include "cli/cli.h"
#include "learn/explain.h"
#include "learn/fact_inspect.h"
#include "model/fact_memory.h"
#include "text/wording.h"

namespace accrete::cli {
namespace {

void add_sampling(CLI::App& verb, GenerateOptions& o) {
  verb.add_option("--max-tokens", o.max_tokens, "Longest answer")
      ->type_name("TOKENS")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--temperature", o.temperature, "Scale of randomness; 0: always the best token")
      ->capture_default_str();
  verb.add_option("--top-k", o.top_k, "Choose among the k best tokens; 0: all")
      ->capture_default_str();
  verb.add_option("--top-p", o.top_p, "Choose within this probability mass, above 0 to 1")
      ->capture_default_str();
  verb.add_option("--min-p", o.min_p, "Drop tokens below this share of the best one's probability")
      ->capture_default_str();
  verb.add_option("--repetition-penalty", o.repetition_penalty,
                  "Above 1: say less of what was said; 1: off")
      ->capture_default_str();
  verb.add_option("--stop", o.stop, "End before this text; may be repeated")->type_name("TEXT");
}

void add_caution(CLI::App& verb, double& caution) {
  verb.add_option("--caution", caution,
                  "Above 0: take fewer questions for what was taught, below 0: more; added to the "
                  "model's own")
      ->type_name("X")
      ->capture_default_str();
}

void add_explanation(const Explanation& e, nlohmann::ordered_json& json, std::string& text) {
  nlohmann::ordered_json updates = nlohmann::ordered_json::array();
  for (const Influence& u : e.updates) {
    nlohmann::ordered_json lines = nlohmann::ordered_json::array();
    for (const SourceLine& line : u.lines)
      lines.push_back({{"line", line.line},
                       {"question", line.question},
                       {"answer", line.answer},
                       {"similarity", line.similarity}});
    updates.push_back({{"id", u.update},
                       {"tag", u.tag},
                       {"source", u.source},
                       {"effect", u.effect},
                       {"lines", lines}});
  }
  json["explain"] = {{"log_probability", e.log_probability},
                     {"base_log_probability", e.base_log_probability},
                     {"updates", updates}};
  text += accrete::format("\nlog p(answer) {:.2f}; without any update {:.2f}\n", e.log_probability,
                          e.base_log_probability);
  if (e.updates.empty()) text += "no update speaks here: the base knows it\n";
  constexpr size_t kMost = 5;
  for (size_t i = 0; i < std::min(kMost, e.updates.size()); ++i) {
    const Influence& u = e.updates[i];
    text += accrete::format("{:+8.2f}  update {}  {}\n", u.effect, u.update, u.source);
    for (const SourceLine& line : u.lines)
      text += accrete::format("          line {}: {} {}\n", line.line, line.question, line.answer);
  }
}

// What a candidate is, for people who ask why.
nlohmann::ordered_json candidate_json(const FactMemory& memory, const Ledger& ledger,
                                      const Candidate& c) {
  const StoredFact& fact = memory.store().fact(c.fact);
  const TaughtItem& item = fact.text();
  const UpdateRecord origin = origin_of(ledger, fact);
  nlohmann::ordered_json json = {
      {"update", origin.id},       {"source", origin.source},
      {"line", item.line},         {"wording", item.prompts[static_cast<size_t>(c.key)]},
      {"subject", item.subject},   {"probability", c.probability},
      {"masked_cosine", c.masked}, {"whole_cosine", c.whole},
      {"contrast", c.contrast}};
  if (!item.leave) json["answer"] = item.answers.front();
  return json;
}

std::string candidate_text(const FactMemory& memory, const Ledger& ledger, const Candidate& c) {
  const StoredFact& fact = memory.store().fact(c.fact);
  const TaughtItem& item = fact.text();
  const UpdateRecord origin = origin_of(ledger, fact);
  return accrete::format(
      "update {}, line {} of {}: \"{}\" -> {}\n  probability {:.3f}, cosine {:.3f} masked, "
      "{:.3f} whole\n{}",
      origin.id, item.line, origin.source, item.prompts[static_cast<size_t>(c.key)],
      item.leave ? "left to the model" : item.answers.front(), c.probability, c.masked, c.whole,
      c.contrast ? "  a word of the question asks for another thing\n" : "");
}

void add_choice(const FactMemory& memory, const Ledger& ledger, const Choice& choice,
                nlohmann::ordered_json& json, std::string& text) {
  nlohmann::ordered_json out = {{"accepted", choice.fact >= 0}};
  if (choice.best.fact >= 0) {
    out[choice.fact >= 0 ? "fact" : "nearest"] = candidate_json(memory, ledger, choice.best);
    text += choice.fact >= 0 ? "\nby the fact of " : "\nby the model itself; nearest is ";
    text += candidate_text(memory, ledger, choice.best);
    out["needed"] = choice.needed;
    if (choice.fact < 0)
      text += choice.left ? "  a question that is left to the model lies nearer\n"
                          : accrete::format(
                                "  {:.3f} was needed; is it the fact that was meant, teach it with "
                                "this wording too\n",
                                choice.needed);
  } else {
    text += "\nby the model itself: nothing that was taught is about this\n";
  }
  if (choice.runner_up.fact >= 0) {
    out["runner_up"] = candidate_json(memory, ledger, choice.runner_up);
    text += "next: " + candidate_text(memory, ledger, choice.runner_up);
  }
  json["explain"] = out;
}

}  // namespace

void add_ask(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, prompt;
    bool raw = false, explain = false;
    double caution = 0;
    GenerateOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("ask", "Ask the model once; streams the answer");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("PROMPT", state->prompt, "The question")->type_name("TEXT")->required();
  verb->add_flag("--raw", state->raw, "Continue the prompt as it is, without the chat template");
  verb->add_flag("--explain", state->explain,
                 "Name the updates and the lines taught that the answer leans on");
  add_caution(*verb, state->caution);
  add_sampling(*verb, state->options);
  add_common(*verb, common,
             "accrete ask my-model \"Where was Ada Lovelace born?\" --max-tokens 32");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      if (identity_of(state->prompt).empty())
        throw Error(ErrorCode::kInvalidArgument, "the question is empty", "ask something");
      const LanguageModel model = LanguageModel::open(state->model, common.open);
      const std::vector<AskRequest> requests = {single_question(model, state->prompt, state->raw)};
      AskOptions how;
      how.generate = state->options;
      how.generate.seed = common.seed;
      how.caution = state->caution;
      StreamFn stream;
      if (!common.json)
        stream = [](size_t, std::string_view text) {
          std::fwrite(text.data(), 1, text.size(), stdout);
          std::fflush(stdout);
        };
      const auto asked = ask(model, requests, how, stream, common.reporter()).front();
      const Generation& out = asked.generation;
      nlohmann::ordered_json json = {
          {"text", out.text}, {"tokens", out.tokens.size()}, {"finish_reason", out.finish_reason}};
      std::string text = "\n";
      if (model.has_facts()) json["fact"] = asked.choice.fact >= 0;
      if (state->explain && model.has_facts()) {
        const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
        add_choice(model.facts(), ledger, asked.choice, json, text);
      } else if (state->explain) {
        const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
        add_explanation(explain(model, load_members(ledger), state->prompt, out.text, state->raw),
                        json, text);
      }
      common.print(json, text);
      return 0;
    };
  });
}

void add_chat(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, system;
    double caution = 0;
    GenerateOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("chat", "Talk with the model; an empty line or Ctrl-D ends it");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("--system", state->system,
                   "System message, before the first turn; default: the template's");
  add_caution(*verb, state->caution);
  add_sampling(*verb, state->options);
  add_common(*verb, common, "accrete chat my-model --system \"You answer in one sentence.\"");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const LanguageModel model = LanguageModel::open(state->model, common.open);
      if (!model.uses_chat(false))
        throw Error(ErrorCode::kUnsupported, "this model has no chat template",
                    "use `accrete ask --raw`");
      state->options.seed = common.seed;
      std::vector<Message> messages;
      if (!state->system.empty()) messages.push_back({"system", state->system});
      nlohmann::ordered_json turns = nlohmann::ordered_json::array();
      for (std::string line;;) {
        if (!common.json) std::fputs("> ", stderr);
        if (!std::getline(std::cin, line) || line.empty()) break;
        messages.push_back({"user", line});
        StreamFn stream;
        if (!common.json)
          stream = [](size_t, std::string_view text) {
            std::fwrite(text.data(), 1, text.size(), stdout);
            std::fflush(stdout);
          };
        AskRequest request;
        request.messages = messages;
        AskOptions how;
        how.generate = state->options;
        how.caution = state->caution;
        const auto asked = ask(model, {&request, 1}, how, stream).front();
        const Generation& out = asked.generation;
        if (!common.json) std::fputs("\n", stdout);
        messages.push_back({"assistant", out.text});
        turns.push_back({{"user", line}, {"assistant", out.text}});
        if (model.has_facts()) turns.back()["fact"] = asked.choice.fact >= 0;
      }
      common.print({{"turns", turns}}, "");
      return 0;
    };
  });
}

}  // namespace accrete::cli
