// All verbs but `bench`. A new one is listed here.
#include "cli/verbs.h"

#include "cli/cli.h"

namespace {

using namespace accrete;

constexpr cli::AddVerb kVerbs[] = {
    cli::add_retrofit,     cli::add_upgrade, cli::add_pretrain,  cli::add_teach, cli::add_forget,
    cli::add_plan,         cli::add_act,     cli::add_ask,       cli::add_chat,  cli::add_check,
    cli::add_probe,        cli::add_log,     cli::add_undo,      cli::add_diff,  cli::add_audit,
    cli::add_digest,       cli::add_eval,    cli::add_export,    cli::add_serve, cli::add_key,
    cli::add_overlay_verb, cli::add_merge,   cli::add_completion};

}  // namespace

std::span<const cli::AddVerb> accrete::cli::verbs() {
  return kVerbs;
}

int accrete_verbs_main(int argc, char** argv) {
  return cli::run_verbs(kVerbs, argc, argv);
}
