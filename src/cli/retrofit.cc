#include <chrono>

#include "api/find_reader.h"
#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "learn/retrofit_facts.h"

namespace accrete::cli {

void add_retrofit(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string source, model, reader, tell;
    std::optional<int64_t> block;
    RetrofitFactsOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "retrofit", "Give an ordinary model a memory; its output stays bit-identical");
  verb->add_option("SRC", state->source, "A Hugging Face folder or a .gguf file")
      ->type_name("FILE")
      ->required();
  verb->add_option("MODEL", state->model, "The new model's folder")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--reader", state->reader,
                   "The sentence encoder that reads questions, a folder of the BERT family; "
                   "default: the one that comes along")
      ->type_name("FOLDER");
  verb->add_option("--block", state->block,
                   "The block whose output values are added to, from 0; default: by depth")
      ->type_name("N");
  verb->add_option("--tell", state->tell,
                   "How the model is told an accepted fact; default: by what the model can")
      ->type_name("{value,note,both}");
  verb->add_option("--caution", state->options.caution,
                   "Above 0: accept fewer questions as taught, below 0: more; in log-odds")
      ->type_name("X")
      ->capture_default_str();
  add_common(*verb, common, "accrete retrofit SmolLM2-135M-Instruct.gguf my-model");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto start = std::chrono::steady_clock::now();
      RetrofitFactsOptions& options = state->options;
      options.reader = find_reader(state->reader);
      options.block = state->block;
      if (!state->tell.empty()) options.tell = parse_tell(state->tell);
      options.open = common.open;
      options.tool_version = kVersion;
      const auto result = retrofit_facts(state->source, state->model, options, common.reporter());
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      common.print({{"model", state->model},
                    {"block", result.block},
                    {"tell", tell_name(result.tell)},
                    {"reader", result.reader_digest},
                    {"seconds", seconds}},
                   accrete::format("{}: facts are told by {} at block {}; made in {:.1f} s\n",
                                   state->model, tell_name(result.tell), result.block, seconds));
      return 0;
    };
  });
}

}  // namespace accrete::cli
