// act: what a model of vectors says to observations, line by line.
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

// One line of the answer: the class and the scores by name, or the values in their order.
nlohmann::ordered_json answer_line(const api::Action& action,
                                   const std::vector<std::string>& outputs) {
  nlohmann::ordered_json json;
  if (action.label.empty()) {
    json["outputs"] = action.outputs;
    return json;
  }
  json["label"] = action.label;
  for (size_t i = 0; i < outputs.size(); ++i) json["scores"][outputs[i]] = action.outputs[i];
  return json;
}

}  // namespace

void add_act(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb = app.add_subcommand(
      "act", "Answer observations: JSON lines on standard input, a line of JSON for each");
  verb->add_option("MODEL", *folder, "A model of vectors made by retrofit (docs/domains.md)")
      ->type_name("FOLDER")
      ->required();
  add_common(*verb, common, "accrete act my-policy < observations.jsonl");
  verb->callback([folder, &common, &run] {
    run = [folder, &common] {
      const auto workspace = Workspace::open(*folder, common.open);
      const auto outputs = workspace.info().outputs;
      std::string line;
      for (int64_t number = 1; std::getline(std::cin, line); ++number) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        const VectorSet row =
            parse_vector_rows(line, accrete::format("standard input, line {}", number));
        const std::string text = answer_line(workspace.act(row).front(), outputs).dump() + "\n";
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);  // whoever steps the world waits for it
      }
      return 0;
    };
  });
}

}  // namespace accrete::cli
