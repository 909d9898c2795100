#include "eval/probe.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "eval/fact_probe.h"
#include "io/dataset.h"

namespace accrete::cli {
namespace {

std::optional<FewShot> read_few_shot(const std::string& file) {
  if (file.empty()) return std::nullopt;
  return make_few_shot(read_dataset(file).items);
}

}  // namespace

void add_probe(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, file, name, few_shot;
    double floor = 0;
    bool raw = false, replace = false;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("probe", "What must be preserved: add, discover, list, remove");
  verb->require_subcommand(1);

  auto* add = verb->add_subcommand("add", "Add a file of items as a probe");
  add->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  add->add_option("NAME", state->name, "The probe's name: letters, digits, _ . -")->required();
  add->add_option("FILE", state->file, "Items (.jsonl) or text (.txt)")
      ->type_name("FILE")
      ->required();
  add->add_option("--floor", state->floor,
                  "Smallest share of today's score that a teach may leave, 0 to 1; 0: none")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  add->add_flag("--raw", state->raw, "Prompts as they are, without the chat template");
  add->add_flag("--replace", state->replace, "Replace a probe of that name");
  add_common(*add, common, "accrete probe add my-model known known.jsonl --raw --floor 0.95");
  add->callback([state, &common, &run] {
    run = [state, &common] {
      const Dataset data = read_dataset(state->file);
      for (const Item& item : data.items)
        if (item.leave)
          throw Error(ErrorCode::kInvalidArgument,
                      accrete::format("{}:{}: a question of a probe needs its answer", state->file,
                                      item.line),
                      "teach what is to be left to the model");
      Ledger ledger = Ledger::open(state->model, Ledger::Mode::kWrite);  // no other writer now
      const LanguageModel model = LanguageModel::open(state->model, common.open);
      Probe probe;
      probe.data = data;
      probe.raw = state->raw;
      probe.record.name = state->name;
      if (model.has_facts() && !probe.is_text())
        probe.record.details["base_answers"] = base_answers(model, probe, common.reporter());
      probe.record.base = probe_score(model, probe, common.reporter());
      probe.record.items = static_cast<int64_t>(data.items.size());
      if (state->floor > 0) probe.record.floor = state->floor;
      probe.record.details["raw"] = state->raw;
      probe.record.details["state"] = state_key(ledger.active());
      ledger.add_probe(probe.record, to_jsonl(data.items), state->replace);
      common.print(
          {{"name", state->name}, {"items", probe.record.items}, {"base", probe.record.base}},
          accrete::format("{}: {} items, base {:.4f}\n", state->name, probe.record.items,
                          probe.record.base));
      return 0;
    };
  });

  auto* find =
      verb->add_subcommand("discover", "Keep the questions that the model answers right today");
  find->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  find->add_option("DATA", state->file, "Questions with answers (.jsonl)")
      ->type_name("FILE")
      ->required();
  find->add_option("--name", state->name, "The probe's name: letters, digits, _ . -")
      ->type_name("NAME")
      ->required();
  find->add_option("--floor", state->floor,
                   "Smallest share of today's score that a teach may leave, 0 to 1; 0: none")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  find->add_option(
          "--few-shot", state->few_shot,
          "Demonstrations before each question, .jsonl; asks as plain Question/Answer text")
      ->type_name("FILE");
  find->add_flag("--raw", state->raw, "Prompts as they are, without the chat template");
  find->add_flag("--replace", state->replace, "Replace a probe of that name");
  add_common(*find, common,
             "accrete probe discover my-model questions.jsonl --name general --floor 0.95");
  find->callback([state, &common, &run] {
    run = [state, &common] {
      const Dataset data = read_dataset(state->file);
      const auto few_shot = read_few_shot(state->few_shot);
      Ledger ledger = Ledger::open(state->model, Ledger::Mode::kWrite);  // no other writer now
      const LanguageModel model = LanguageModel::open(state->model, common.open);
      const auto kept = discover(model, data.items, few_shot, state->raw, common.reporter());
      if (kept.empty())
        throw Error(ErrorCode::kRefused, "the model answers none of them right; there is no probe",
                    "try --few-shot with two demonstrations, or other questions");
      ProbeRecord record;
      record.name = state->name;
      record.base = 1;
      record.items = static_cast<int64_t>(kept.size());
      if (state->floor > 0) record.floor = state->floor;
      record.details["raw"] = state->raw || few_shot.has_value();
      record.details["asked"] = data.items.size();
      record.details["state"] = state_key(ledger.active());
      if (model.has_facts()) {
        Probe probe;
        probe.record = record;
        probe.data.items = kept;
        probe.raw = state->raw || few_shot.has_value();
        record.details["base_answers"] = base_answers(model, probe, common.reporter());
      }
      ledger.add_probe(record, to_jsonl(kept), state->replace);
      common.print({{"name", state->name}, {"asked", data.items.size()}, {"kept", kept.size()}},
                   accrete::format("{}: {} of {} answered right\n", state->name, kept.size(),
                                   data.items.size()));
      return 0;
    };
  });

  auto* list = verb->add_subcommand("list", "The probes of a model");
  list->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  add_common(*list, common, "accrete probe list my-model");
  list->callback([state, &common, &run] {
    run = [state, &common] {
      const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
      nlohmann::ordered_json json = nlohmann::ordered_json::array();
      std::vector<std::vector<std::string>> rows = {{"NAME", "ITEMS", "BASE", "FLOOR"}};
      for (const auto& p : ledger.probes()) {
        json.push_back({{"name", p.name},
                        {"items", p.items},
                        {"base", p.base},
                        {"floor", p.floor ? nlohmann::ordered_json(*p.floor) : nullptr}});
        rows.push_back({p.name, std::to_string(p.items), accrete::format("{:.4f}", p.base),
                        p.floor ? accrete::format("{:.4f}", *p.floor) : "-"});
      }
      common.print({{"probes", json}}, json.empty() ? "no probes\n" : table(rows));
      return 0;
    };
  });

  auto* remove = verb->add_subcommand("remove", "Remove a probe");
  remove->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  remove->add_option("NAME", state->name, "The probe's name")->required();
  add_common(*remove, common, "accrete probe remove my-model general");
  remove->callback([state, &common, &run] {
    run = [state, &common] {
      Ledger ledger = Ledger::open(state->model, Ledger::Mode::kWrite);
      ledger.remove_probe(state->name);
      common.print({{"removed", state->name}}, "removed " + state->name + "\n");
      return 0;
    };
  });
}

void add_check(CLI::App& app, Common& common, Run& run) {
  auto folder = std::make_shared<std::string>();
  auto* verb = app.add_subcommand("check", "Run every probe: kept and lost against the base");
  verb->add_option("MODEL", *folder, "A model folder")->type_name("FOLDER")->required();
  add_common(*verb, common, "accrete check my-model || echo \"a probe is below its floor\"");
  verb->callback([folder, &common, &run] {
    run = [folder, &common] {
      // State and probes of one moment, whatever a writer does meanwhile.
      const Ledger ledger = Ledger::open(*folder, Ledger::Mode::kRead);
      const Snapshot snapshot = ledger.snapshot();
      const LanguageModel model =
          LanguageModel::open(*folder, common.open, ledger, snapshot.active);
      nlohmann::ordered_json json = nlohmann::ordered_json::object();
      std::vector<std::vector<std::string>> rows = {{"PROBE", "BASE", "NOW", "KEPT", "FLOOR", ""}};
      bool all_hold = true;
      for (const Probe& p : probes_of(ledger, snapshot)) {
        const double now = probe_score(model, p, common.reporter());
        const bool holds = probe_holds(p, now);
        all_hold = all_hold && holds;
        json[p.record.name] = {
            {"base", p.record.base},
            {"now", now},
            {"kept", probe_kept(p, now)},
            {"floor", p.record.floor ? nlohmann::ordered_json(*p.record.floor) : nullptr},
            {"holds", holds}};
        rows.push_back({p.record.name, accrete::format("{:.4f}", p.record.base),
                        accrete::format("{:.4f}", now), percent(probe_kept(p, now)),
                        p.record.floor ? percent(*p.record.floor) : "-",
                        holds ? "" : "BELOW ITS FLOOR"});
      }
      common.print({{"probes", json}},
                   json.empty() ? "no probes: `accrete probe discover` makes one\n" : table(rows));
      return all_hold ? 0 : 1;
    };
  });
}

}  // namespace accrete::cli
