// teach and plan.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "io/documents.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

std::string change(const api::Change& c) {
  return percent(c.before) + " -> " + percent(c.after);
}

struct TeachArguments {
  std::string model;
  std::vector<std::filesystem::path> data;
  std::filesystem::path facts;
  api::TeachOptions options;
  bool no_gate = false;

  // The set; with --facts also the facts that FILE holds. Where there is no such file the model
  // makes it, and they are not taught yet: a person reads them first.
  Dataset read(const Workspace& workspace, const Reporter& reporter,
               std::optional<api::MadeReport>& made) const {
    Dataset set = read_teach_sets(data);
    if (facts.empty()) return set;
    const std::filesystem::path progress = facts.string() + ".progress";
    if (!std::filesystem::exists(facts) || std::filesystem::exists(progress)) {
      made = workspace.make_questions(set, facts, reporter);
      return set;
    }
    if (std::filesystem::file_size(facts) == 0) return set;
    auto paths = data;
    paths.push_back(facts);
    return read_teach_sets(paths);
  }

  api::TeachOptions resolved(const Common& common) const {
    api::TeachOptions out = options;
    out.seed = common.seed;
    out.gated = !no_gate;
    return out;
  }
};

// The one set of rows for a model of vectors.
VectorSet rows_of(const TeachArguments& arguments) {
  if (arguments.data.size() != 1 || !arguments.facts.empty())
    throw Error(ErrorCode::kInvalidArgument, "a model of vectors is taught one set at a time",
                "name one .safetensors, .npz, .jsonl or .csv file");
  return read_vector_set(arguments.data.front());
}

// What teach and plan take alike.
void add_options(CLI::App& verb, TeachArguments& state, Common& common) {
  api::TeachOptions& o = state.options;
  verb.add_option("--progress", common.progress,
                  "How progress is said: text, or json: one object a line for programs")
      ->type_name("{text,json}")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  verb.add_option("MODEL", state.model, "A model folder made by retrofit")
      ->type_name("FOLDER")
      ->required();
  verb.add_option(
          "DATA", state.data,
          "Teach sets (.jsonl, .json), documents (.md, .txt, .html, .pdf), folders of them; "
          "of a model of vectors one set of rows (.npz, .safetensors, .jsonl, .csv)")
      ->type_name("PATH")
      ->required();
  verb.add_option("--facts", state.facts,
                  "Also teach what FILE holds: questions and answers that the model makes of the "
                  "documents. Where there is none, or half of one, it is made and not yet taught")
      ->type_name("FILE");
  verb.add_option("--ranking", o.ranking, "Which slots are written")
      ->type_name(kRankings)
      ->capture_default_str();
  verb.add_option("--slots", o.slots, "Rows per memory layer at most; 0: by the size of the set")
      ->check(zero_or_above())
      ->capture_default_str();
  verb.add_option("--max-seconds", o.max_seconds, "Refuse rather than take longer; 0: no limit")
      ->type_name("SECONDS")
      ->check(zero_or_above())
      ->capture_default_str();
  verb.add_flag("--raw", o.raw, "Prompts as they are, without the chat template");
  verb.add_option("--steps", o.steps, "Steps of a fact's value at most; default: by the model")
      ->check(zero_or_above());
  verb.add_option("--rate", o.rate,
                  "First step length of value vectors, in units of what they are added to")
      ->check(above_zero());
  verb.add_option("--lambda", o.lambda, "Learning (small, 1e-6) against keeping (large, 1e-4)")
      ->check(above_zero())
      ->capture_default_str();
  verb.add_option("--neighbours", o.neighbours,
                  "Prompts about other subjects that are kept as they are, per phrasing")
      ->check(zero_or_above())
      ->capture_default_str();
  verb.add_flag("--no-gate", state.no_gate, "Let the update speak everywhere (for comparison)");
  verb.add_option("--text-share", o.text_share,
                  "Share of a text's tokens, the rarest, that it may speak at; 1: all, everywhere")
      ->type_name("X")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_flag("--stepwise", o.stepwise, "Preconditioned steps for facts too (for comparison)");
}

using Rows = std::vector<std::vector<std::string>>;

void add_documents(Rows& rows, const api::Documents& d) {
  if (d.taught == 0 && d.unchanged == 0) return;
  std::string text = accrete::format(
      "{} in {}", d.taught,
      d.passages == 1 ? std::string("1 passage") : accrete::format("{} passages", d.passages));
  if (d.replaced > 0) text += accrete::format(", {} in the place of what they were", d.replaced);
  if (d.unchanged > 0) text += accrete::format("; {} unchanged", d.unchanged);
  rows.push_back({"documents", text});
}

void add_conflicts(Rows& rows, const std::vector<api::Conflict>& conflicts) {
  constexpr size_t kMost = 3;
  for (const api::Conflict& c : conflicts) {
    rows.push_back({"corrects", accrete::format("\"{}\": {} -> {}  (update {}, line {} of {})",
                                                c.question, c.update_answer, c.answer, c.update,
                                                c.update_line, c.update_source)});
    if (c.taken.empty()) continue;
    std::string also;
    for (size_t i = 0; i < std::min(kMost, c.taken.size()); ++i)
      also += accrete::format("{}\"{}\"", i == 0 ? "" : ", ", c.taken[i]);
    if (c.taken.size() > kMost) also += accrete::format(" and {} more", c.taken.size() - kMost);
    rows.push_back({"", accrete::format("its other wordings are answered so too: {}", also)});
  }
}

void add_forecast(Rows& rows, const std::string& name, const api::Forecast& f) {
  rows.push_back({"forecast " + name,
                  accrete::format("{:+.4f}  ({:+.4f} .. {:+.4f}), {} of {} examples touched",
                                  f.predicted, f.low, f.high, f.touched, f.examples)});
}

void add_overlaps(Rows& rows, const std::vector<api::Overlap>& overlaps) {
  constexpr size_t kMost = 5;
  for (size_t i = 0; i < std::min(kMost, overlaps.size()); ++i) {
    const api::Overlap& o = overlaps[i];
    rows.push_back(
        {"shares slots", accrete::format("{} ({}) with update {}, cosine {:+.2f}", o.shared,
                                         percent(o.share), o.update, o.cosine)});
  }
  if (overlaps.size() > kMost)
    rows.push_back({"", accrete::format("and with {} more", overlaps.size() - kMost)});
}

// Whom the facts are about, the most first.
void add_subjects(Rows& rows, const std::map<std::string, int64_t>& subjects) {
  constexpr size_t kMost = 6;
  std::vector<std::pair<int64_t, std::string>> named;
  for (const auto& [name, n] : subjects)
    if (!name.empty()) named.emplace_back(-n, name);
  std::sort(named.begin(), named.end());
  std::string text;
  for (size_t i = 0; i < std::min(kMost, named.size()); ++i)
    text += accrete::format("{}{} ({})", i > 0 ? ", " : "", named[i].second, -named[i].first);
  if (named.size() > kMost) text += accrete::format(" and {} more", named.size() - kMost);
  if (const auto none = subjects.find(""); none != subjects.end())
    text += accrete::format("{}no name ({})", text.empty() ? "" : ", ", none->second);
  if (!text.empty()) rows.push_back({"about", text});
}

// On standard error, beside the result.
void print_remarks(const std::vector<std::string>& remarks) {
  for (const std::string& remark : remarks) std::fprintf(stderr, "note: %s\n", remark.c_str());
}

std::string to_text(const api::MadeReport& r, const std::filesystem::path& file) {
  return accrete::format(
      "{} facts of {} questions about {} passages were made: read and correct {}, then run this "
      "again to teach them\n",
      r.kept, r.asked, r.passages, file.string());
}

int64_t facts_of(const api::TeachReport& r) {
  int64_t out = 0;
  for (const auto& [subject, facts] : r.subjects) out += facts;
  return out;
}

std::string to_text(const api::TeachReport& r) {
  if (r.update.empty()) return "nothing is new: all of it was taught already\n";
  Rows rows = {{"update", r.update}, {"items", std::to_string(r.items)}};
  const bool documents = r.documents.taught > 0;
  if (!r.metric.empty())
    rows.push_back({"learned, " + r.metric, change(r.learned)});
  else if (r.subjects.empty() ? !documents : r.left < facts_of(r))
    rows.push_back({"learned", change(r.learned)});
  if (r.left > 0)
    rows.push_back({"left to the model", r.left == 1 ? std::string("1 question")
                                                     : accrete::format("{} questions", r.left)});
  add_subjects(rows, r.subjects);
  add_documents(rows, r.documents);
  if (r.asked) rows.push_back({"other wording", change(*r.asked)});
  for (const auto& [name, k] : r.kept)
    rows.push_back({"kept " + name, accrete::format("{:.4f} -> {:.4f}  ({} of its base)", k.before,
                                                    k.after, percent(k.kept))});
  for (const auto& [name, f] : r.forecast) add_forecast(rows, name, f);
  if (!r.change.empty()) rows.push_back({"to hold the floors", r.change});
  if (r.check_share > 0)
    rows.push_back(
        {"probes watched", accrete::format("in {} of the steps' time", percent(r.check_share))});
  add_conflicts(rows, r.conflicts);
  if (r.companions > 0)
    rows.push_back(
        {"kept along", accrete::format("{} facts about the same subjects", r.companions)});
  if (r.subjects.empty() && r.parameters > 0)
    rows.push_back({"written", accrete::format("{} rows, {} parameters", r.rows, r.parameters)});
  rows.push_back({"cost", accrete::format("{:.1f} s, {:.2f} GB at most", r.seconds,
                                          static_cast<double>(r.peak_bytes) / 1e9)});
  return table(rows);
}

std::string to_text(const api::PlanReport& r) {
  Rows rows = {{"items", std::to_string(r.items)}};
  add_subjects(rows, r.subjects);
  add_documents(rows, r.documents);
  for (const auto& [name, probe] : r.probes) add_forecast(rows, name, probe.forecast);
  for (const auto& [name, probe] : r.probes)
    if (!probe.holds) rows.push_back({"floor " + name, "WOULD BREAK"});
  add_conflicts(rows, r.conflicts);
  add_overlaps(rows, r.overlaps);
  if (r.subjects.empty() && r.parameters > 0)
    rows.push_back(
        {"would write", accrete::format("{} rows, {} parameters", r.rows, r.parameters)});
  return table(rows);
}

}  // namespace

void add_teach(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<TeachArguments>();
  auto* verb = app.add_subcommand(
      "teach",
      "Teach a set in one transaction: write few rows, validate, commit or change nothing");
  add_options(*verb, *state, common);
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete teach my-model facts.jsonl --max-seconds 600");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      auto workspace = Workspace::open(state->model, common.open);
      if (workspace.takes_vectors()) {
        const auto r = workspace.teach(rows_of(*state), state->resolved(common), common.reporter());
        common.print(to_json(r), to_text(r));
        print_remarks(r.remarks);
        return 0;
      }
      std::optional<api::MadeReport> made;
      const Dataset data = state->read(workspace, common.reporter(), made);
      const auto r = workspace.teach(data, state->resolved(common), common.reporter());
      auto json = to_json(r);
      if (made) json["made"] = to_json(*made);
      common.print(json, (made ? to_text(*made, state->facts) : "") + to_text(r));
      print_remarks(r.remarks);
      return 0;
    };
  });
}

void add_forget(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, source;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "forget", "Take away what was taught from a document or from a folder of documents");
  verb->add_option("MODEL", state->model, "A model folder made by retrofit")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--source", state->source, "The document's path or address, as it was taught")
      ->type_name("PATH")
      ->required();
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete forget my-model --source manual/returns.md");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = Workspace::open(state->model, common.open).forget(state->source);
      common.print(to_json(r),
                   accrete::format("update {}: {} passages of {} are forgotten; undo brings them "
                                   "back\n",
                                   r.update, r.passages,
                                   r.documents.size() == 1
                                       ? r.documents.front()
                                       : accrete::format("{} documents", r.documents.size())));
      return 0;
    };
  });
}

void add_plan(CLI::App& app, Common& common, Run& run) {
  auto state = std::make_shared<TeachArguments>();
  auto* verb = app.add_subcommand(
      "plan", "What a teach would do to every probe, which slots and updates it meets; no change");
  add_options(*verb, *state, common);
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete plan my-model facts.jsonl");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto workspace = Workspace::open(state->model, common.open);
      if (workspace.takes_vectors()) {
        const auto r = workspace.plan(rows_of(*state), state->resolved(common), common.reporter());
        common.print(to_json(r), to_text(r));
        print_remarks(r.remarks);
        return 0;
      }
      std::optional<api::MadeReport> made;
      const Dataset data = state->read(workspace, common.reporter(), made);
      const auto r = workspace.plan(data, state->resolved(common), common.reporter());
      auto json = to_json(r);
      if (made) json["made"] = to_json(*made);
      common.print(json, (made ? to_text(*made, state->facts) : "") + to_text(r));
      print_remarks(r.remarks);
      return 0;
    };
  });
}

}  // namespace accrete::cli
