// Generation: opening a model, prefill and decoding apart, and the share of the time that an
// overlay adds. One JSON object on standard output; bench/compare_generate.py puts transformers'
// figures beside it.
//
// Usage: generate_bench MODEL [THREADS] [DTYPE]
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/rng.h"
#include "learn/teach.h"
#include "model/generate.h"
#include "model/language_model.h"

namespace accrete {
namespace {

constexpr int64_t kPrompt = 128, kDecoded = 64, kOverlayRows = 10000;
constexpr int kRuns = 4;

double seconds(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<std::vector<int32_t>> prompts(const LanguageModel& model, int64_t batch) {
  Rng rng(1);
  std::vector<std::vector<int32_t>> out(static_cast<size_t>(batch));
  for (auto& prompt : out)
    for (int64_t t = 0; t < kPrompt; ++t)
      prompt.push_back(static_cast<int32_t>(
          10 + rng.below(static_cast<uint64_t>(model.net().config().vocab_size - 20))));
  return out;
}

// Seconds of one kind of pass: the least of all runs; and of all runs together those in the overlay
// and those in everything else. The share is taken within the same passes, since one run differs
// from the next by more than an overlay costs.
struct Seconds {
  double least = 1e30, overlay = 0, rest = 0;

  void add(double all, double in_overlay, double count) {
    least = std::min(least, all / count);
    overlay += in_overlay;
    rest += all - in_overlay;
  }
  double added() const { return overlay / rest; }
};
struct Speed {
  Seconds prefill, step;
};

Speed measure(const LanguageModel& model, int64_t batch) {
  const c10::InferenceMode inference;
  const Transformer& net = model.net();
  const auto ids = prompts(model, batch);
  auto tensor = at::empty({batch, kPrompt}, at::kLong);
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t t = 0; t < kPrompt; ++t)
      tensor.data_ptr<int64_t>()[b * kPrompt + t] =
          ids[static_cast<size_t>(b)][static_cast<size_t>(t)];
  Speed speed;
  for (int run = 0; run < kRuns; ++run) {
    KvCache cache;
    double in_overlay = 0;
    const FfnSide overlay = model.side();
    const FfnSide side = [&](int64_t block, const at::Tensor& x) {
      at::Tensor y;
      in_overlay += seconds([&] { y = overlay(block, x); });
      return y;
    };
    ForwardOptions forward;
    forward.cache = &cache;
    forward.side = &side;
    at::Tensor next;
    const auto pass = [&](const at::Tensor& input) {
      const auto h = net.run(net.embed(input), 0, net.config().blocks, forward);
      next = net.logits(h.select(1, h.size(1) - 1)).argmax(-1, true);
    };
    const double prefill = seconds([&] { pass(tensor); });
    speed.prefill.add(prefill, std::exchange(in_overlay, 0), 1);
    const double steps = seconds([&] {
      for (int64_t step = 0; step < kDecoded; ++step) pass(next);
    });
    speed.step.add(steps, in_overlay, kDecoded);
  }
  return speed;
}

// Rows of random slots. Gated, behind 1,000 anchors, and silent, as an update is at nearly every
// token; or open: read at all of them.
Update random_update(const LanguageModel& model, bool gated) {
  const auto& memory = model.memory();
  Rng rng(2);
  std::vector<int64_t> slots;
  for (int64_t i = 0; i < kOverlayRows; ++i)
    slots.push_back(static_cast<int64_t>(rng.below(static_cast<uint64_t>(memory.keys.slots()))));
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  Update update;
  for (const int64_t block : memory.blocks) {
    LayerDelta layer;
    layer.block = static_cast<int>(block);
    layer.width = memory.keys.width();
    layer.indices = slots;
    layer.delta.assign(slots.size() * static_cast<size_t>(layer.width), 1e-4F);
    update.layers.push_back(std::move(layer));
  }
  if (!gated) return update;
  update.anchors.width = memory.keys.options().query_width;
  for (int64_t i = 0; i < 1000 * update.anchors.width; ++i)
    update.anchors.queries.push_back(rng.normal());
  return update;
}

int run(const char* folder, int threads, const char* dtype) {
  OpenOptions open;
  open.threads = threads;
  open.dtype = dtype;
  double opened = 1e30;
  for (int i = 0; i < 3; ++i)
    opened = std::min(opened, seconds([&] { (void)LanguageModel::open(folder, open); }));
  LanguageModel model = LanguageModel::open(folder, open);
  nlohmann::ordered_json out = {{"benchmark", "generate"},  {"threads", at::get_num_threads()},
                                {"dtype", open.dtype},      {"open_seconds", opened},
                                {"prompt_tokens", kPrompt}, {"decoded_tokens", kDecoded}};
  for (const int64_t batch : {1, 8}) {
    model.set_overlay({});
    const Speed plain = measure(model, batch);
    model.set_overlay({random_update(model, true)});
    const Speed gated = measure(model, batch);
    model.set_overlay({random_update(model, false)});
    const Speed read = measure(model, batch);
    const auto tokens = static_cast<double>(batch);
    out["batch_" + std::to_string(batch)] = {
        {"prefill_tokens_per_second", tokens * kPrompt / plain.prefill.least},
        {"decode_tokens_per_second", tokens / plain.step.least},
        {"overlay_rows", kOverlayRows},
        {"gated_overlay_adds_to_prefill", gated.prefill.added()},
        {"gated_overlay_adds_to_decode", gated.step.added()},
        {"open_overlay_adds_to_prefill", read.prefill.added()},
        {"open_overlay_adds_to_decode", read.step.added()}};
  }
  out["peak_bytes"] = peak_memory_bytes();
  std::printf("%s\n", out.dump(2).c_str());
  return 0;
}

}  // namespace
}  // namespace accrete

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: generate_bench MODEL [THREADS] [DTYPE]\n");
    return 2;
  }
  try {
    return accrete::run(argv[1], argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? argv[3] : "float32");
  } catch (const accrete::Error& e) {
    std::fprintf(stderr, "generate_bench: %s\n  try: %s\n", e.what(), e.hint().c_str());
    return 1;
  }
}
