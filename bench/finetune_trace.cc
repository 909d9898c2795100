// One baseline's training run, written down so that another implementation can repeat it: the
// batches in their order, LoRA's first factors, the loss of every step, what each phrasing costs
// before and after. bench/check_baselines.py repeats it with transformers and peft.
//
// usage: finetune_trace MODEL FACTS OUT full|lora|sgd RATE PASSES COUNT [SEED]
//        OUT.json and, for LoRA, OUT.safetensors are written
#include <ATen/ATen.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "bench/baselines/finetune.h"
#include "bench/score.h"
#include "io/dataset.h"
#include "io/safetensors.h"

using namespace accrete;
using Json = nlohmann::ordered_json;

namespace {

Json to_json(std::span<const Example> examples) {
  Json out = Json::array();
  for (const Example& e : examples) out.push_back({{"tokens", e.tokens}, {"label", e.label}});
  return out;
}

Json scores_of(const LanguageModel& model, std::span<const Example> examples) {
  Json out = {{"nll", Json::array()}, {"exact", Json::array()}};
  for (const Score& s : score_examples(model, examples)) {
    out["nll"].push_back(s.nll / static_cast<double>(s.labels));
    out["exact"].push_back(s.exact);
  }
  return out;
}

int trace(int argc, char** argv) {
  if (argc < 8) {
    std::fprintf(stderr,
                 "usage: finetune_trace MODEL FACTS OUT full|lora|sgd RATE PASSES COUNT [SEED]\n");
    return 2;
  }
  const std::string out = argv[3], method = argv[4];
  FinetuneOptions options;
  options.optimizer.rate = std::stod(argv[5]);
  if (method == "sgd") options.optimizer.kind = OptimizerOptions::Kind::kSgd;
  if (method == "lora") options.rank = 16;
  options.seed = argc > 8 ? std::stoull(argv[8]) : 0;
  const int64_t passes = std::stoll(argv[6]);
  Json steps = Json::array();
  options.observe = [&steps](std::span<const Example> batch) { steps.push_back(to_json(batch)); };

  LanguageModel model = LanguageModel::open(argv[1], {.with_updates = false});
  auto items = read_dataset(argv[2]).items;
  Rng(options.seed).split(1).shuffle(std::span(items));
  items.resize(std::min(items.size(), static_cast<size_t>(std::stoull(argv[7]))));
  ExampleOptions raw;
  raw.raw = true;
  const auto taught = make_examples(model, items, raw);
  std::vector<Example> asked;
  for (const Item& item : items)
    asked.push_back(make_example(model, item.asked.front(), item.answers.front(), "", raw));

  Json json = {{"method", method},          {"rate", options.optimizer.rate},
               {"passes", passes},          {"facts", items.size()},
               {"seed", options.seed},      {"rank", options.rank},
               {"alpha", options.alpha},    {"clip", options.optimizer.clip},
               {"taught", to_json(taught)}, {"asked", to_json(asked)}};
  json["before"] = {{"taught", scores_of(model, taught)}, {"asked", scores_of(model, asked)}};
  Finetune learner(model, {}, options);
  if (options.rank > 0) {
    std::vector<at::Tensor> kept;
    std::vector<TensorView> views;
    for (const auto& [name, t] : learner.parameters()) {
      if (!name.ends_with("lora_A")) continue;
      kept.push_back(t.detach().clone());
      views.push_back({name,
                       DType::kF32,
                       kept.back().sizes().vec(),
                       {static_cast<const std::byte*>(kept.back().data_ptr()),
                        static_cast<size_t>(kept.back().nbytes())}});
    }
    write_safetensors(out + ".safetensors", views);
  }
  learner.learn(items, passes, {});
  json["steps"] = steps;
  json["losses"] = learner.cost().losses;
  json["after"] = {{"taught", scores_of(model, taught)}, {"asked", scores_of(model, asked)}};
  write_file_atomically(out + ".json", json.dump());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return trace(argc, argv);
  } catch (const Error& e) {
    std::fprintf(stderr, "finetune_trace: %s\n", e.what());
    return 1;
  }
}
