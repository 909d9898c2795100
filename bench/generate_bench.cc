// Generation: opening a model, prefill and decoding apart, without and with an overlay. One JSON
// object on standard output; bench/compare_generate.py puts transformers' figures beside it.
// Usage: generate_bench MODEL [THREADS] [DTYPE]
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/rng.h"
#include "learn/teach.h"
#include "model/generate.h"
#include "model/language_model.h"

namespace accrete {
namespace {

constexpr int64_t kPrompt = 128, kDecoded = 64, kOverlayRows = 10000;

double best_seconds(int runs, const std::function<void()>& f) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
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

// Seconds of reading the prompts, and of each decoding step after it.
struct Speed {
  double prefill = 0, step = 0;
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
  Speed best{1e30, 1e30};
  for (int run = 0; run < 4; ++run) {
    KvCache cache;
    const FfnSide side = model.side();
    ForwardOptions forward;
    forward.cache = &cache;
    forward.side = &side;
    at::Tensor next;
    const auto pass = [&](const at::Tensor& input) {
      const auto h = net.run(net.embed(input), 0, net.config().blocks, forward);
      next = net.logits(h.select(1, h.size(1) - 1)).argmax(-1, true);
    };
    best.prefill = std::min(best.prefill, best_seconds(1, [&] { pass(tensor); }));
    const double all = best_seconds(1, [&] {
      for (int64_t step = 0; step < kDecoded; ++step) pass(next);
    });
    best.step = std::min(best.step, all / static_cast<double>(kDecoded));
  }
  return best;
}

// Rows in slots that the prompts really read, so that the overlay has work to do at every token.
Update busy_overlay(const LanguageModel& model) {
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
  update.anchors.width = memory.keys.options().query_width;
  for (int64_t i = 0; i < 1000 * update.anchors.width; ++i)
    update.anchors.queries.push_back(rng.normal());
  return update;
}

int run(const char* folder, int threads, const char* dtype) {
  OpenOptions open;
  open.threads = threads;
  open.dtype = dtype;
  const double opened = best_seconds(3, [&] { (void)LanguageModel::open(folder, open); });
  LanguageModel model = LanguageModel::open(folder, open);
  model.set_overlay({});
  nlohmann::ordered_json out = {{"benchmark", "generate"},  {"threads", at::get_num_threads()},
                                {"dtype", open.dtype},      {"open_seconds", opened},
                                {"prompt_tokens", kPrompt}, {"decoded_tokens", kDecoded}};
  for (const int64_t batch : {1, 8}) {
    // Alternating, so that a change of the machine's speed meets both.
    Speed plain{1e30, 1e30}, taught{1e30, 1e30};
    for (int round = 0; round < 2; ++round) {
      model.set_overlay({});
      const Speed a = measure(model, batch);
      model.set_overlay({busy_overlay(model)});
      const Speed b = measure(model, batch);
      plain = {std::min(plain.prefill, a.prefill), std::min(plain.step, a.step)};
      taught = {std::min(taught.prefill, b.prefill), std::min(taught.step, b.step)};
    }
    const auto tokens = static_cast<double>(batch);
    out["batch_" + std::to_string(batch)] = {
        {"prefill_tokens_per_second", tokens * kPrompt / plain.prefill},
        {"decode_tokens_per_second", tokens / plain.step},
        {"overlay_rows", kOverlayRows},
        {"overlay_prefill_slower", taught.prefill / plain.prefill - 1},
        {"overlay_decode_slower", taught.step / plain.step - 1}};
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
