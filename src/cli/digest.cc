// digest: the proof of a state.
#include <nlohmann/json.hpp>

#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {

void add_digest(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb =
      app.add_subcommand("digest", "SHA-256 of the base and of the state with its updates");
  verb->add_option("MODEL", *folder, "A model folder")->type_name("FOLDER")->required();
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete digest my-model");
  verb->callback([folder, &common, &run] {
    run = [folder, &common] {
      const api::Digest d = Workspace::open(*folder, common.open).digest();
      common.print(to_json(d), "base   " + d.base + "\nstate  " + d.state + "\n");
      return 0;
    };
  });
}

}  // namespace accrete::cli
