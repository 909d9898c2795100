// overlay and merge: facts of one person or tenant, and facts that were taught elsewhere.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/overlays.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

struct OverlayArguments {
  std::string model, name, file;
  std::vector<std::filesystem::path> files;
  api::MergeOptions merge;
};
using SharedArguments = std::shared_ptr<OverlayArguments>;

std::string counted(int64_t n, const char* what) {
  return n == 1 ? accrete::format("1 {}", what) : accrete::format("{} {}s", n, what);
}

std::string to_text(const api::OverlayInfo& o) {
  if (!o.problem.empty()) return accrete::format("{}: {}\n", o.name, o.problem);
  return accrete::format("{}: {} in {}, {} of documents, {} bytes, made {}\n", o.name,
                         counted(o.facts, "fact"), counted(o.updates, "update"),
                         counted(o.passages, "passage"), o.bytes, o.created);
}

std::string to_text(const api::MergeReport& r, const char* what = "fact") {
  Rows rows;
  if (!r.update.empty()) rows.push_back({"update", r.update});
  rows.push_back(
      {"merged", accrete::format("{} in {}", counted(r.facts, what), counted(r.files, "file"))});
  rows.push_back({"new", std::to_string(r.taken)});
  if (r.there > 0) rows.push_back({"there already", std::to_string(r.there)});
  for (const auto& c : r.clashes)
    rows.push_back({r.kept > 0 ? "kept ours" : "took theirs",
                    accrete::format("\"{}\": {} ({}), here {} (update {})", c.question, c.answer,
                                    c.file, c.own_answer, c.update)});
  if (r.update.empty()) rows.push_back({"", "nothing is new: nothing was changed"});
  return table(rows);
}

CLI::Option* add_model(CLI::App& verb, const SharedArguments& state) {
  return verb.add_option("MODEL", state->model, "A model folder made by retrofit")
      ->type_name("FOLDER")
      ->required();
}

CLI::Option* add_name(CLI::App& verb, const SharedArguments& state) {
  return verb
      .add_option("NAME", state->name,
                  "The overlay's name: small letters, digits, _ . -, a letter or digit first")
      ->required();
}

void add_conflict_option(CLI::App& verb, const SharedArguments& state) {
  verb.add_option("--on-conflict", state->merge.on_conflict,
                  "Of a question that has another answer here: change nothing and name them, keep "
                  "ours, or take theirs")
      ->type_name("{refuse,ours,theirs}")
      ->check(CLI::IsMember({"refuse", "ours", "theirs"}))
      ->capture_default_str();
}

// Made where it is absent; not left behind where nothing comes into it.
api::MergeReport import_files(const OverlayArguments& state, const Common& common) {
  const Overlays overlays(state.model);
  const auto all = overlays.list();
  const bool there = std::any_of(
      all.begin(), all.end(), [&](const api::OverlayInfo& one) { return one.name == state.name; });
  if (!there) (void)overlays.create(state.name);
  try {
    api::OpenOptions open = common.open;
    open.overlay = state.name;
    return Workspace::open(state.model, open).merge(state.files, state.merge, common.reporter());
  } catch (...) {
    if (!there) (void)overlays.erase(state.name);
    throw;
  }
}

void add_files(CLI::App& verb, Common& common, Run& run) {
  auto state = std::make_shared<OverlayArguments>();
  auto* out = verb.add_subcommand(
      "export", "Write an overlay's own facts into one file, which import and merge take");
  add_model(*out, state);
  add_name(*out, state);
  out->add_option("FILE", state->file, "The new file")->type_name("FILE")->required();
  add_common(*out, common, "accrete overlay export my-model desk desk.safetensors");
  out->callback([state, &common, &run] {
    run = [state, &common] {
      api::OpenOptions open = common.open;
      open.overlay = state->name;
      const auto r = Workspace::open(state->model, open).facts_file(state->file);
      common.print(to_json(r), accrete::format("{}: {}, {} bytes\n", r.file,
                                               counted(r.facts, "fact"), r.bytes));
      return 0;
    };
  });

  auto* in = verb.add_subcommand(
      "import", "Merge files of facts into an overlay, which is made where it is absent");
  add_model(*in, state);
  add_name(*in, state);
  in->add_option("FILE", state->files, "Files of export, or updates")
      ->type_name("FILE")
      ->required();
  add_conflict_option(*in, state);
  add_common(*in, common, "accrete overlay import my-model desk-2 desk.safetensors");
  in->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = import_files(*state, common);
      common.print(to_json(r), to_text(r));
      return 0;
    };
  });
}

}  // namespace

void add_overlay_verb(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<OverlayArguments>();
  auto* verb = app.add_subcommand(
      "overlay",
      "Facts of one person or tenant, over what all share: `--overlay NAME` of the verbs");
  verb->require_subcommand(1);

  auto* create = verb->add_subcommand("create", "Make an empty overlay");
  add_model(*create, state);
  add_name(*create, state);
  add_common(
      *create, common,
      "accrete overlay create my-model desk && accrete teach my-model f.jsonl --overlay desk");
  create->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = Overlays(state->model).create(state->name);
      common.print(to_json(r), to_text(r));
      return 0;
    };
  });

  auto* list = verb->add_subcommand("list", "The overlays of a model, by name");
  add_model(*list, state);
  add_common(*list, common, "accrete overlay list my-model");
  list->callback([state, &common, &run] {
    run = [state, &common] {
      const auto all = Overlays(state->model).list();
      Rows rows = {{"NAME", "FACTS", "PASSAGES", "UPDATES", "BYTES", "MADE"}};
      for (const auto& o : all)
        rows.push_back({o.name, std::to_string(o.facts), std::to_string(o.passages),
                        std::to_string(o.updates), std::to_string(o.bytes),
                        o.problem.empty() ? o.created : o.problem});
      common.print(to_json(all), all.empty() ? "there are no overlays\n" : table(rows));
      return 0;
    };
  });

  auto* show = verb->add_subcommand("show", "One overlay: what is in it");
  add_model(*show, state);
  add_name(*show, state);
  add_common(*show, common, "accrete overlay show my-model desk");
  show->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = Overlays(state->model).show(state->name);
      common.print(to_json(r), to_text(r));
      return 0;
    };
  });

  add_files(*verb, common, run);

  auto* erase = verb->add_subcommand(
      "erase", "Remove an overlay from the disk, with every text that it was taught; for good");
  add_model(*erase, state);
  add_name(*erase, state);
  add_common(*erase, common, "accrete overlay erase my-model desk");
  erase->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = Overlays(state->model).erase(state->name);
      common.print(to_json(r), accrete::format("erased {}: {}, {} bytes\n", r.name,
                                               counted(r.files, "file"), r.bytes));
      return 0;
    };
  });
}

void add_merge(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<OverlayArguments>();
  auto* verb = app.add_subcommand(
      "merge",
      "Take over facts that were taught elsewhere, as they are: one update, nothing learned");
  add_model(*verb, state);
  verb->add_option("FILE", state->files,
                   "Files of `accrete overlay export`, or updates (accrete/updates/ID.safetensors)")
      ->type_name("FILE")
      ->required();
  add_conflict_option(*verb, state);
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete merge my-model desk.safetensors --on-conflict theirs");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      auto workspace = Workspace::open(state->model, common.open);
      const auto r = workspace.merge(state->files, state->merge, common.reporter());
      common.print(to_json(r), to_text(r, workspace.takes_vectors() ? "set" : "fact"));
      return 0;
    };
  });
}

}  // namespace accrete::cli
