// eval: how much of a file is answered right.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {

void add_eval(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, data, items, few_shot;
    api::EvalOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb =
      app.add_subcommand("eval", "Answer a question file, or measure text in bits per byte");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("DATA", state->data,
                   "Questions with answers or choices (.jsonl), or text (.txt)")
      ->type_name("FILE")
      ->required();
  verb->add_option("--items", state->items, "Write one JSON line an item to this file")
      ->type_name("FILE");
  verb->add_option(
          "--few-shot", state->few_shot,
          "Demonstrations before each question, .jsonl; asks as plain Question/Answer text")
      ->type_name("FILE");
  verb->add_flag("--raw", state->options.raw, "Prompts as they are, without the chat template");
  verb->add_flag("--asked", state->options.asked,
                 "Ask in the phrasings under `asked`, which are never taught");
  verb->add_option("--max-tokens", state->options.max_tokens, "Longest answer")
      ->type_name("TOKENS")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--caution", state->options.caution,
                   "Above 0: take fewer questions for what was taught, below 0: more")
      ->type_name("X")
      ->capture_default_str();
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete eval my-model questions.jsonl --items answers.jsonl");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      std::optional<Dataset> demonstrations;
      if (!state->few_shot.empty()) demonstrations = read_dataset(state->few_shot);
      state->options.seed = common.seed;
      const auto r = Workspace::open(state->model, common.open)
                         .eval_file(state->data, state->options, demonstrations, common.reporter());
      std::vector<std::vector<std::string>> rows = {{"items", std::to_string(r.items)}};
      if (r.bits_per_byte)
        rows.push_back({"bits per byte", accrete::format("{:.5f}", *r.bits_per_byte)});
      if (r.accuracy) rows.push_back({"right choice", percent(*r.accuracy)});
      if (r.shares) {
        rows.push_back({"exact", percent(r.shares->exact)});
        rows.push_back({"f1", percent(r.shares->f1)});
        rows.push_back({"begins right", percent(r.shares->begins)});
        if (r.shares->by_facts)
          rows.push_back({"by what was taught", percent(*r.shares->by_facts)});
      }
      if (!r.questions.empty() && !state->items.empty()) {
        std::string lines;
        for (const auto& question : r.questions)
          lines +=
              to_json(question).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
              "\n";
        write_file_atomically(state->items, lines);
      }
      common.print(to_json(r), table(rows));
      return 0;
    };
  });
}

}  // namespace accrete::cli
