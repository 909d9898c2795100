// accrete: the command line. One file per verb; this one parses, runs and reports errors.
#include <cstdio>

#include "base/error.h"
#include "base/interrupt.h"
#include "cli/cli.h"

namespace {

using namespace accrete;

int report(const cli::Common& common, std::string_view code, const std::string& message,
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

int main(int argc, char** argv) {
  CLI::App app(
      "accrete teaches a language model new facts without making it forget.\n"
      "The way of work: retrofit once, then teach -> check -> undo as with git.");
  app.name("accrete");
  app.formatter(cli::help_formatter());
  app.footer("`accrete VERB --help` says more about a verb, with an example.");
  app.set_version_flag("--version", std::string("accrete ") + cli::kVersion, "Print the version");
  app.require_subcommand(1);
  cli::Common common;
  cli::Run run;
  for (const cli::AddVerb add :
       {cli::add_retrofit, cli::add_teach, cli::add_plan, cli::add_ask, cli::add_chat,
        cli::add_check, cli::add_probe, cli::add_log, cli::add_undo, cli::add_history,
        cli::add_audit, cli::add_digest, cli::add_eval, cli::add_export, cli::add_bench,
        cli::add_completion})
    add(app, common, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
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
