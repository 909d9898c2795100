// bench domains: a chain of tasks, taught one after another to one model of vectors.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "accrete/model.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "bench/verbs/bench.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Matrix = std::vector<std::vector<double>>;

struct BenchDomains {
  std::string chain;
  fs::path data, work;
  int64_t seeds = 1;
  api::RetrofitOptions retrofit;
};

// `prefix`NN.safetensors of a folder, by name.
std::vector<fs::path> sets_in(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> out;
  std::error_code ignored;
  for (fs::directory_iterator at(folder, ignored), end; at != end; at.increment(ignored))
    if (at->path().filename().string().starts_with(prefix) &&
        at->path().extension() == ".safetensors")
      out.push_back(at->path());
  std::sort(out.begin(), out.end());
  return out;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

// R[i][j]: the score on task j after i tasks; row 0 is before the chain. `none`: what a guess gets.
Json measures(const Matrix& r, double none) {
  const size_t tasks = r.size() - 1;
  std::vector<double> retained, forgetting, averages, last = r.back();
  for (size_t j = 0; j + 1 < tasks; ++j) {
    double best = 0;
    for (size_t i = j + 1; i <= tasks; ++i) best = std::max(best, r[i][j]);
    if (r[j + 1][j] > none) retained.push_back((r[tasks][j] - none) / (r[j + 1][j] - none));
    forgetting.push_back(best - r[tasks][j]);
  }
  for (size_t i = 1; i <= tasks; ++i)
    averages.push_back(mean_of({r[i].begin(), r[i].begin() + static_cast<std::ptrdiff_t>(i)}));
  return {{"retained", mean_of(retained)},
          {"forgetting", mean_of(forgetting)},
          {"last", mean_of(last)},
          {"average", mean_of(averages)}};
}

int64_t stored_bytes(const fs::path& model) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(model / "accrete" / "updates"))
    bytes += static_cast<int64_t>(entry.file_size());
  return bytes;
}

Json run_chain(const BenchDomains& state, uint64_t seed, const Common& common) {
  const fs::path sets = state.data / state.chain;
  const auto tasks = sets_in(sets, "task_"), tests = sets_in(sets, "test_");
  if (tasks.empty() || tasks.size() != tests.size())
    throw Error(ErrorCode::kNotFound,
                accrete::format("{} has not a test_NN for each task_NN", sets.string()),
                "bench/make_domain_sets.py makes them of the data that you have");
  const fs::path folder = state.work / accrete::format("{}-{}", state.chain, seed);
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  api::RetrofitOptions options = state.retrofit;
  options.seed = seed;
  const auto made = api::retrofit(sets / "model", folder, options, common.callbacks());
  auto workspace = Workspace::open(folder, common.open);
  std::vector<VectorSet> asked;
  for (const auto& path : tests) asked.push_back(read_vector_set(path));
  const auto score_all = [&] {
    std::vector<double> out;
    for (const auto& set : asked) out.push_back(workspace.score(set));
    return out;
  };
  Matrix r = {score_all()};
  std::vector<double> seconds;
  std::vector<std::string> digests = {workspace.digest().state};
  int64_t peak = 0;
  for (const auto& path : tasks) {
    const auto report = workspace.teach(read_vector_set(path), {}, {});
    seconds.push_back(report.seconds);
    peak = std::max(peak, report.peak_bytes);
    r.push_back(score_all());
    digests.push_back(workspace.digest().state);
    common.reporter().report("tasks", static_cast<int64_t>(seconds.size()),
                             static_cast<int64_t>(tasks.size()));
  }
  // Every task taken back, and all of them brought back.
  bool exact = true;
  for (size_t i = tasks.size(); i > 0; --i) {
    workspace.undo();
    exact = exact && workspace.digest().state == digests[i - 1];
  }
  exact = exact && workspace.score(asked.front()) == r.front().front();
  workspace.redo(static_cast<int64_t>(tasks.size()));
  exact = exact && workspace.digest().state == digests.back() &&
          workspace.score(asked.front()) == r.back().front();
  const double none = workspace.info().outputs.size() == 1 ? 0.5 : 0;
  Json json = {{"domain", state.chain},   {"method", "accrete"},
               {"columns", made.columns}, {"winners", made.winners},
               {"ridge", options.ridge},  {"seed", seed},
               {"tasks", tasks.size()},   {"R", r}};
  json.update(measures(r, none));
  json["seconds"] = mean_of(seconds);
  json["first_seconds"] = seconds.front();
  json["last_seconds"] = seconds.back();
  json["peak_bytes"] = peak;
  json["stored_bytes"] = stored_bytes(folder);
  json["digest"] = digests.back();
  json["undo_exact"] = exact;
  return json;
}

}  // namespace

void add_bench_domains(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchDomains>();
  auto* verb = bench.add_subcommand(
      "domains", "Tasks of rows one after another: what is kept, the cost, and undo by digest");
  verb->add_option("CHAIN", state->chain, "A folder of --data: mnist, omniglot, cifar10, credit")
      ->required();
  verb->add_option("--data", state->data, "What bench/make_domain_sets.py wrote")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--work", state->work, "Where models and results are written")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--seeds", state->seeds, "Projections that are tried")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--columns", state->retrofit.columns, "Slots of the memory")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--winners", state->retrofit.winners, "Slots that a row may use; 0: a quarter")
      ->check(zero_or_above())
      ->capture_default_str();
  verb->add_option("--ridge", state->retrofit.ridge, "Of the closed form")
      ->check(above_zero())
      ->capture_default_str();
  add_common(*verb, common, "accrete bench domains mnist --data sets --work runs --seeds 3");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      Json all = Json::array();
      std::vector<std::vector<std::string>> rows = {
          {"SEED", "RETAINED", "FORGETTING", "AVERAGE", "LAST", "SECONDS", "BYTES", "UNDO"}};
      for (int64_t i = 0; i < state->seeds; ++i) {
        const uint64_t seed = common.seed + static_cast<uint64_t>(i);
        const Json cell = run_chain(*state, seed, common);
        write_file_atomically(
            state->work / accrete::format("{}-accrete-{}.json", state->chain, seed),
            cell.dump(1) + "\n");
        rows.push_back(
            {std::to_string(seed), percent(cell["retained"]),
             accrete::format("{:.4f}", cell["forgetting"].get<double>()), percent(cell["average"]),
             percent(cell["last"]), accrete::format("{:.2f}", cell["seconds"].get<double>()),
             cell["stored_bytes"].dump(), cell["undo_exact"].get<bool>() ? "exact" : "NOT EXACT"});
        all.push_back(cell);
      }
      common.print({{"cells", all}}, table(rows));
      return 0;
    };
  });
}

}  // namespace accrete::cli
