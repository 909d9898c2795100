// digest: the proof of a state.
#include "cli/cli.h"
#include "model/coded_matrix.h"
#include "model/language_model.h"
#include "model/state_digest.h"

namespace accrete::cli {

void add_digest(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb =
      app.add_subcommand("digest", "SHA-256 of the base and of the state with its updates");
  verb->add_option("MODEL", *folder, "A model folder")->type_name("FOLDER")->required();
  add_common(*verb, common, "accrete digest my-model");
  verb->callback([folder, &common, &run] {
    run = [folder, &common] {
      OpenOptions open = common.open;
      open.with_updates = false;  // they are read from their files, whatever is kept of them
      const LanguageModel model = LanguageModel::open(*folder, open);
      const auto base = model.base_digest();
      // What decodes beside the weights must be the weights.
      const auto codes = CodedWeights::open(model.folder());
      for (const TensorView* t : model.net().base_tensors()) codes.check(t->name, *t);
      const auto now = model.has_memory() || model.has_facts()
                           ? state_digest(model, Ledger::open(*folder, Ledger::Mode::kRead))
                           : model.state_digest();
      common.print({{"base", base}, {"state", now}}, "base   " + base + "\nstate  " + now + "\n");
      return 0;
    };
  });
}

}  // namespace accrete::cli
