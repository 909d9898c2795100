#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "cli/cli.h"
#include "eval/probe.h"
#include "eval/score.h"
#include "eval/text_metrics.h"
#include "model/ask.h"

namespace accrete::cli {

void add_eval(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, data, items, few_shot;
    bool raw = false, asked = false;
    int64_t max_tokens = 48;
    double caution = 0;
  };
  auto state = std::make_shared<State>();
  auto* verb =
      app.add_subcommand("eval", "Answer a question file, or measure text in bits per byte");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("DATA", state->data, "Questions with answers (.jsonl), or text (.txt)")
      ->type_name("FILE")
      ->required();
  verb->add_option("--items", state->items, "Write one JSON line an item to this file")
      ->type_name("FILE");
  verb->add_option(
          "--few-shot", state->few_shot,
          "Demonstrations before each question, .jsonl; asks as plain Question/Answer text")
      ->type_name("FILE");
  verb->add_flag("--raw", state->raw, "Prompts as they are, without the chat template");
  verb->add_flag("--asked", state->asked,
                 "Ask in the phrasings under `asked`, which are never taught");
  verb->add_option("--max-tokens", state->max_tokens, "Longest answer")
      ->type_name("TOKENS")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb->add_option("--caution", state->caution,
                   "Above 0: take fewer questions for what was taught, below 0: more")
      ->type_name("X")
      ->capture_default_str();
  add_common(*verb, common, "accrete eval my-model questions.jsonl --items answers.jsonl");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const Dataset data = read_dataset(state->data);
      std::optional<FewShot> few_shot;
      if (!state->few_shot.empty()) few_shot = make_few_shot(read_dataset(state->few_shot).items);
      const LanguageModel model = LanguageModel::open(state->model, common.open);
      const Reporter reporter = common.reporter();
      std::vector<std::string> texts;
      std::vector<const Item*> facts;
      for (const Item& item : data.items) {
        if (item.kind == Item::Kind::kText) texts.push_back(item.text);
        if (item.kind == Item::Kind::kFact && !item.leave) facts.push_back(&item);
      }
      nlohmann::ordered_json json = {{"items", data.items.size()}};
      std::vector<std::vector<std::string>> rows = {{"items", std::to_string(data.items.size())}};
      if (!texts.empty()) {
        const double bits = bits_per_byte(model, texts, reporter);
        json["bits_per_byte"] = bits;
        rows.push_back({"bits per byte", accrete::format("{:.5f}", bits)});
      }
      if (!facts.empty()) {
        ExampleOptions how;
        how.raw = state->raw || few_shot.has_value();
        AskOptions options;
        options.generate.max_tokens = state->max_tokens;
        options.generate.seed = common.seed;
        options.caution = state->caution;
        // A demonstration's answer ends with its line; all else is read to its natural stop.
        if (few_shot) options.generate.stop = {"\n"};
        double exact = 0, f1 = 0, begins = 0, by_facts = 0;
        std::string lines;
        constexpr size_t kBatch = 32;
        for (size_t at = 0; at < facts.size(); at += kBatch) {
          reporter.check_cancelled();
          const size_t n = std::min(kBatch, facts.size() - at);
          std::vector<AskRequest> requests;
          std::vector<std::string> asked;
          for (size_t i = 0; i < n; ++i) {
            const Item& item = *facts[at + i];
            asked.push_back((state->asked || item.prompts.empty()) && !item.asked.empty()
                                ? item.asked.front()
                                : item.prompts.front());
            requests.push_back(single_question(
                model, few_shot ? few_shot_prompt(*few_shot, asked.back()) : asked.back(),
                how.raw));
          }
          const auto outputs = ask(model, requests, options);
          for (size_t i = 0; i < n; ++i) {
            const Item& item = *facts[at + i];
            const std::string& said = outputs[i].generation.text;
            const bool is_exact = says_exactly(said, item.answers);
            const double f1_now = best_answer(said, item.answers).f1;
            exact += is_exact;
            f1 += f1_now;
            by_facts += outputs[i].choice.fact >= 0;
            bool starts = false;
            for (const auto& answer : item.answers)
              starts = starts ||
                       (normalize_answer(said) + " ").starts_with(normalize_answer(answer) + " ");
            begins += starts;
            lines += nlohmann::ordered_json({{"prompt", asked[i]},
                                             {"answer", item.answers.front()},
                                             {"output", said},
                                             {"exact", is_exact},
                                             {"f1", f1_now},
                                             {"begins", starts}})
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
                     "\n";
          }
          reporter.report("eval", static_cast<int64_t>(at + n), static_cast<int64_t>(facts.size()));
        }
        const auto n = static_cast<double>(facts.size());
        json["exact"] = exact / n;
        json["f1"] = f1 / n;
        json["begins"] = begins / n;
        rows.push_back({"exact", percent(exact / n)});
        rows.push_back({"f1", percent(f1 / n)});
        rows.push_back({"begins right", percent(begins / n)});
        if (model.has_facts()) {
          json["by_facts"] = by_facts / n;
          rows.push_back({"by what was taught", percent(by_facts / n)});
        }
        if (!state->items.empty()) write_file_atomically(state->items, lines);
      }
      common.print(json, table(rows));
      return 0;
    };
  });
}

}  // namespace accrete::cli
