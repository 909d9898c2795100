#include "learn/teach.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"

namespace accrete::cli {
namespace {

std::string change(double before, double after) {
  return percent(before) + " -> " + percent(after);
}

nlohmann::ordered_json conflicts_json(const std::vector<Conflict>& conflicts) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Conflict& c : conflicts)
    json.push_back({{"question", c.question},
                    {"answer", c.answer},
                    {"line", c.line},
                    {"update", c.update},
                    {"update_line", c.update_line},
                    {"update_answer", c.update_answer},
                    {"update_source", c.update_source}});
  return json;
}

struct TeachArguments {
  std::string model, data, ranking = "interference";
  TeachOptions options;
  bool no_gate = false;
  int64_t steps = 0;
  double rate = 0;

  TeachOptions resolved(const Common& common) const {
    TeachOptions out = options;
    out.ranking = parse_ranking(ranking);
    out.seed = common.seed;
    out.gated = !no_gate;
    out.rows.lambda = out.deposit.lambda;
    out.tool_version = kVersion;
    if (steps > 0) out.values.steps = out.facts.steps = steps;
    if (rate > 0) out.values.rate = out.facts.rate = rate;
    return out;
  }
};

// What teach and plan take alike.
void add_options(CLI::App& verb, TeachArguments& state) {
  TeachOptions& o = state.options;
  verb.add_option("MODEL", state.model, "A model folder made by retrofit")
      ->type_name("FOLDER")
      ->required();
  verb.add_option("DATA", state.data, "The teach set, .jsonl or .txt, may be .zst")
      ->type_name("FILE")
      ->required();
  verb.add_option("--ranking", state.ranking, "Which slots are written")
      ->type_name(kRankings)
      ->capture_default_str();
  verb.add_option("--slots", o.slots, "Rows per memory layer at most; 0: by the size of the set")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_option("--max-seconds", o.max_seconds, "Refuse rather than take longer; 0: no limit")
      ->type_name("SECONDS")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_flag("--raw", o.raw, "Prompts as they are, without the chat template");
  verb.add_option("--steps", state.steps, "Steps of a fact's value at most; default: by the model")
      ->check(CLI::NonNegativeNumber);
  verb.add_option("--rate", state.rate,
                  "First step length of value vectors, in units of what they are added to")
      ->check(CLI::PositiveNumber);
  verb.add_option("--lambda", o.deposit.lambda,
                  "Learning (small, 1e-6) against keeping (large, 1e-4)")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--neighbours", o.neighbours,
                  "Prompts about other subjects that are kept as they are, per phrasing")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb.add_flag("--no-gate", state.no_gate, "Let the update speak everywhere (for comparison)");
  verb.add_option("--text-share", o.text_share,
                  "Share of a text's tokens, the rarest, that it may speak at; 1: all, everywhere")
      ->type_name("X")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_flag("--stepwise", o.stepwise, "Preconditioned steps for facts too (for comparison)");
}

nlohmann::ordered_json forecast_json(const std::map<std::string, ProbeForecast>& forecast) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [name, f] : forecast)
    json[name] = {{"predicted", f.predicted},
                  {"low", f.low},
                  {"high", f.high},
                  {"now", f.now},
                  {"first_order", f.first_order},
                  {"second_order", f.second_order},
                  {"examples", f.examples},
                  {"touched", f.touched},
                  {"tried", f.tried}};
  return json;
}

nlohmann::ordered_json overlaps_json(const std::vector<Overlap>& overlaps) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Overlap& o : overlaps)
    json.push_back({{"update", o.update},
                    {"tag", o.tag},
                    {"source", o.source},
                    {"shared", o.shared},
                    {"share", o.share},
                    {"cosine", o.cosine}});
  return json;
}

using Rows = std::vector<std::vector<std::string>>;

void add_conflicts(Rows& rows, const std::vector<Conflict>& conflicts) {
  for (const Conflict& c : conflicts)
    rows.push_back({"corrects", accrete::format("\"{}\": {} -> {}  (update {}, line {} of {})",
                                                c.question, c.update_answer, c.answer, c.update,
                                                c.update_line, c.update_source)});
}

void add_forecast(Rows& rows, const std::map<std::string, ProbeForecast>& forecast) {
  for (const auto& [name, f] : forecast)
    rows.push_back({"forecast " + name,
                    accrete::format("{:+.4f}  ({:+.4f} .. {:+.4f}), {} of {} examples touched",
                                    f.predicted, f.low, f.high, f.touched, f.examples)});
}

void add_overlaps(Rows& rows, const std::vector<Overlap>& overlaps) {
  constexpr size_t kMost = 5;
  for (size_t i = 0; i < std::min(kMost, overlaps.size()); ++i) {
    const Overlap& o = overlaps[i];
    rows.push_back(
        {"shares slots", accrete::format("{} ({}) with update {}, cosine {:+.2f}", o.shared,
                                         percent(o.share), o.update, o.cosine)});
  }
  if (overlaps.size() > kMost)
    rows.push_back({"", accrete::format("and with {} more", overlaps.size() - kMost)});
}

// On standard error, beside the result.
void print_remarks(const std::vector<std::string>& remarks) {
  for (const std::string& remark : remarks) std::fprintf(stderr, "note: %s\n", remark.c_str());
}

}  // namespace

void add_teach(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<TeachArguments>();
  auto* verb = app.add_subcommand(
      "teach",
      "Teach a set in one transaction: write few rows, validate, commit or change nothing");
  add_options(*verb, *state);
  add_common(*verb, common, "accrete teach my-model facts.jsonl --max-seconds 600");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const Dataset data = read_dataset(state->data);
      const TeachResult r =
          teach(state->model, data, common.open, state->resolved(common), common.reporter());
      nlohmann::ordered_json json = {
          {"update", r.update},
          {"items", r.items},
          {"learned", {{"before", r.learned_before}, {"after", r.learned_after}}}};
      std::vector<std::vector<std::string>> rows = {
          {"update", r.update},
          {"items", std::to_string(r.items)},
          {"learned", change(r.learned_before, r.learned_after)}};
      if (r.asked_after) {
        json["asked"] = {{"before", *r.asked_before}, {"after", *r.asked_after}};
        rows.push_back({"other wording", change(*r.asked_before, *r.asked_after)});
      }
      json["kept"] = nlohmann::ordered_json::object();
      for (const auto& [name, k] : r.kept) {
        json["kept"][name] = {{"before", k.before},
                              {"after", k.after},
                              {"kept", k.kept},
                              {"floor", k.floor ? nlohmann::ordered_json(*k.floor) : nullptr}};
        rows.push_back({"kept " + name, accrete::format("{:.4f} -> {:.4f}  ({} of its base)",
                                                        k.before, k.after, percent(k.kept))});
      }
      json["conflicts"] = conflicts_json(r.conflicts);
      json["companions"] = r.companions;
      json["forecast"] = forecast_json(r.forecast);
      json["overlaps"] = overlaps_json(r.overlaps);
      json["change"] = r.change;
      json["dropped"] = r.dropped_lines;
      json["remarks"] = r.remarks;
      json["check_share"] = r.check_share;
      add_forecast(rows, r.forecast);
      if (!r.change.empty()) rows.push_back({"to hold the floors", r.change});
      if (r.check_share > 0)
        rows.push_back({"probes watched",
                        accrete::format("in {} of the steps' time", percent(r.check_share))});
      add_conflicts(rows, r.conflicts);
      if (r.companions > 0)
        rows.push_back(
            {"kept along", accrete::format("{} facts about the same subjects", r.companions)});
      json["rows"] = r.rows;
      json["parameters"] = r.parameters;
      json["teach_tokens"] = r.teach_tokens;
      json["seconds"] = r.seconds;
      json["measuring_seconds"] = r.measuring_seconds;
      json["peak_bytes"] = r.peak_bytes;
      if (r.parameters > 0)
        rows.push_back(
            {"written", accrete::format("{} rows, {} parameters", r.rows, r.parameters)});
      rows.push_back({"cost", accrete::format("{:.1f} s, {:.2f} GB at most", r.seconds,
                                              static_cast<double>(r.peak_bytes) / 1e9)});
      common.print(json, table(rows));
      print_remarks(r.remarks);
      return 0;
    };
  });
}

void add_plan(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<TeachArguments>();
  auto* verb = app.add_subcommand(
      "plan", "What a teach would do to every probe, which slots and updates it meets; no change");
  add_options(*verb, *state);
  add_common(*verb, common, "accrete plan my-model facts.jsonl");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const Dataset data = read_dataset(state->data);
      const PlanResult r =
          plan(state->model, data, common.open, state->resolved(common), common.reporter());
      nlohmann::ordered_json json = {{"items", r.items}, {"forecast", forecast_json(r.forecast)}};
      for (const auto& [name, floor] : r.floors) {
        json["forecast"][name]["floor"] = floor ? nlohmann::ordered_json(*floor) : nullptr;
        json["forecast"][name]["holds"] = r.holds.at(name);
      }
      json["rows"] = r.rows;
      json["parameters"] = r.parameters;
      json["overlaps"] = overlaps_json(r.overlaps);
      json["conflicts"] = conflicts_json(r.conflicts);
      json["companions"] = r.companions;
      json["remarks"] = r.remarks;
      json["seconds"] = r.seconds;
      Rows rows = {{"items", std::to_string(r.items)}};
      add_forecast(rows, r.forecast);
      for (const auto& [name, holds] : r.holds)
        if (!holds) rows.push_back({"floor " + name, "WOULD BREAK"});
      add_conflicts(rows, r.conflicts);
      add_overlaps(rows, r.overlaps);
      if (r.parameters > 0)
        rows.push_back(
            {"would write", accrete::format("{} rows, {} parameters", r.rows, r.parameters)});
      common.print(json, table(rows));
      print_remarks(r.remarks);
      return 0;
    };
  });
}

}  // namespace accrete::cli
