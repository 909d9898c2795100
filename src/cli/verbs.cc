// All verbs. A new one is listed here.
#include "cli/verbs.h"

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/cli.h"

namespace {

using namespace accrete;

constexpr cli::AddVerb kVerbs[] = {
    cli::add_retrofit, cli::add_upgrade,   cli::add_pretrain, cli::add_teach, cli::add_forget,
    cli::add_plan,     cli::add_act,       cli::add_ask,      cli::add_chat,  cli::add_check,
    cli::add_probe,    cli::add_log,       cli::add_undo,     cli::add_diff,  cli::add_audit,
    cli::add_digest,   cli::add_eval,      cli::add_export,   cli::add_bench, cli::add_serve,
    cli::add_key,      cli::add_completion};

// The help of a verb and of those below it, by their path: "", "teach", "bench facts".
void collect_help(CLI::App& verb, const std::string& path, nlohmann::ordered_json& help) {
  std::string parents = "accrete";
  const size_t last = path.rfind(' ');
  if (last != std::string::npos) parents += " " + path.substr(0, last);
  help[path] = verb.help(path.empty() ? "" : parents);
  for (CLI::App* below : verb.get_subcommands([](CLI::App*) { return true; }))
    collect_help(*below, path.empty() ? below->get_name() : path + " " + below->get_name(), help);
}

void write_texts(const char* file) {
  CLI::App app;
  cli::Common common;
  cli::Run run;
  cli::set_up(app, kVerbs, common, run);
  nlohmann::ordered_json texts = {{"version", cli::kVersion}};
  collect_help(app, "", texts["help"]);
  for (const char* shell : {"bash", "zsh", "fish"})
    texts["completion"][shell] = cli::completion_script(app, shell);
  write_file_atomically(file, texts.dump(1) + "\n");
}

}  // namespace

int accrete_verbs_main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--write-texts") == 0) {
    write_texts(argv[2]);
    return 0;
  }
  return cli::run_verbs(kVerbs, argc, argv);
}
