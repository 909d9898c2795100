// Parsing the command line, running the verb, reporting errors.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
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
      std::fprintf(stderr, "accrete: there is no verb `%s`\n  try: accrete --help\n", argv[1]);
      return 2;
    }
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
