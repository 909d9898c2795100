#include "learn/pretrain/pretrain.h"

#include <malloc.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

nlohmann::ordered_json number(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

std::string summary(const std::string& model, const PretrainResult& r) {
  std::string text;
  for (const auto& name : r.left_out)
    text += accrete::format("left out: {} (give its folder with --data)\n", name);
  if (!r.finished)
    return text + accrete::format("stopped after step {} of {}, {:.0f} s; go on with --resume\n",
                                  r.step, r.steps, r.seconds);
  text += accrete::format("{}: {:.1f} M parameters, {} slots, {:.1f} M tokens in {:.0f} s\n", model,
                          static_cast<double>(r.parameters) / 1e6, r.slots,
                          static_cast<double>(r.tokens) / 1e6, r.seconds);
  if (std::isfinite(r.evaluation.bits_per_byte))
    text += accrete::format("held out: {:.3f} bits per byte\n", r.evaluation.bits_per_byte);
  if (std::isfinite(r.evaluation.taught))
    text += accrete::format("facts: {} as trained", percent(r.evaluation.taught));
  if (std::isfinite(r.evaluation.asked))
    text += accrete::format(", {} asked otherwise", percent(r.evaluation.asked));
  if (std::isfinite(r.evaluation.taught)) text += "\n";
  return text;
}

}  // namespace

void add_pretrain(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string config, model, data;
    PretrainOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "pretrain", "Train a small memory model from scratch, of which every verb can make use");
  verb->add_option("CONFIG", state->config, "What to train, in TOML: docs/pretrain.md")
      ->type_name("FILE")
      ->required();
  verb->add_option("--out", state->model, "The new model's folder; logs go to FOLDER.run")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--data", state->data,
                   "Folder of the corpora that the config takes from there; else they are left out")
      ->type_name("FOLDER");
  verb->add_flag("--resume", state->options.resume,
                 "Go on where this run was stopped: the result is the same to the byte");
  verb->add_option("--max-seconds", state->options.max_seconds,
                   "Stop after so long with a checkpoint, to be resumed; 0: never")
      ->type_name("SECONDS")
      ->check(zero_or_above())
      ->capture_default_str();
  add_common(*verb, common, "accrete pretrain bench/native.toml --out native");
  verb->callback([state, verb, &common, &run] {
    run = [state, verb, &common] {
      if (common.open.dtype != "float32")
        throw Error(ErrorCode::kUnsupported, "pretraining keeps float32 weights",
                    "leave --dtype away; `compute` in the config names bfloat16");
      // Every step makes and drops the same large tensors: to give their pages back to the system
      // and have them cleared again takes an eighth of the time.
      ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
      ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
      if (verb->get_option("--seed")->count() > 0) state->options.seed = common.seed;
      state->options.data = state->data;
      state->options.threads = common.open.threads;
      state->options.device = common.open.device;
      state->options.tool_version = kVersion;
      const auto r = pretrain(state->config, state->model, state->options, common.reporter());
      common.print({{"model", state->model},
                    {"finished", r.finished},
                    {"step", r.step},
                    {"steps", r.steps},
                    {"parameters", r.parameters},
                    {"slots", r.slots},
                    {"tokens", r.tokens},
                    {"tokens_per_second", r.tokens_per_second},
                    {"loss", number(r.loss)},
                    {"bits_per_byte", number(r.evaluation.bits_per_byte)},
                    {"facts_taught", number(r.evaluation.taught)},
                    {"facts_asked", number(r.evaluation.asked)},
                    {"gate", {{"radius", r.gate.radius}, {"softness", r.gate.softness}}},
                    {"left_out", r.left_out},
                    {"seconds", r.seconds}},
                   summary(state->model, r));
      return 0;
    };
  });
}

}  // namespace accrete::cli
