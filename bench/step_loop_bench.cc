// Answers written side by side against one after the other, in one process and one run.
// usage: step_loop_bench MODEL [TOKENS] [THREADS]
//
// Prints tokens a second, and a second of processor time (a busy machine changes that less), of
// generate() one question at a time (what `accrete ask` does), of the step loop with 1, 8 and 64
// rows, and what it costs that a row is the same alone and beside others: products in that way
// against those that may sum by the number of rows.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>

#include "io/safetensors.h"
#include "model/ask.h"
#include "model/coded_matrix.h"
#include "model/step_loop.h"

using namespace accrete;
using Clock = std::chrono::steady_clock;

namespace {

double since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

double best_of(int times, const std::function<void()>& f) {
  double best = 1e9;
  for (int i = 0; i < times; ++i) {
    const auto begin = Clock::now();
    f();
    best = std::min(best, since(begin));
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 64;
  const int threads = argc > 3 ? std::atoi(argv[3]) : 0;
  const auto model =
      std::make_shared<const LanguageModel>(LanguageModel::open(argv[1], {.threads = threads}));
  const c10::InferenceMode inference;
  const char* questions[] = {"Write a story about a fox.", "Explain how rain is made.",
                             "What should I see in Rome?", "Tell me about the sea."};
  std::vector<std::vector<int32_t>> prompts;
  for (size_t i = 0; i < 64; ++i)
    prompts.push_back(encode_request(
        *model,
        single_question(*model, std::string(questions[i % 4]) + " Number " + std::to_string(i),
                        false)));
  GenerateOptions options;
  options.max_tokens = tokens;
  struct Speed {
    double wall, cpu;
  };
  const auto speed_of = [](int64_t made, Clock::time_point begin, std::clock_t cpu) {
    return Speed{
        static_cast<double>(made) / since(begin),
        static_cast<double>(made) * CLOCKS_PER_SEC / static_cast<double>(std::clock() - cpu)};
  };
  const auto sequential = [&](size_t count) {
    int64_t made = 0;
    const std::clock_t cpu = std::clock();
    const auto begin = Clock::now();
    for (size_t i = 0; i < count; ++i)
      made +=
          static_cast<int64_t>(generate(*model, {&prompts[i], 1}, options).front().tokens.size());
    return speed_of(made, begin, cpu);
  };
  const auto together = [&](size_t count) {
    StepLoop loop(model);
    int64_t made = 0;
    for (size_t i = 0; i < count; ++i) {
      StepRequest one;
      one.model = model;
      one.prompt = prompts[i];
      one.options = options;
      one.on_done = [&](StepAnswer answer) {
        made += static_cast<int64_t>(answer.generation.tokens.size());
      };
      loop.join(std::move(one));
    }
    const std::clock_t cpu = std::clock();
    const auto begin = Clock::now();
    while (loop.step()) {
    }
    return speed_of(made, begin, cpu);
  };
  (void)sequential(1);
  const Speed base = sequential(8);
  std::printf("one after the other: %.1f tokens/s, %.1f a second of processor\n", base.wall,
              base.cpu);
  for (const size_t rows : {size_t{1}, size_t{8}, size_t{64}}) {
    const Speed speed = together(rows);
    std::printf("%2zu rows: %.1f tokens/s, %.1f a second of processor: %.2f and %.2f times\n", rows,
                speed.wall, speed.cpu, speed.wall / base.wall, speed.cpu / base.cpu);
  }
  const Speed again = sequential(8);
  std::printf("one after the other again: %.1f tokens/s, %.1f\n", again.wall, again.cpu);

  const auto files = ShardedSafetensors::open(argv[1]);
  const auto codes = CodedWeights::open(argv[1]);
  for (const char* name : {"model.layers.0.mlp.gate_proj.weight", "model.embed_tokens.weight"}) {
    const auto* stored = files.find(name);
    const auto matrix = stored == nullptr ? nullptr : codes.find(name, *stored);
    if (matrix == nullptr) continue;
    for (const int64_t n : {1, 8, 32, 64}) {
      const auto x = at::randn({n, stored->shape[1]});
      auto out = at::empty({n, stored->shape[0]}, at::kFloat);
      const double any = best_of(20, [&] { matrix->product_to(out, x); });
      const double each = best_of(20, [&] { matrix->each_product_to(out, x); });
      std::printf("%s, %2ld rows: %.3f ms as they come, %.3f ms each as alone: %.2f times\n", name,
                  static_cast<long>(n), 1e3 * any, 1e3 * each, each / any);
    }
  }
  return 0;
}
