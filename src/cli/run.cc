// Parsing the command line, running the verb, reporting errors.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/slips.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

int report(const Common& common, std::string_view code, const std::string& message,
           const std::string& hint) {
  std::fprintf(stderr, "accrete: %s\n", message.c_str());
  if (!hint.empty()) std::fprintf(stderr, "  try: %s\n", hint.c_str());
  if (common.json) {
    const nlohmann::ordered_json object = {
        {"error", {{"code", code}, {"message", message}, {"hint", hint}}}};
    std::printf("%s\n",
                object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  }
  return 1;
}

// The deepest verb that the arguments named.
const CLI::App& parsed_verb(const CLI::App& app) {
  const auto below = app.get_subcommands();
  return below.empty() ? app : parsed_verb(*below.front());
}

// An option that the verb does not have, with the one that is nearly it.
int report_unknown(const CLI::App& app, int argc, char** argv) {
  const CLI::App& verb = parsed_verb(app);
  std::vector<std::string> names;
  for (const CLI::Option* option : verb.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  std::string path = verb.get_name();
  for (const CLI::App* above = verb.get_parent(); above != nullptr; above = above->get_parent())
    path.insert(0, above->get_name() + " ");
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    name.resize(std::min(name.size(), name.find('=')));
    if (!name.starts_with("--") || std::find(names.begin(), names.end(), name) != names.end())
      continue;
    const std::string near = nearest_word(name, names);
    std::fprintf(stderr, "accrete: %s has no option %s\n  try: %s\n", path.c_str(), name.c_str(),
                 near.empty() ? (path + " --help").c_str() : near.c_str());
    return 2;
  }
  std::string more;
  for (const std::string& text : verb.remaining()) more += (more.empty() ? "" : " ") + text;
  std::fprintf(stderr, "accrete: %s does not take: %s\n  try: %s --help\n", path.c_str(),
               more.c_str(), path.c_str());
  return 2;
}

}  // namespace

void set_up(CLI::App& app, std::span<const AddVerb> verbs, Common& common, Run& run) {
  app.description(
      "accrete teaches a language model new facts without making it forget.\n"
      "The way of work: retrofit once, then teach -> check -> undo as with git.");
  app.name("accrete");
  app.formatter(help_formatter());
  app.footer("`accrete VERB --help` says more about a verb, with an example.");
  app.set_version_flag("--version", std::string("accrete ") + kVersion, "Print the version");
  app.require_subcommand(1);
  for (const AddVerb add : verbs) add(app, common, run);
}

int run_verbs(std::span<const AddVerb> verbs, int argc, char** argv) {
  CLI::App app;
  Common common;
  Run run;
  set_up(app, verbs, common, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    const auto known = app.get_subcommands([](const CLI::App*) { return true; });
    if (argc > 1 && argv[1][0] != '-' &&
        std::none_of(known.begin(), known.end(),
                     [&](const CLI::App* verb) { return verb->get_name() == argv[1]; })) {
      std::vector<std::string> names;
      for (const CLI::App* verb : known) names.push_back(verb->get_name());
      const std::string near = nearest_word(argv[1], names);
      std::fprintf(stderr, "accrete: there is no verb `%s`\n  try: accrete %s\n", argv[1],
                   near.empty() ? "--help" : near.c_str());
      return 2;
    }
    if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError))
      return report_unknown(app, argc, argv);
    const int status = app.exit(e);
    return status == 0 ? 0 : 2;
  }
  try {
    return run();
  } catch (const Error& e) {
    return report(common, error_code_name(e.code()), e.what(), e.hint());
  } catch (const std::bad_alloc&) {
    return report(common, "internal", "out of memory",
                  "close other programs, or use a smaller model or fewer items");
  } catch (const std::exception& e) {
    return report(common, "internal", e.what(), "please report this with the command you ran");
  }
}

}  // namespace accrete::cli
