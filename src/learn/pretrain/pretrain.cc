#include "learn/pretrain/pretrain.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "base/threads.h"
#include "learn/new_model.h"
#include "learn/pretrain/checkpoint.h"
#include "learn/pretrain/native_folder.h"
#include "learn/pretrain/optimizer.h"
#include "learn/pretrain/run_log.h"
#include "ledger/writer_lock.h"
#include "memory/cuda_tensors.h"
#include "model/language_model.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using SteadyClock = std::chrono::steady_clock;

double since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

fs::path without_slash(const fs::path& path) {
  return path.filename().empty() ? path.parent_path() : path;
}

at::Device training_device(const std::string& name) {
  const at::Device device = parse_device(name);
  if (device.is_cuda() && !built_with_cuda())
    throw Error(ErrorCode::kUnsupported, "this accrete was built without CUDA kernels",
                "build it with -DACCRETE_CUDA=ON, or leave --device away");
  // A run repeats to the byte; what cannot is left out.
  if (device.is_cuda()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    at::globalContext().setSDPUseCuDNN(false);  // whose backward pass adds up as it comes
  }
  return device;
}

// Sequences of context + 1 tokens to inputs and labels.
std::pair<at::Tensor, at::Tensor> next_batch(Mixture& mixture, int64_t sequences, int64_t context) {
  auto rows = at::empty({sequences, context + 1}, at::kLong);
  for (int64_t i = 0; i < sequences; ++i) {
    const auto tokens = mixture.next();
    std::copy(tokens.begin(), tokens.end(), rows.data_ptr<int64_t>() + i * (context + 1));
  }
  return {rows.narrow(1, 0, context).contiguous(), rows.narrow(1, 1, context).contiguous()};
}

struct StepResult {
  double loss = 0;   // nats a token
  double norm = 0;   // of the gradient before clipping
  int64_t rows = 0;  // of the value table that were read
};

// One step of a run.
StepResult train_step(const PretrainConfig& config, int64_t step, Mixture& mixture,
                      TrainingNetwork& network, DenseAdamW& dense, RowAdam& rows) {
  const int64_t tokens = config.sequences * config.context;
  TrainingNetwork::Reads reads;
  StepResult out;
  network.begin_step();
  for (int64_t done = 0; done < config.sequences; done += config.together) {
    const auto [ids, labels] =
        next_batch(mixture, std::min(config.together, config.sequences - done), config.context);
    out.loss += network.pass(ids, labels, 1 / static_cast<double>(tokens), reads);
  }
  out.loss /= static_cast<double>(tokens);
  const RowGradient gradient = row_gradient(reads, network.values().size(0));
  out.rows = gradient.slots.size(0);
  out.norm = std::hypot(dense.gradient_norm(), gradient.rows.norm().item<double>());
  if (!std::isfinite(out.loss) || !std::isfinite(out.norm))
    throw Error(ErrorCode::kRefused,
                accrete::format("the loss is no longer finite in step {}", step),
                "lower `rate` or `value_rate`, or lengthen `warm_up`");
  const double scale = out.norm > config.clip ? config.clip / out.norm : 1;
  const double share = config.schedule(step);
  dense.step(config.rate * share, config.query_rate * share, scale);
  rows.step(gradient, config.value_rate * share, scale);
  return out;
}

}  // namespace

PretrainResult pretrain(const fs::path& config_file, const fs::path& model,
                        const PretrainOptions& options, const Reporter& reporter) {
  const auto start = SteadyClock::now();
  const at::Device device = training_device(options.device);
  PretrainConfig config = PretrainConfig::read(config_file, options.data, options.seed);
  at::set_num_threads(options.threads > 0 ? options.threads : hardware_threads());
  const fs::path target = without_slash(model), run = target.string() + ".run";
  const fs::path checkpoint = run / "checkpoint.safetensors";
  NewModelFolder staging(target);
  if (fs::exists(checkpoint) && !options.resume)
    throw Error(ErrorCode::kConflict,
                accrete::format("a run was begun in {} and not finished", run.string()),
                "go on with --resume, or remove that folder");
  std::error_code ignored;
  fs::create_directories(run, ignored);
  const WriterLock lock(run / "lock");

  const auto tokenizer_json = pretrain_tokenizer(config);
  const Tokenizer tokenizer = Tokenizer::from_json(tokenizer_json);
  const auto end_of_text = tokenizer.token_id(config.end_of_text);
  if (!end_of_text)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("the tokenizer has no token \"{}\"", config.end_of_text),
                "name one of its special tokens as `end_of_text` under [tokenizer]");
  const auto text = TrainingText::read(config, tokenizer, *end_of_text, reporter);

  // Every stream of random numbers is there before the first parameter is.
  const Rng rng(config.seed);
  Mixture mixture(text, config.context + 1, rng.split(2));
  TrainingNetwork network(config, tokenizer.vocab_size(), rng.split(1), device);
  DenseAdamW dense(network.parameters(), config.weight_decay);
  RowAdam rows(network.values());
  const Evaluator evaluate(config, text, tokenizer, *end_of_text);

  RunState state;
  state.config_digest = config.digest;
  state.text_digest = text.digest;
  state.threads = at::get_num_threads();
  if (fs::exists(checkpoint)) load_checkpoint(checkpoint, network, dense, rows, state);
  mixture.skip(state.step * config.sequences);
  RunLog log(run, state.log_bytes, state.event_bytes);

  PretrainResult result;
  result.steps = config.steps;
  result.slots = network.values().size(0);
  result.left_out = config.left_out;
  for (const auto& [name, t] : network.model_tensors()) result.parameters += t.numel();
  const int64_t step_tokens = config.sequences * config.context, first = state.step;
  const double seconds_before = state.seconds;
  const auto save = [&] {
    state.seconds = seconds_before + since(start);
    log.flush();
    state.log_bytes = log.log_bytes();
    state.event_bytes = log.event_bytes();
    save_checkpoint(checkpoint, network, dense, rows, state);
  };
  const auto report = [&](const std::string& detail) {
    reporter.report("pretrain", state.step, config.steps, detail);
  };

  const auto loop_start = SteadyClock::now();
  double speed = 0;
  while (state.step < config.steps) {
    if (reporter.cancelled && reporter.cancelled()) {
      save();
      throw Error(ErrorCode::kInterrupted,
                  accrete::format("interrupted after step {} of {}; a checkpoint is in {}",
                                  state.step, config.steps, run.string()),
                  "go on with --resume");
    }
    if (options.max_seconds > 0 && state.step > first && since(start) > options.max_seconds) break;
    const StepResult step = train_step(config, state.step, mixture, network, dense, rows);
    ++state.step;
    result.loss = step.loss;
    const double seconds = since(loop_start);
    speed = static_cast<double>((state.step - first) * step_tokens) / seconds;
    log.write(state.step, seconds_before + since(start),
              {{"loss", step.loss},
               {"gradient_norm", step.norm},
               {"rate", config.rate * config.schedule(state.step - 1)},
               {"rows_read", static_cast<double>(step.rows)},
               {"tokens_per_second", speed}});
    report(accrete::format("loss {:.3f}, {:.0f} tokens/s", step.loss, speed));
    const bool last = state.step == config.steps;
    if (last || (config.evaluate_every > 0 && state.step % config.evaluate_every == 0)) {
      network.begin_step();  // the weights have changed
      result.evaluation = evaluate(network);
      log.write(state.step, seconds_before + since(start),
                {{"bits_per_byte", result.evaluation.bits_per_byte},
                 {"facts_taught", result.evaluation.taught},
                 {"facts_asked", result.evaluation.asked}});
    }
    if (!last && state.step % config.checkpoint_every == 0) save();
  }
  result.step = state.step;
  result.tokens = state.step * step_tokens;
  result.tokens_per_second = speed;
  if (state.step < config.steps || state.step > first) save();
  if (state.step == config.steps) {
    // Stopped between the last step and the folder: what the last step would have found out.
    if (first == config.steps) result.evaluation = evaluate(network);
    nlohmann::json info = {{"source", config_file.filename().string()},
                           {"seed", config.seed},
                           {"tool_version", options.tool_version},
                           {"steps", config.steps},
                           {"config_digest", config.digest},
                           {"text_digest", text.digest}};
    for (const auto& corpus : text.corpora) info["corpus"].push_back(corpus.name);
    result.gate = write_native_folder(staging.path(), config, network, text, tokenizer_json,
                                      *end_of_text, info, reporter)
                      .gate;
    reporter.check_cancelled();
    staging.commit();
    fs::remove(checkpoint, ignored);
    result.finished = true;
  }
  result.seconds = seconds_before + since(start);
  return result;
}

}  // namespace accrete
