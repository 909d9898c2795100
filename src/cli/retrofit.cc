// retrofit: a new model folder.
#include <nlohmann/json.hpp>

#include "accrete/model.h"
#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"

namespace accrete::cli {

void add_retrofit(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string source, model;
    api::RetrofitOptions options;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "retrofit", "Give an ordinary model a memory; its output stays bit-identical");
  verb->add_option("SRC", state->source,
                   "A Hugging Face folder or a .gguf file; or a folder of a model of vectors: a "
                   "policy_mlp, feature_classifier or table_mlp (docs/domains.md)")
      ->type_name("FILE")
      ->required();
  verb->add_option("MODEL", state->model, "The new model's folder")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--reader", state->options.reader,
                   "The sentence encoder that reads questions, a folder of the BERT family; "
                   "default: the one that comes along")
      ->type_name("FOLDER");
  verb->add_option("--block", state->options.block,
                   "The block whose output values are added to, from 0; default: by depth")
      ->type_name("N");
  verb->add_option("--tell", state->options.tell,
                   "How the model is told an accepted fact; default: by what the model can")
      ->type_name("{value,note,both}");
  verb->add_option("--caution", state->options.caution,
                   "Above 0: accept fewer questions as taught, below 0: more; in log-odds")
      ->type_name("X")
      ->capture_default_str();
  constexpr const char* kVectors = "Models of vectors";
  verb->add_option("--columns", state->options.columns, "Slots of the memory, at most 16384")
      ->check(above_zero())
      ->group(kVectors)
      ->capture_default_str();
  verb->add_option("--winners", state->options.winners,
                   "Slots that a row may use; 0: a quarter of them")
      ->check(zero_or_above())
      ->group(kVectors)
      ->capture_default_str();
  verb->add_option("--ridge", state->options.ridge,
                   "Of the closed form: larger, smaller values, which say less far from the rows")
      ->check(above_zero())
      ->group(kVectors)
      ->capture_default_str();
  verb->add_option("--background", state->options.background,
                   "Rows at which the answers should stay as they are, a teach set")
      ->type_name("FILE")
      ->group(kVectors);
  add_common(*verb, common, "accrete retrofit SmolLM2-135M-Instruct.gguf my-model");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      api::RetrofitOptions& options = state->options;
      options.device = common.open.device;
      options.dtype = common.open.dtype;
      options.threads = common.open.threads;
      options.seed = common.seed;
      const auto r = api::retrofit(state->source, state->model, options, common.callbacks());
      if (r.columns > 0) {
        common.print(to_json(r), accrete::format("{}: {} winners of {} columns; made in {:.1f} s\n",
                                                 r.model, r.winners, r.columns, r.seconds));
        return 0;
      }
      common.print(to_json(r),
                   accrete::format("{}: facts are told by {} at block {}; made in {:.1f} s\n",
                                   r.model, r.tell, r.block, r.seconds));
      return 0;
    };
  });
}

}  // namespace accrete::cli
