// accrete-bench: the program behind `accrete bench`, which starts it with its own arguments. With
// the two arguments `--write-texts` and FILE it writes there what `accrete` prints by itself: the
// help of every verb and the completion scripts.
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/file.h"
#include "bench/verbs/bench.h"

namespace {

using namespace accrete;

std::vector<cli::AddVerb> every_verb() {
  std::vector<cli::AddVerb> out(cli::verbs().begin(), cli::verbs().end());
  out.push_back(cli::add_bench);
  return out;
}

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
  const auto verbs = every_verb();
  cli::set_up(app, verbs, common, run);
  nlohmann::ordered_json texts = {{"version", cli::kVersion}};
  collect_help(app, "", texts["help"]);
  for (const char* shell : {"bash", "zsh", "fish"})
    texts["completion"][shell] = cli::completion_script(app, shell);
  write_file_atomically(file, texts.dump(1) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--write-texts") == 0) {
    write_texts(argv[2]);
    return 0;
  }
  return cli::run_verbs(every_verb(), argc, argv);
}
