// ask and chat.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "text/wording.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

// What ask and chat take alike.
void add_sampling(CLI::App& verb, api::AskOptions& o) {
  verb.add_option("--caution", o.caution,
                  "Above 0: take fewer questions for what was taught, below 0: more; added to the "
                  "model's own")
      ->type_name("X")
      ->capture_default_str();
  verb.add_option("--otherwise", o.otherwise,
                  "Say this where nothing taught was asked for; default: the model answers")
      ->type_name("TEXT");
  verb.add_flag("--explain", o.explain,
                "Name the updates and the lines taught that the answer leans on");
  verb.add_option("--max-tokens", o.max_tokens, "Longest answer")
      ->type_name("TOKENS")
      ->check(above_zero())
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

std::string to_text(const api::RowExplanation& e) {
  std::string text = accrete::format("\nlog p(answer) {:.2f}; without any update {:.2f}\n",
                                     e.log_probability, e.base_log_probability);
  if (e.updates.empty()) text += "no update speaks here: the base knows it\n";
  constexpr size_t kMost = 5;
  for (size_t i = 0; i < std::min(kMost, e.updates.size()); ++i) {
    const auto& u = e.updates[i];
    text += accrete::format("{:+8.2f}  update {}  {}\n", u.effect, u.update, u.source);
    for (const auto& line : u.lines)
      text += accrete::format("          line {}: {} {}\n", line.line, line.question, line.answer);
  }
  return text;
}

std::string to_text(const api::FactExplanation::Candidate& c) {
  return accrete::format(
      "{}update {}, line {} of {}: \"{}\" -> {}\n  probability {:.3f}, cosine {:.3f} masked, "
      "{:.3f} whole{}\n{}",
      c.overlay.empty() ? "" : accrete::format("overlay {}, ", c.overlay), c.update, c.line,
      c.source, c.wording, c.leave ? "left to the model" : c.answer, c.probability, c.masked_cosine,
      c.whole_cosine, c.cross ? accrete::format(", read together {:+.1f}", *c.cross) : "",
      c.contrast ? "  a word of the question asks for another thing\n" : "");
}

std::string to_text(const api::FactExplanation& e) {
  std::string text;
  if (!e.nearest) {
    text =
        "\nby the model itself: nothing that was taught is about this, or the question does not "
        "name it\n";
  } else {
    text = e.accepted ? "\nby the fact of " : "\nby the model itself; nearest is ";
    text += to_text(*e.nearest) + "  asked as \"" + e.read + "\"\n";
    if (!e.accepted)
      text += e.left ? "  a question that is left to the model lies nearer\n"
              : e.only_told
                  ? "  the message tells of this, and asks for something else\n"
                  : accrete::format(
                        "  {:.3f} was needed; is it the fact that was meant, teach it with "
                        "this wording too\n",
                        e.needed);
  }
  for (const auto& other : e.also) text += "and by the fact of " + to_text(other);
  if (e.about > 0)
    text += accrete::format("with {} more facts about it in front of the question\n", e.about);
  if (e.runner_up) text += "next: " + to_text(*e.runner_up);
  return text;
}

std::string to_text(const api::PassageSource& s) {
  return accrete::format(
      "{}{}\n  \"{}\"\n  probability {:.3f}, {} of the question's words, cosine {:.3f}{}; "
      "{}update {}\n",
      s.source, s.section.empty() ? "" : ", " + s.section, s.quote, s.probability,
      percent(s.covered), s.cosine,
      s.read ? accrete::format(", read together {:+.1f}", *s.read) : "",
      s.overlay.empty() ? "" : accrete::format("overlay {}, ", s.overlay), s.update);
}

// Of an answer that was asked with --explain.
std::string explanation_of(const api::Answer& answer) {
  if (!answer.explanation) return {};
  const api::Explanation& e = *answer.explanation;
  if (!e.fact) return to_text(*e.rows);
  if (answer.sources.empty()) {
    std::string text = to_text(*e.fact);
    if (!answer.fact && e.nearest_passage)
      text += "nearest passage, not taken (.5 is needed): " + to_text(*e.nearest_passage);
    return text;
  }
  std::string text = "\nfrom what was taught in\n";
  for (const api::PassageSource& s : answer.sources) text += to_text(s);
  if (e.fact->nearest) text += "nearest fact, not taken: " + to_text(*e.fact->nearest);
  return text;
}

// Writes an answer while it is made; not with --json.
Workspace::Stream printer(const Common& common) {
  if (common.json) return nullptr;
  return [](size_t, std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
}

}  // namespace

void add_ask(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, prompt;
    api::AskOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("ask", "Ask the model once; streams the answer");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("PROMPT", state->prompt, "The question")->type_name("TEXT")->required();
  verb->add_flag("--raw", state->options.raw,
                 "Continue the prompt as it is, without the chat template");
  add_sampling(*verb, state->options);
  add_overlay(*verb, common);
  add_common(*verb, common,
             "accrete ask my-model \"Where was Ada Lovelace born?\" --max-tokens 32");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      if (identity_of(state->prompt).empty())
        throw Error(ErrorCode::kInvalidArgument, "the question is empty", "ask something");
      state->options.seed = common.seed;
      const auto workspace = Workspace::open(state->model, common.open);
      const api::Answer answer =
          workspace.ask({state->prompt, {}}, state->options, printer(common), common.reporter());
      common.print(to_json(answer), "\n" + explanation_of(answer));
      return 0;
    };
  });
}

void add_chat(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, system;
    api::AskOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("chat", "Talk with the model; an empty line or Ctrl-D ends it");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("--system", state->system,
                   "System message, before the first turn; default: the template's");
  add_sampling(*verb, state->options);
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete chat my-model --system \"You answer in one sentence.\"");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto workspace = Workspace::open(state->model, common.open);
      workspace.require_chat();
      state->options.seed = common.seed;
      api::Request request;
      if (!state->system.empty()) request.messages.push_back({"system", state->system});
      nlohmann::ordered_json turns = nlohmann::ordered_json::array();
      const bool prompts = !common.json && ::isatty(STDIN_FILENO) != 0;
      for (std::string line;;) {
        if (prompts) std::fputs("> ", stderr);
        if (!std::getline(std::cin, line) || line.empty()) break;
        request.messages.push_back({"user", line});
        const api::Answer answer = workspace.ask(request, state->options, printer(common));
        if (!common.json) std::fputs(("\n" + explanation_of(answer)).c_str(), stdout);
        request.messages.push_back({"assistant", answer.text});
        turns.push_back({{"user", line}, {"assistant", answer.text}});
        if (answer.has_facts) {
          turns.back()["fact"] = answer.fact;
          turns.back()["passage"] = !answer.sources.empty();
        }
        if (!answer.sources.empty()) turns.back()["sources"] = to_json(answer)["sources"];
        if (answer.explanation) turns.back()["explain"] = to_json(answer)["explain"];
      }
      common.print({{"turns", turns}}, "");
      return 0;
    };
  });
}

}  // namespace accrete::cli
