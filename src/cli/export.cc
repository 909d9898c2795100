// export: a folder for transformers.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {

void add_export(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, out;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("export", "A folder that transformers loads, updates included");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("OUT", state->out, "The new folder")->type_name("FOLDER")->required();
  add_common(*verb, common, "accrete export my-model my-model-hf");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto workspace = Workspace::open(state->model, common.open);
      const auto result = workspace.export_to(state->out, common.reporter());
      const std::string how =
          result.updates.empty()
              ? "the base alone, no update is active"
              : accrete::format("{} update{}; load it with trust_remote_code=True",
                                result.updates.size(), result.updates.size() == 1 ? "" : "s");
      if (const auto passages = workspace.info().passages; passages > 0)
        std::fprintf(stderr, "note: %lld passages of documents are not exported\n",
                     static_cast<long long>(passages));
      common.print(to_json(result), accrete::format("{}: {}\n  {}\n", result.folder, how,
                                                    accrete::joined(result.files, "  ")));
      return 0;
    };
  });
}

}  // namespace accrete::cli
