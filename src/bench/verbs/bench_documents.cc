// bench documents: people's questions about passages that were taught.
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/format.h"
#include "bench/document_bench.h"
#include "bench/verbs/bench.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

struct BenchDocuments {
  std::string model, out;
  DocumentBenchOptions options;
};

std::string to_text(const nlohmann::ordered_json& json) {
  if (!json.contains("choice")) return "the features are written\n";
  const auto& c = json["choice"];
  std::string text =
      table({{"DOCUMENTS", "PASSAGES", "RIGHT FIRST", "IN THREE", "TOLD RIGHT", "TOLD WRONG",
              "LEFT OUT TOLD", "UNANSWERABLE TOLD", "UNRELATED TOLD"},
             {json["documents"].dump(), json["passages"].dump(), percent(c["first_right"]),
              percent(c["in_three"]), percent(c["told_right"]), percent(c["told_wrong"]),
              percent(c["not_answered_told"]), percent(c["unanswerable_told"]),
              accrete::format("{} of {}", c["unrelated_told"].dump(), c["unrelated"].dump())}});
  std::vector<std::vector<std::string>> rows = {
      {"METHOD", "ASKED", "F1", "EXACT", "CONTAINS", "SECONDS"}};
  for (const auto& r : json["rows"])
    rows.push_back({r["method"], r["asked"].dump(), percent(r["f1"]), percent(r["exact"]),
                    percent(r["contains"]), accrete::format("{:.0f}", r["seconds"].get<double>())});
  return rows.size() == 1 ? text : text + "\n" + table(rows);
}

}  // namespace

void add_bench_documents(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchDocuments>();
  auto* verb = bench.add_subcommand(
      "documents", "Questions about documents: closed book, with the text, and as taught");
  DocumentBenchOptions& o = state->options;
  verb->add_option("MODEL", state->model, "A model folder made by retrofit; it is not changed")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--data", o.data,
                   "Lines of question, answers, and context or text and title; or a folder")
      ->type_name("FILE")
      ->required();
  verb->add_option("--half", o.half, "Of the documents: dev to tune on, test to report, or all")
      ->type_name("{dev,test,all}")
      ->check(CLI::IsMember({"dev", "test", "all"}))
      ->capture_default_str();
  verb->add_option("--questions", o.questions, "How many are answered, in each way; 0: none")
      ->check(zero_or_above())
      ->capture_default_str();
  verb->add_option("--methods", o.methods,
                   "Of these: closed, context, top1, top3, accrete; parted by commas")
      ->type_name("METHOD")
      ->delimiter(',');
  verb->add_option("--features", o.features,
                   "Write what the choice is made by, to fit it, and measure nothing")
      ->type_name("FILE");
  verb->add_option("--out", state->out, "Write the JSON to this file as well")->type_name("FILE");
  add_common(*verb, common, "accrete bench documents my-model --data questions.jsonl");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      state->options.unrelated = data_folder() / "desk" / "unrelated.jsonl";
      const LanguageModel model = LanguageModel::open(state->model, open_options(common));
      const auto json = run_document_bench(model, state->options, common.reporter());
      if (!state->out.empty()) write_file_atomically(state->out, json.dump(1) + "\n");
      common.print(json, to_text(json));
      return 0;
    };
  });
}

}  // namespace accrete::cli
