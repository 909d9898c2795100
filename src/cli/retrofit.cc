#include "learn/retrofit.h"

#include <chrono>

#include "api/installation.h"
#include "base/error.h"
#include "cli/cli.h"

namespace accrete::cli {

void add_retrofit(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string source, model;
    std::vector<std::string> corpus;
    RetrofitOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "retrofit", "Give an ordinary model memory layers; its output stays bit-identical");
  verb->add_option("SRC", state->source, "A Hugging Face folder or a .gguf file")
      ->type_name("FILE")
      ->required();
  verb->add_option("MODEL", state->model, "The new model's folder")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--corpus", state->corpus,
                   "Background text to keep, .txt or .jsonl, may be .zst; may be repeated; "
                   "default: the one that comes along")
      ->type_name("FILE");
  verb->add_option(
          "--blocks", state->options.blocks,
          "Blocks with memory, from 0, as in 3,6,9; the lowest addresses; default: by depth")
      ->type_name("N,N,...")
      ->delimiter(',');
  auto& keys = state->options.keys;
  verb->add_option("--heads", keys.heads, "Lookup heads")->capture_default_str();
  verb->add_option("--half-keys", keys.half_keys, "n: there are heads x n^2 slots")
      ->capture_default_str();
  verb->add_option("--top-k", keys.top_k, "Slots that a head reads for a token")
      ->capture_default_str();
  verb->add_option("--query-width", keys.query_width, "Principal components of a query")
      ->capture_default_str();
  verb->add_option("--background-tokens", state->options.background_tokens,
                   "How much of the corpus the keys are fitted to and the access log holds")
      ->type_name("TOKENS")
      ->capture_default_str();
  add_common(*verb, common, "accrete retrofit SmolLM2-135M-Instruct.gguf my-model");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto start = std::chrono::steady_clock::now();
      std::vector<std::filesystem::path> corpus(state->corpus.begin(), state->corpus.end());
      if (corpus.empty()) corpus.push_back(data_folder() / "background.txt.zst");
      state->options.seed = common.seed;
      state->options.open = common.open;
      state->options.tool_version = kVersion;
      const auto result =
          retrofit(state->source, state->model, corpus, state->options, common.reporter());
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      common.print({{"model", state->model},
                    {"layers", result.blocks},
                    {"slots", result.slots},
                    {"background_tokens", result.background_tokens},
                    {"seconds", seconds}},
                   fmt::format("{}: {} slots, {} memory layers, fitted to {} tokens in {:.0f} s\n",
                               state->model, result.slots, result.blocks.size(),
                               result.background_tokens, seconds));
      return 0;
    };
  });
}

}  // namespace accrete::cli
