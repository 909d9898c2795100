// What the verbs of the command line share: options, output, progress.
//
// Contract: with --json one JSON object on standard output; progress and messages on
// standard error. Exit status 0 done, 1 failed or refused, 2 wrong usage.
//
// A verb parses and prints. The work is the workspace's (workspace/workspace.h), which makes the
// JSON too; only pretraining reaches below it.
//
// The program itself (main.cc) knows no tensors: it runs the verbs that need none and loads the
// library of all verbs (verbs.cc), and with it libtorch, for the others. `bench` is a program of
// its own (bench/verbs/main.cc).
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "accrete/types.h"
#include "base/progress.h"

namespace accrete::cli {

inline constexpr const char* kVersion = ACCRETE_VERSION;

// The choices of --ranking.
inline constexpr const char* kRankings = "{interference,tfidf,gradient,fisher,kl,tf,random,all}";

struct Common {
  bool json = false;
  bool quiet = false;
  std::string progress = "text";  // or json: one object an event
  uint64_t seed = 0;
  api::OpenOptions open;

  // Progress on standard error (a bar on a terminal, plain lines in a pipe, nothing with --quiet),
  // and Ctrl-C.
  Reporter reporter() const;
  api::Callbacks callbacks() const;  // the same for the public interface
  // Prints the result: the object with --json, `text` otherwise.
  void print(const nlohmann::ordered_json& object, const std::string& text) const;
};

// A verb adds its subcommand; `run` is set when it was chosen.
using Run = std::function<int()>;
using AddVerb = void (*)(CLI::App& app, Common& common, Run& run);

// All but `bench`.
std::span<const AddVerb> verbs();
// Parses the command line with these verbs, runs the chosen one and reports errors. Returns the
// exit status.
int run_verbs(std::span<const AddVerb> verbs, int argc, char** argv);
// The program with these verbs, for what is made of it.
void set_up(CLI::App& app, std::span<const AddVerb> verbs, Common& common, Run& run);

// --json, --quiet, --seed, --device, --dtype, --threads; and at the end of the verb's help an
// example of its use.
void add_common(CLI::App& verb, Common& common, const std::string& example = "");

// --overlay NAME, of verbs that work on the facts of one person or tenant too.
void add_overlay(CLI::App& verb, Common& common);

// Checks of numbers.
CLI::Validator above_zero();
CLI::Validator zero_or_above();

// Help: what an option takes is its type name, and { , } in it are its choices.
std::shared_ptr<CLI::FormatterBase> help_formatter();
// Those choices; empty: anything goes.
std::vector<std::string> choices(const CLI::Option& option);

// A table with aligned columns for standard output.
std::string table(const std::vector<std::vector<std::string>>& rows);
std::string percent(double share);

void add_retrofit(CLI::App& app, Common& common, Run& run);
void add_upgrade(CLI::App& app, Common& common, Run& run);
void add_teach(CLI::App& app, Common& common, Run& run);
void add_forget(CLI::App& app, Common& common, Run& run);
void add_plan(CLI::App& app, Common& common, Run& run);
void add_act(CLI::App& app, Common& common, Run& run);
void add_ask(CLI::App& app, Common& common, Run& run);
void add_chat(CLI::App& app, Common& common, Run& run);
void add_check(CLI::App& app, Common& common, Run& run);
void add_probe(CLI::App& app, Common& common, Run& run);
void add_log(CLI::App& app, Common& common, Run& run);
void add_undo(CLI::App& app, Common& common, Run& run);  // undo, redo, revert, tag
void add_diff(CLI::App& app, Common& common, Run& run);
void add_audit(CLI::App& app, Common& common, Run& run);  // audit, compact
void add_digest(CLI::App& app, Common& common, Run& run);
void add_eval(CLI::App& app, Common& common, Run& run);
void add_pretrain(CLI::App& app, Common& common, Run& run);
void add_export(CLI::App& app, Common& common, Run& run);
void add_overlay_verb(CLI::App& app, Common& common, Run& run);
void add_merge(CLI::App& app, Common& common, Run& run);
void add_completion(CLI::App& app, Common& common, Run& run);
void add_serve(CLI::App& app, Common& common, Run& run);
void add_key(CLI::App& app, Common& common, Run& run);
std::string completion_script(const CLI::App& app, const std::string& shell);

}  // namespace accrete::cli
