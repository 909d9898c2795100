// What the verbs of the command line share: options, output, progress.
//
// Contract (design §9): with --json one JSON object on standard output; progress and messages on
// standard error. Exit status 0 done, 1 failed or refused, 2 wrong usage.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/progress.h"
#include "model/language_model.h"

namespace accrete::cli {

inline constexpr const char* kVersion = "0.1.0";

struct Common {
  bool json = false;
  bool quiet = false;
  uint64_t seed = 0;
  OpenOptions open;

  // Progress on standard error (a bar on a terminal, plain lines in a pipe, nothing with --quiet),
  // and Ctrl-C.
  Reporter reporter() const;
  // Prints the result: the object with --json, `text` otherwise.
  void print(const nlohmann::ordered_json& object, const std::string& text) const;
};

// A verb adds its subcommand; `run` is set when it was chosen.
using Run = std::function<int()>;
using AddVerb = void (*)(CLI::App& app, Common& common, Run& run);

// --json, --quiet, --seed, --device, --dtype, --threads.
void add_common(CLI::App& verb, Common& common);

// A table with aligned columns for standard output.
std::string table(const std::vector<std::vector<std::string>>& rows);
std::string percent(double share);

// The data folder that came with the program: $ACCRETE_DATA, beside the installed program, or the
// source tree's.
std::filesystem::path data_folder();

void add_retrofit(CLI::App& app, Common& common, Run& run);
void add_teach(CLI::App& app, Common& common, Run& run);
void add_ask(CLI::App& app, Common& common, Run& run);
void add_chat(CLI::App& app, Common& common, Run& run);
void add_check(CLI::App& app, Common& common, Run& run);
void add_probe(CLI::App& app, Common& common, Run& run);
void add_log(CLI::App& app, Common& common, Run& run);
void add_undo(CLI::App& app, Common& common, Run& run);
void add_digest(CLI::App& app, Common& common, Run& run);
void add_bench(CLI::App& app, Common& common, Run& run);
void add_eval(CLI::App& app, Common& common, Run& run);

}  // namespace accrete::cli
