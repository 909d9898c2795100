#include "bench/forgetting_plan.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "bench/baselines/finetune.h"
#include "bench/baselines/memory_learner.h"
#include "bench/baselines/sparse_steps.h"

namespace accrete {
namespace {

using OrderedJson = nlohmann::ordered_json;

// Rows per layer at which the deposit's rankings are compared. By default nearly every slot that
// the subjects read is written, and all rankings choose the same.
constexpr double kRankedSlots = 2000;

// A grid's lines: a rate and after how many passes it is scored, with the same other numbers.
std::vector<GridLine> lines(std::initializer_list<std::pair<double, std::vector<int64_t>>> rates,
                            const OrderedJson& common) {
  std::vector<GridLine> grid;
  for (const auto& [rate, passes] : rates) {
    GridLine line;
    line.hyper = OrderedJson::object();
    line.hyper["rate"] = rate;
    line.hyper.update(common);
    line.passes = passes;
    grid.push_back(std::move(line));
  }
  return grid;
}

OrderedJson object(std::initializer_list<std::pair<const char*, double>> numbers) {
  OrderedJson out = OrderedJson::object();
  for (const auto& [key, value] : numbers) {
    if (value == static_cast<double>(static_cast<int64_t>(value)))
      out[key] = static_cast<int64_t>(value);
    else
      out[key] = value;
  }
  return out;
}

std::vector<MethodPlan> small_methods(int64_t seeds, int64_t other_seeds, bool native) {
  constexpr Schedule kOneGo = Schedule::kOneGo, kStream = Schedule::kStream;
  const OrderedJson none = OrderedJson::object();
  const OrderedJson lora = object({{"rank", 16}, {"alpha", 32}});
  const OrderedJson replay = object({{"rank", 16}, {"alpha", 32}, {"replay", 0.1}});
  const OrderedJson top = object({{"slots", 500}});
  std::vector<MethodPlan> plan = {
      {"interference", kOneGo, {GridLine{none, {1}}}, seeds},
      {"full-adamw", kOneGo, lines({{1e-4, {1, 2}}, {3e-5, {2, 4}}, {1e-5, {6}}}, none), seeds},
      {"lora", kOneGo, lines({{1e-3, {2, 4}}, {3e-4, {2, 4}}, {1e-4, {6}}}, lora), seeds},
      {"lora-replay", kOneGo, lines({{3e-4, {2, 4}}, {1e-4, {6}}}, replay), seeds},
      {"tfidf-published", kOneGo, lines({{1000, {5, 10}}, {4000, {5, 10}}}, top), seeds},
      {"interference", kStream, {GridLine{none, {1}}}, seeds},
      {"full-adamw", kStream, lines({{3e-5, {5}}, {1e-5, {5}}}, none), seeds},
      {"lora", kStream, lines({{3e-4, {5}}, {1e-4, {5}}}, lora), seeds},
      {"lora-replay", kStream, lines({{3e-4, {5}}, {1e-4, {5}}}, replay), seeds},
      {"tfidf-published", kStream, lines({{1000, {10}}, {4000, {10}}}, top), seeds},
      {"ewc", kOneGo, lines({{3e-5, {2, 4}}}, object({{"ewc", 1000}})), other_seeds},
      {"full-sgd", kOneGo, lines({{0.1, {3, 6}}, {0.03, {6}}}, none), other_seeds},
  };
  if (native) {
    const auto full = lines({{3e-4, {2, 4}}, {1e-4, {4, 8}}, {3e-5, {8, 16}}}, none);
    const auto factors = [&](const OrderedJson& common) {
      return lines({{3e-3, {2, 4}}, {1e-3, {4, 8}}, {3e-4, {8, 16}}}, common);
    };
    const auto in_stream = [&](std::initializer_list<double> rates, const OrderedJson& common) {
      std::vector<GridLine> grid;
      for (const double rate : rates) {
        const auto line = lines({{rate, {5, 10}}}, common);
        grid.insert(grid.end(), line.begin(), line.end());
      }
      return grid;
    };
    for (MethodPlan& p : plan) {
      const bool one = p.schedule == kOneGo;
      if (p.method == "full-adamw") p.grid = one ? full : in_stream({3e-4, 1e-4, 3e-5}, none);
      if (p.method == "lora") p.grid = one ? factors(lora) : in_stream({3e-3, 1e-3, 3e-4}, lora);
      if (p.method == "lora-replay")
        p.grid = one ? factors(replay) : in_stream({3e-3, 1e-3, 3e-4}, replay);
      if (p.method == "tfidf-published")
        p.grid = one ? lines({{4000, {5, 10}}, {1000, {5, 10}}, {300, {5, 10}}, {100, {10}}}, top)
                     : lines({{1000, {10}}, {300, {10}}, {100, {10}}}, top);
      if (p.method == "ewc")
        p.grid = lines({{1e-3, {2, 4}}, {3e-4, {4, 8}}}, object({{"ewc", 1000}}));
      if (p.method == "full-sgd") p.grid = lines({{1, {3, 6}}, {0.3, {3, 6}}, {0.1, {6}}}, none);
    }
  }
  const OrderedJson ranked = object({{"slots", kRankedSlots}});
  for (const char* ranking : {"interference", "tfidf", "gradient", "fisher", "kl", "tf", "random"})
    plan.push_back(
        {std::string("deposit-") + ranking, kOneGo, {GridLine{ranked, {1}}}, other_seeds});
  plan.push_back({"deposit-all", kOneGo, {GridLine{none, {1}}}, other_seeds});
  return plan;
}

// One run of each of the main methods, in the setting that the small profile chose on dev.
std::vector<MethodPlan> abilities_methods() {
  constexpr Schedule kOneGo = Schedule::kOneGo;
  const OrderedJson lora = object({{"rank", 16}, {"alpha", 32}});
  const OrderedJson replay = object({{"rank", 16}, {"alpha", 32}, {"replay", 0.1}});
  return {{"interference", kOneGo, {GridLine{OrderedJson::object(), {1}}}, 1},
          {"full-adamw", kOneGo, lines({{3e-5, {4}}}, OrderedJson::object()), 1},
          {"lora", kOneGo, lines({{3e-4, {4}}}, lora), 1},
          {"lora-replay", kOneGo, lines({{3e-4, {4}}}, replay), 1},
          {"tfidf-published", kOneGo, lines({{4000, {10}}}, object({{"slots", 500}})), 1}};
}

// Other things to learn than facts, by the methods that matter, each with its own sweep.
std::vector<MethodPlan> other_methods(TeachKind teach) {
  constexpr Schedule kOneGo = Schedule::kOneGo;
  const bool documents = teach == TeachKind::kDocuments;
  // A document is as long as a batch of phrasings.
  const OrderedJson full = documents ? object({{"batch", 8}}) : OrderedJson::object();
  OrderedJson lora = object({{"rank", 16}, {"alpha", 32}});
  lora.update(full);
  OrderedJson replay = lora;
  replay["replay"] = 0.1;
  return {
      {"interference", kOneGo, {GridLine{OrderedJson::object(), {1}}}, 3},
      {"full-adamw", kOneGo, lines({{1e-4, {2, 4}}, {3e-5, {4, 8}}}, full), 3},
      {"lora", kOneGo, lines({{1e-3, {2, 4}}, {3e-4, {4, 8}}}, lora), 3},
      {"lora-replay", kOneGo, lines({{1e-3, {2, 4}}, {3e-4, {4, 8}}}, replay), 3},
  };
}

OptimizerOptions optimizer(const OrderedJson& hyper, OptimizerOptions::Kind kind) {
  OptimizerOptions options;
  options.kind = kind;
  options.rate = hyper.at("rate").get<double>();
  return options;
}

}  // namespace

std::string schedule_name(Schedule schedule) {
  return schedule == Schedule::kOneGo ? "one_go" : "stream";
}

Schedule parse_schedule(const std::string& name) {
  for (const Schedule s : {Schedule::kOneGo, Schedule::kStream})
    if (schedule_name(s) == name) return s;
  throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no schedule \"{}\"", name),
              "use one of: one_go, stream");
}

ForgettingProfile forgetting_profile(const std::string& name, bool native) {
  ForgettingProfile profile;
  profile.name = name;
  if (name == "small") {
    profile.methods = small_methods(3, native ? 3 : 1, native);
  } else if (name == "abilities") {
    profile.abilities = true;
    profile.methods = abilities_methods();
  } else if (name == "questions" || name == "documents") {
    if (native)
      throw Error(
          ErrorCode::kUnsupported,
          "a model of pretrain's own does not answer questions, so none can be taught to it",
          "take a retrofitted model, or --profile small");
    profile.teach = name == "questions" ? TeachKind::kQuestions : TeachKind::kDocuments;
    if (profile.teach == TeachKind::kDocuments) profile.facts = 60;
    profile.methods = other_methods(profile.teach);
  } else if (name == "full") {
    profile.facts = 1000;
    profile.updates = 500;
    profile.unknown_questions = true;
    profile.abilities = true;
    profile.text_bytes = 200000;
    profile.tuning_text_bytes = 40000;
    profile.methods = small_methods(3, 3, native);
  } else if (name == "smoke") {
    profile.facts = 6;
    profile.updates = 3;
    profile.known_limit = 8;
    profile.text_bytes = profile.tuning_text_bytes = 1000;
    const OrderedJson replay = object({{"rank", 4}, {"alpha", 8}, {"replay", 0.1}});
    profile.methods = {
        {"interference", Schedule::kOneGo, {GridLine{OrderedJson::object(), {1}}}, 1},
        {"full-adamw", Schedule::kOneGo, lines({{3e-5, {1, 2}}}, OrderedJson::object()), 1},
        {"lora-replay", Schedule::kOneGo, lines({{1e-3, {2}}}, replay), 1},
        {"tfidf-published", Schedule::kStream, lines({{1000, {2}}}, object({{"slots", 100}})), 1},
    };
  } else {
    throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no profile \"{}\"", name),
                "use one of: smoke, small, abilities, questions, documents, full");
  }
  return profile;
}

std::unique_ptr<Learner> make_learner(LanguageModel& model, const std::string& method,
                                      const OrderedJson& hyper, const LearnerParts& parts,
                                      uint64_t seed) {
  using Kind = OptimizerOptions::Kind;
  const auto finetune = [&](Kind kind) {
    FinetuneOptions options;
    options.optimizer = optimizer(hyper, kind);
    options.rank = hyper.value("rank", int64_t{0});
    options.alpha = hyper.value("alpha", 32.0);
    options.batch = hyper.value("batch", options.batch);
    options.replay = hyper.value("replay", 0.0);
    options.ewc = hyper.value("ewc", 0.0);
    options.seed = seed;
    options.low_precision = parts.low_precision;
    const bool background = options.replay > 0 || options.ewc > 0;
    return std::make_unique<Finetune>(model, background ? parts.replay : std::vector<Example>(),
                                      options);
  };
  if (method == "full-adamw" || method == "lora" || method == "lora-replay" || method == "ewc")
    return finetune(Kind::kAdamW);
  if (method == "full-sgd") return finetune(Kind::kSgd);

  constexpr std::string_view kPublished = "-published", kDeposit = "deposit-";
  if (method.ends_with(kPublished)) {
    SparseStepsOptions options;
    options.ranking = parse_ranking(method.substr(0, method.size() - kPublished.size()));
    options.rate = hyper.at("rate").get<double>();
    options.slots = hyper.at("slots").get<int64_t>();
    options.seed = seed;
    options.low_precision = parts.low_precision;
    return std::make_unique<SparseSteps>(model, parts.background, options);
  }
  TeachOptions options;
  options.raw = true;
  options.seed = seed;
  options.slots = hyper.value("slots", int64_t{0});
  options.gated = hyper.value("gated", true);
  if (method.starts_with(kDeposit))
    options.ranking = parse_ranking(method.substr(kDeposit.size()));
  else if (method != "interference")
    throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no method \"{}\"", method));
  return std::make_unique<MemoryLearner>(model, parts.background, parts.names, options);
}

}  // namespace accrete
