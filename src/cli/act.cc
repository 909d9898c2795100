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

// How many rows of how many numbers follow, little-endian as the machine.
struct PackedHeader {
  uint32_t rows = 0, width = 0;
};

constexpr uint64_t kMostPacked = uint64_t{1} << 26;  // numbers in one block

// Reads `bytes` of them, or fewer where standard input ends.
size_t read_bytes(void* to, size_t bytes) {
  return std::fread(to, 1, bytes, stdin);
}

void write_packed(const std::vector<api::Action>& actions) {
  PackedHeader header{static_cast<uint32_t>(actions.size()),
                      static_cast<uint32_t>(actions.front().outputs.size())};
  std::fwrite(&header, sizeof header, 1, stdout);
  for (const auto& action : actions)
    std::fwrite(action.outputs.data(), sizeof(float), action.outputs.size(), stdout);
  std::fflush(stdout);
}

void act_packed(const Workspace& workspace) {
  PackedHeader header;
  for (int64_t number = 1;; ++number) {
    const std::string source = accrete::format("standard input, block {}", number);
    const auto cut = [&source] {
      return Error(ErrorCode::kFormat, source + ": it ends in the middle",
                   "a block is two uint32, rows and width, and rows x width float32");
    };
    const size_t begun = read_bytes(&header, sizeof header);
    if (begun == 0) return;
    if (begun != sizeof header) throw cut();
    const uint64_t numbers = uint64_t{header.rows} * header.width;
    if (numbers == 0 || numbers > kMostPacked)
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: {} rows of {} numbers", source, header.rows, header.width),
                  "a block begins with two uint32, rows and width");
    std::vector<float> inputs(numbers);
    if (read_bytes(inputs.data(), 4 * numbers) != 4 * numbers) throw cut();
    write_packed(workspace.act(vector_rows(std::move(inputs), header.width, source)));
  }
}

}  // namespace

void add_act(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb = app.add_subcommand(
      "act", "Answer observations: JSON lines on standard input, a line of JSON for each");
  verb->add_option("MODEL", *folder, "A model of vectors made by retrofit (docs/domains.md)")
      ->type_name("FOLDER")
      ->required();
  auto packed = std::make_shared<bool>(false);
  verb->add_flag(
      "--packed", *packed,
      "Blocks of numbers instead of lines: two uint32, rows and width, then float32; the "
      "answer likewise");
  add_common(*verb, common, "accrete act my-policy < observations.jsonl");
  verb->callback([folder, packed, &common, &run] {
    run = [folder, packed, &common] {
      const auto workspace = Workspace::open(*folder, common.open);
      if (*packed) {
        act_packed(workspace);
        return 0;
      }
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
