#include "bench/forgetting.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/rng.h"
#include "bench/baselines/finetune.h"
#include "bench/forgetting_data.h"
#include "learn/teach.h"
#include "model/memory_files.h"
#include "model/packed_pass.h"

namespace accrete {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr int64_t kReplayTokens = 64;  // of a background example
constexpr size_t kReplayExamples = 1000;

// Everything of a run that does not change between cells.
class Bench {
 public:
  Bench(LanguageModel& model, const ForgettingOptions& options, const Reporter& reporter)
      : model_(model),
        options_(options),
        profile_(options.profile),
        reporter_(reporter),
        start_(std::chrono::steady_clock::now()) {
    fs::create_directories(options.out);
    claim_folder();
    parts_.background = load_background(model.folder(), model.memory().keys);
    parts_.names = load_names(model.folder());
    parts_.replay = background_examples(model, read_corpus(options.data / "background.txt.zst"),
                                        kReplayTokens, kReplayExamples, Rng(0).split(41));
  }

  OrderedJson run() {
    std::vector<const MethodPlan*> plans;
    for (const MethodPlan& plan : profile_.methods) {
      const auto& m = options_.methods;
      const auto& s = options_.schedules;
      if (!m.empty() && std::find(m.begin(), m.end(), plan.method) == m.end()) continue;
      if (!s.empty() && std::find(s.begin(), s.end(), plan.schedule) == s.end()) continue;
      plans.push_back(&plan);
    }
    // The first seed of every method, then the next: an unfinished table has a row for each.
    int64_t seeds = 0;
    for (const MethodPlan* plan : plans) seeds = std::max(seeds, seeds_of(*plan));
    for (int64_t seed = 0; seed < seeds; ++seed)
      for (const MethodPlan* plan : plans) {
        if (seed >= seeds_of(*plan)) continue;
        const auto chosen = choose(*plan);
        if (!chosen) continue;
        train(*plan, "test", *chosen, seed);
      }
    return {{"benchmark", "forgetting"},
            {"profile", profile_.name},
            {"cells", cells_},
            {"complete", missing_ == 0},
            {"missing", missing_}};
  }

 private:
  int64_t seeds_of(const MethodPlan& plan) const {
    return options_.seeds > 0 ? std::min(options_.seeds, plan.seeds) : plan.seeds;
  }

  // The folder belongs to one model and one profile.
  void claim_folder() {
    const OrderedJson claim = {
        {"benchmark", "forgetting"},         {"profile", profile_.name},
        {"facts", profile_.facts},           {"updates", profile_.updates},
        {"text_bytes", profile_.text_bytes}, {"model", model_.base_digest()}};
    const auto file = options_.out / "run.json";
    if (!fs::exists(file)) {
      write_file_atomically(file, claim.dump(2) + "\n");
    } else if (OrderedJson::parse(read_file(file)) != claim) {
      throw Error(ErrorCode::kConflict,
                  accrete::format("{} holds results of another model or profile", file.string()),
                  "give another folder with --out");
    }
  }

  ForgettingSplit& split(const std::string& name) {
    const auto [it, fresh] = splits_.try_emplace(name);
    ForgettingSplit& split = it->second;
    if (!fresh) return split;
    split = read_split(options_.data, name, profile_, model_.net().config().memory.has_value());
    // Which questions are known is what the untouched model answers.
    const auto file = options_.out / ("known_" + name + ".json");
    OrderedJson known;
    if (fs::exists(file)) {
      known = OrderedJson::parse(read_file(file));
    } else {
      known = find_known(model_, split, profile_, reporter_);
      select_known(split, known);
      known["asked"] = split.questions.size();
      known["scores"] = to_json(score_kept(model_, split.kept, reporter_));
      write_file_atomically(file, known.dump(2) + "\n");
    }
    select_known(split, known);
    known_[name] = known.at("scores");
    return split;
  }

  fs::path cell_file(const MethodPlan& plan, const std::string& split_name,
                     const OrderedJson& hyper, int64_t passes, int64_t seed) const {
    std::string name =
        accrete::format("{}-{}-{}", schedule_name(plan.schedule), split_name, plan.method);
    for (const auto& [key, value] : hyper.items())
      name += accrete::format("-{}{}", key, value.dump());
    return options_.out / accrete::format("{}-passes{}-seed{}.json", name, passes, seed);
  }

  // How the untouched model answers the new facts; asked once for all methods.
  const OrderedJson& new_before(const std::string& split_name, int64_t seed, const NewSet& set) {
    const auto [it, fresh] = new_before_.try_emplace({split_name, seed});
    if (fresh) it->second = to_json(score_new(model_, set, reporter_));
    return it->second;
  }

  // The hyper-parameters for the test split; none while the search is not complete.
  std::optional<GridLine> choose(const MethodPlan& plan) {
    if (plan.grid.size() == 1 && plan.grid.front().passes.size() == 1) return plan.grid.front();
    for (const GridLine& line : plan.grid) train(plan, "dev", line, 0);
    std::optional<GridLine> best;
    double best_score = -1;
    for (const GridLine& line : plan.grid)
      for (const int64_t passes : line.passes) {
        const auto file = cell_file(plan, "dev", line.hyper, passes, 0);
        if (!fs::exists(file)) return std::nullopt;
        const double score = tuning_score(OrderedJson::parse(read_file(file)));
        if (score > best_score) {
          best = GridLine{line.hyper, {passes}};
          best_score = score;
        }
      }
    return best;
  }

  bool out_of_time() const {
    return options_.max_seconds > 0 &&
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count() >
               options_.max_seconds;
  }

  // One training run, scored after each of the line's passes; what exists is only read.
  void train(const MethodPlan& plan, const std::string& split_name, const GridLine& line,
             int64_t seed) {
    std::vector<int64_t> wanted;
    for (const int64_t passes : line.passes) {
      const auto file = cell_file(plan, split_name, line.hyper, passes, seed);
      if (!fs::exists(file)) {
        wanted.push_back(passes);
      } else if (seen_.insert(file.string()).second) {
        cells_.push_back(OrderedJson::parse(read_file(file)));
      }
    }
    if (wanted.empty()) return;
    if (out_of_time()) {
      ++missing_;
      return;
    }
    if (plan.schedule == Schedule::kStream) {
      // What a stream has learned depends on how often each update was gone through.
      for (const int64_t passes : wanted) train_once(plan, split_name, line, {passes}, seed);
    } else {
      train_once(plan, split_name, line, wanted, seed);
    }
  }

  void train_once(const MethodPlan& plan, const std::string& split_name, const GridLine& line,
                  const std::vector<int64_t>& wanted, int64_t seed) {
    const ForgettingSplit& data = split(split_name);
    const NewSet set = draw_new(data, profile_, seed);
    const std::vector<Item>& items = set.items;
    OrderedJson before = new_before(split_name, seed, set);
    before.update(known_.at(split_name));

    // oneDNN makes a kernel for every shape that it meets: small batches of a stream cost more in
    // these than they gain.
    parts_.low_precision =
        plan.schedule == Schedule::kOneGo && PackedPass::fast_low_precision(model_.net());
    const auto learner =
        make_learner(model_, plan.method, line.hyper, parts_, static_cast<uint64_t>(seed));
    double seconds = 0;
    std::string refused;
    const auto timed = [&](const auto& work) {
      const auto begin = std::chrono::steady_clock::now();
      try {
        if (refused.empty()) work();
      } catch (const Error& e) {
        if (e.code() != ErrorCode::kRefused) throw;
        refused = e.what();
      }
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    int64_t done = 0;
    int64_t updates = 1;
    for (const int64_t passes : wanted) {
      if (plan.schedule == Schedule::kOneGo) {
        timed([&] { learner->learn(items, passes - done, reporter_); });
        done = passes;
      } else {
        updates = std::min(profile_.updates, static_cast<int64_t>(items.size()));
        Reporter quiet = reporter_;
        quiet.progress = nullptr;
        for (int64_t u = 0; u < updates && refused.empty(); ++u) {
          const auto begin = items.size() * static_cast<size_t>(u) / static_cast<size_t>(updates);
          const auto end = items.size() * static_cast<size_t>(u + 1) / static_cast<size_t>(updates);
          timed(
              [&] { learner->learn(std::span(items).subspan(begin, end - begin), passes, quiet); });
          reporter_.report("stream", u + 1, updates);
        }
      }
      const LearnerCost cost = learner->cost();
      OrderedJson cell = {{"schedule", schedule_name(plan.schedule)},
                          {"split", split_name},
                          {"method", plan.method},
                          {"hyper", line.hyper},
                          {"passes", passes},
                          {"seed", seed},
                          {"facts", items.size()},
                          {"updates", updates},
                          {"known_questions", data.kept.questions.size()},
                          {"known_clozes", data.kept.clozes.size()},
                          {"known_neighbours", data.kept.neighbours.size()},
                          {"before", before}};
      if (refused.empty()) {
        cell["after"] = to_json(score_new(model_, set, reporter_));
        cell["after"].update(to_json(score_kept(model_, data.kept, reporter_)));
      } else {
        cell["refused"] = refused;
      }
      cell["cost"] = {
          {"tokens", cost.tokens}, {"parameters", cost.parameters}, {"steps", cost.losses.size()}};
      const auto n = static_cast<ptrdiff_t>(std::min<size_t>(cost.losses.size(), 10));
      if (n > 0)
        cell["cost"]["last_loss"] =
            std::accumulate(cost.losses.end() - n, cost.losses.end(), 0.0) / static_cast<double>(n);
      if (cost.low_precision) cell["cost"]["products"] = "bfloat16";
      if (const auto device = model_.net().device(); !device.is_cpu())
        cell["cost"]["device"] = device.str();
      cell["cost"]["seconds"] = seconds;
      const auto file = cell_file(plan, split_name, line.hyper, passes, seed);
      write_file_atomically(file, cell.dump(2) + "\n");
      seen_.insert(file.string());
      cells_.push_back(std::move(cell));
    }
  }

  LanguageModel& model_;
  const ForgettingOptions& options_;
  const ForgettingProfile& profile_;
  const Reporter& reporter_;
  const std::chrono::steady_clock::time_point start_;
  LearnerParts parts_;
  std::map<std::string, ForgettingSplit> splits_;
  std::map<std::pair<std::string, int64_t>, OrderedJson> new_before_;  // by split and seed
  std::map<std::string, OrderedJson> known_;  // scores of what is to be kept, before, by split
  OrderedJson cells_ = OrderedJson::array();
  std::set<std::string> seen_;
  int64_t missing_ = 0;
};

}  // namespace

double tuning_score(const OrderedJson& cell) {
  if (!cell.contains("after")) return -1;
  const auto kept = [&](const char* key) {
    const double before = cell.at("before").at(key).get<double>();
    return before > 0 ? std::min(1.0, cell.at("after").at(key).get<double>() / before) : 1.0;
  };
  const double learned = cell.at("after").at("new_f1").get<double>();
  const double all = (kept("questions_f1") + kept("clozes_f1") + kept("neighbours_f1")) / 3;
  return learned + all > 0 ? 2 * learned * all / (learned + all) : 0;
}

OrderedJson run_forgetting(LanguageModel& model, const ForgettingOptions& options,
                           const Reporter& reporter) {
  if (!model.memory().overlay.empty())
    throw Error(
        ErrorCode::kInvalidArgument,
        accrete::format("{} has updates; the benchmark begins with none", model.folder().string()),
        "undo them, or retrofit a model of its own for it");
  return Bench(model, options, reporter).run();
}

}  // namespace accrete
