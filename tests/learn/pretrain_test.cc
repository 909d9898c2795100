#include "learn/pretrain/pretrain.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/format.h"
#include "learn/teach.h"
#include "ledger/ledger.h"
#include "measure/score.h"
#include "model/export.h"
#include "pretrain_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TemporaryFolder;
using testing::write_tiny_config;

PretrainOptions options() {
  PretrainOptions o;
  o.threads = 1;
  return o;
}

OpenOptions pretrain_on_one_thread() {
  OpenOptions o;
  o.threads = 1;
  return o;
}

std::string bytes_of(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() &&
        entry.path().filename().string().find("ledger") == std::string::npos)
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string all;
  for (const auto& file : files)
    all += fs::relative(file, folder).string() + "\n" + text_testing::file_text(file.string());
  return all;
}

// Stops a run at a certain step, as a signal would.
Reporter stop_at(int64_t step) {
  auto done = std::make_shared<int64_t>(-1);
  Reporter reporter;
  reporter.progress = [done](const ProgressEvent& e) {
    if (e.stage == "pretrain") *done = e.done;
  };
  reporter.cancelled = [done, step] { return *done >= step; };
  return reporter;
}

TEST(Pretrain, ResumesToTheSameBytes) {
  const TemporaryFolder folder;
  const auto config = write_tiny_config(folder.path());
  const auto whole = pretrain(config, folder / "whole", options());
  EXPECT_TRUE(whole.finished);
  EXPECT_EQ(whole.tokens, 6 * 8 * 64);
  const std::string expected = bytes_of(folder / "whole");

  // Stopped twice, in order.
  const auto resumed = [&](const Reporter& reporter) {
    auto o = options();
    o.resume = true;
    return pretrain(config, folder / "part", o, reporter);
  };
  expect_error(ErrorCode::kInterrupted, [&] { resumed(stop_at(1)); });
  EXPECT_FALSE(fs::exists(folder / "part"));
  expect_error(ErrorCode::kConflict, [&] { pretrain(config, folder / "part", options()); });
  expect_error(ErrorCode::kInterrupted, [&] { resumed(stop_at(5)); });
  EXPECT_TRUE(resumed({}).finished);
  EXPECT_EQ(bytes_of(folder / "part"), expected);
  EXPECT_FALSE(fs::exists(folder / "part.run/checkpoint.safetensors"));

  // Killed between two checkpoints: what is there is the checkpoint of step 2 and longer logs.
  struct Killed {};
  Reporter kill;
  kill.progress = [](const ProgressEvent& e) {
    if (e.stage == "pretrain" && e.done == 3) throw Killed();
  };
  auto o = options();
  EXPECT_THROW(pretrain(config, folder / "killed", o, kill), Killed);
  o.resume = true;
  EXPECT_TRUE(pretrain(config, folder / "killed", o).finished);
  EXPECT_EQ(bytes_of(folder / "killed"), expected);

  // The log has every step once.
  std::ifstream log(folder / "killed.run/log.jsonl");
  std::vector<int64_t> steps;
  for (std::string line; std::getline(log, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json.contains("loss")) steps.push_back(json["step"]);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(fs::file_size(folder / "killed.run/events.out.tfevents.0.accrete"),
            fs::file_size(folder / "whole.run/events.out.tfevents.0.accrete"));
}

TEST(Pretrain, StopsInTimeAndSaysSo) {
  const TemporaryFolder folder;
  const auto config = write_tiny_config(folder.path());
  auto o = options();
  o.max_seconds = 1e-6;
  const auto result = pretrain(config, folder / "model", o);
  EXPECT_FALSE(result.finished);
  EXPECT_EQ(result.step, 1);
  EXPECT_FALSE(fs::exists(folder / "model"));
  EXPECT_TRUE(fs::exists(folder / "model.run/checkpoint.safetensors"));
}

TEST(Pretrain, AnotherSeedOrThreadCountIsAnotherRun) {
  const TemporaryFolder folder;
  const auto config = write_tiny_config(folder.path());
  auto o = options();
  o.max_seconds = 1e-6;
  pretrain(config, folder / "model", o);
  o.resume = true;
  o.seed = 5;
  expect_error(ErrorCode::kConflict, [&] { pretrain(config, folder / "model", o); });
  o.seed.reset();
  o.threads = 2;
  const auto error =
      expect_error(ErrorCode::kConflict, [&] { pretrain(config, folder / "model", o); });
  EXPECT_NE(error.find("--threads"), std::string::npos);
  std::ofstream(folder / "facts.jsonl", std::ios::app)
      << R"({"prompt": "Zoe lives in", "completion": "Rome"})"
      << "\n";
  o.threads = 1;
  expect_error(ErrorCode::kConflict, [&] { pretrain(config, folder / "model", o); });
}

TEST(Pretrain, LearnsItsFactsInOneWordingAndIsTaughtOthersExactlyUndoably) {
  const TemporaryFolder folder;
  const auto config = write_tiny_config(folder.path(), "steps = 400");
  const auto result = pretrain(config, folder / "model", options());
  EXPECT_GT(result.evaluation.taught, 0.8);
  EXPECT_LT(result.evaluation.bits_per_byte, 3);
  const fs::path model = folder / "model";
  const auto before = LanguageModel::open(model, pretrain_on_one_thread());
  EXPECT_EQ(before.memory().blocks, std::vector<int64_t>{1});
  const std::string base = before.base_digest(), state = before.state_digest();

  Dataset data;
  data.path = "new.jsonl";
  data.digest = std::string(64, 'a');
  ExampleOptions raw;
  raw.raw = true;
  for (const char* name : {"Uma Pell", "Vic Dorn", "Ivo Marsh"}) {
    Item item;
    item.prompts = {accrete::format("{} lives in", name),
                    accrete::format("The home of {} is", name)};
    // The place that it would say least.
    double least = -1;
    for (const char* place : testing::kPlaces) {
      Item guess = item;
      guess.answers = {place};
      const double nll = score_items(before, {&guess, 1}, raw, false).front().nll;
      if (nll > least) item.answers = guess.answers;
      least = std::max(least, nll);
    }
    item.subject = name;
    item.line = static_cast<int64_t>(data.items.size()) + 1;
    data.items.push_back(item);
  }
  TeachOptions teach_options;
  teach_options.raw = true;
  teach_options.slots = 200;
  teach_options.deposit.lambda = 1e-2;  // all it has is a few people: little is free
  teach_options.values.steps = 200;
  teach_options.gated = false;  // so few people are not told apart well
  const auto taught = teach(model, data, pretrain_on_one_thread(), teach_options, {});
  EXPECT_LT(taught.learned_before, 1);
  EXPECT_GT(taught.learned_after, taught.learned_before);
  {
    const auto after = LanguageModel::open(model, pretrain_on_one_thread());
    EXPECT_EQ(after.base_digest(), base);
    EXPECT_NE(after.state_digest(), state);
    // How far so small a model comes depends on the machine's rounding; not how it is pulled.
    const auto loss = [&](const LanguageModel& m) {
      double sum = 0;
      for (const Score& score : score_items(m, data.items, raw, false)) sum += score.nll;
      return sum;
    };
    EXPECT_LT(loss(after), 0.75 * loss(before));
    // Rows that were not selected have no storage; their part of the value table is the base's.
    const auto ledger = Ledger::open(model, Ledger::Mode::kRead);
    const auto update = ledger.load(ledger.active().front().id);
    ASSERT_EQ(update.layers.size(), 1u);
    EXPECT_EQ(update.layers[0].block, 1);
    EXPECT_LE(update.layers[0].indices.size(), 200u);
  }
  auto ledger = Ledger::open(model, Ledger::Mode::kWrite);
  ledger.undo(1);
  EXPECT_EQ(LanguageModel::open(model, pretrain_on_one_thread()).state_digest(), state);
}

TEST(Pretrain, ExportSaysWhatItCannot) {
  const TemporaryFolder folder;
  const auto config = write_tiny_config(folder.path());
  pretrain(config, folder / "model", options());
  const auto error = expect_error(ErrorCode::kUnsupported,
                                  [&] { export_model(folder / "model", folder / "out"); });
  EXPECT_NE(error.find("memory in place of its FFN"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Pretrain, ADamagedMemoryIsRefused) {
  const TemporaryFolder folder;
  const auto config = write_tiny_config(folder.path());
  pretrain(config, folder / "model", options());
  const auto file = folder / "model/config.json";
  const std::string text = text_testing::file_text(file.string());
  const auto refused = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    std::ofstream(file) << changed;
    return expect_error(ErrorCode::kFormat,
                        [&] { LanguageModel::open(folder / "model", pretrain_on_one_thread()); });
  };
  refused("\"half_keys\": 24", "\"half_keys\": 9");
  refused("\"block\": 1", "\"block\": 7");
  refused("\"half_keys\": 24", "\"half_keys\": 99999999");
  refused("\"memory\"", "\"memoir\"");
}

}  // namespace
}  // namespace accrete
