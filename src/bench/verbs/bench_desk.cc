// accrete bench desk: what people teach, and what must stay as it was (bench/desk.h).
#include <nlohmann/json.hpp>

#include "api/installation.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "bench/desk.h"
#include "bench/verbs/bench.h"

namespace accrete::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct BenchDesk {
  std::string model, split = "test", profile = "hour", out, work;
  std::vector<std::string> only, methods;
  int64_t seeds = 0;
};

// A share in per cent, or whatever the format says, of what is there.
std::string cell(const OrderedJson& row, const std::string& path, double times = 100,
                 const char* format = "{:.1f}") {
  const OrderedJson::json_pointer pointer("/" + path);
  if (!row.contains(pointer) || !row.at(pointer).is_number()) return "-";
  return accrete::vformat(format, {row.at(pointer).get<double>() * times});
}

std::string method_of(const OrderedJson& row) {
  std::string out = row.at("method").get<std::string>();
  const OrderedJson& setting = row.at("setting");
  if (setting.contains("rate"))
    out += accrete::format(" {:g} x{}", setting.at("rate").get<double>(),
                           setting.at("epochs").get<int64_t>());
  return out;
}

std::string recital_table(const std::vector<OrderedJson>& means) {
  std::vector<std::vector<std::string>> lines = {
      {"section",       "method",   "facts",    "taught",
       "untaught",      "begins",   "contains", "F1",
       "chosen",        "accepted", "given",    "left",
       "AUROC",         "twins",    "open",     "unrelated changed",
       "conversations", "as is",    "system",   "3rd turn",
       "CAPITALS",      "typo",     "space",    "seconds",
       "KB a fact",     "peak MB"}};
  for (const OrderedJson& row : means) {
    if (row.contains("use") || row.at("section") == "corrections") continue;
    if (row.contains("diverged")) {
      lines.push_back({row.at("section"), method_of(row), "diverged"});
      lines.back().resize(lines.front().size(), "-");
      continue;
    }
    std::string changed = "-";
    if (row.contains("unrelated_changed"))
      changed = accrete::format("{:g}/{:g}", row.at("unrelated_changed").get<double>(),
                                row.at("unrelated_questions").get<double>());
    lines.push_back({row.at("section"),
                     method_of(row),
                     cell(row, "facts", 1, "{:.0f}"),
                     cell(row, "taught"),
                     cell(row, "untaught"),
                     cell(row, "begins"),
                     cell(row, "contains"),
                     cell(row, "f1"),
                     cell(row, "chosen_right"),
                     cell(row, "accepted_right"),
                     cell(row, "given"),
                     cell(row, "left_unchanged"),
                     cell(row, "auroc", 1, "{:.3f}"),
                     cell(row, "twins_unchanged"),
                     cell(row, "open_unchanged"),
                     changed,
                     cell(row, "conversations_unchanged"),
                     cell(row, "variants/as_it_is"),
                     cell(row, "variants/other_system"),
                     cell(row, "variants/third_turn"),
                     cell(row, "variants/capitals"),
                     cell(row, "variants/typo"),
                     cell(row, "variants/trailing_space"),
                     cell(row, "seconds", 1, "{:.1f}"),
                     cell(row, "bytes_a_fact", 1.0 / 1024, "{:.1f}"),
                     cell(row, "teach_peak_bytes", 1e-6, "{:.0f}")});
  }
  return lines.size() > 1 ? table(lines) : "";
}

// Use: in the form asked for, and in brackets right whatever the form.
std::string use_table(const std::vector<OrderedJson>& means) {
  std::vector<std::vector<std::string>> lines;
  std::vector<std::string> kinds;
  for (const OrderedJson& row : means) {
    if (!row.contains("use")) continue;
    if (lines.empty()) {
      lines.push_back({"use", "fact", "all"});
      for (const auto& [kind, score] : row.at("use").at("kinds").items()) {
        kinds.push_back(kind);
        lines.front().push_back(kind);
      }
      lines.front().push_back("seconds");
    }
    for (const auto& [key, name] : {std::pair("use", "chosen"), std::pair("use_given", "given")}) {
      if (!row.contains(key)) continue;
      const auto both = [&](const std::string& path) {
        return accrete::format("{} ({})", cell(row.at(key), path + "in_form"),
                               cell(row.at(key), path + "right"));
      };
      std::vector<std::string> line = {method_of(row), name, both("")};
      for (const std::string& kind : kinds) line.push_back(both("kinds/" + kind + "/"));
      line.push_back(cell(row, "seconds", 1, "{:.1f}"));
      lines.push_back(std::move(line));
    }
  }
  return lines.empty() ? "" : "\n" + table(lines);
}

std::string corrections_table(const std::vector<OrderedJson>& means) {
  std::string out;
  for (const OrderedJson& row : means)
    if (row.at("section") == "corrections")
      out += "\n" +
             table({{"corrections", "method", "new, taught", "new, untaught", "old still said",
                     "others unchanged", "seconds"},
                    {cell(row, "corrected", 1, "{:.0f}") + " of " + cell(row, "facts", 1, "{:.0f}"),
                     method_of(row), cell(row, "new_taught"), cell(row, "new_untaught"),
                     cell(row, "old_said"), cell(row, "others_unchanged"),
                     cell(row, "correct_seconds", 1, "{:.1f}")}});
  return out;
}

int bench_desk(const BenchDesk& state, const Common& common) {
  DeskOptions options;
  options.profile = desk_profile(state.profile);
  options.data = data_folder();
  options.split = state.split;
  options.sections = state.only;
  options.methods = state.methods;
  options.seeds = state.seeds;
  options.first_seed = common.seed;
  options.work = state.work;
  options.open = open_options(common);
  OpenOptions open = open_options(common);
  open.with_updates = false;
  const LanguageModel model = LanguageModel::open(state.model, open);
  OrderedJson json = run_desk(model, options, common.reporter());
  const auto means = desk_means(json.at("rows"));
  json["means"] = means;
  if (!state.out.empty()) write_file_atomically(state.out, json.dump(2) + "\n");
  common.print(json, recital_table(means) + use_table(means) + corrections_table(means));
  return 0;
}

}  // namespace

void add_bench_desk(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchDesk>();
  auto* verb = bench.add_subcommand(
      "desk", "What people teach: facts of one thing, a shop's answers, long ones, uses");
  verb->add_option("MODEL", state->model, "A model folder made by retrofit; it is not changed")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--split", state->split, "dev is to tune on, test to report")
      ->type_name("{dev,test}")
      ->check(CLI::IsMember({"dev", "test"}))
      ->capture_default_str();
  verb->add_option("--profile", state->profile,
                   "quick: minutes; rates: finetuning at every rate, few questions; hour: an hour "
                   "on two cores; full: everything, every rate of "
                   "finetuning, three seeds: for a GPU or days")
      ->type_name("{quick,rates,hour,full}")
      ->check(CLI::IsMember({"quick", "rates", "hour", "full"}))
      ->capture_default_str();
  verb->add_option("--seeds", state->seeds, "How many seeds, from --seed on; 0: the profile's")
      ->check(zero_or_above())
      ->capture_default_str();
  verb->add_option("--only", state->only,
                   "These sections, parted by commas; default: the profile's")
      ->delimiter(',')
      ->type_name("SECTION");
  verb->add_option("--methods", state->methods,
                   "These methods (accrete, value, note, both, lookup, context, lora, "
                   "full), parted by commas; default: the profile's")
      ->delimiter(',')
      ->type_name("METHOD");
  verb->add_option("--out", state->out, "Write the JSON to this file as well")->type_name("FILE");
  verb->add_option("--work", state->work,
                   "Where each row goes as soon as it is there; a run that was stopped goes on")
      ->type_name("FILE");
  add_common(*verb, common, "accrete bench desk my-model --profile quick --work desk.json");
  verb->callback(
      [state, &common, &run] { run = [state, &common] { return bench_desk(*state, common); }; });
}

}  // namespace accrete::cli
