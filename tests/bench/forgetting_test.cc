// The forgetting benchmark's smoke profile on a tiny model that knows nothing: its results' shape,
// how settings are chosen, and that a stopped run goes on. Data: the source tree's.
#include "bench/forgetting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "../base/testing.h"
#include "../learn/pretrain_testing.h"
#include "../model/tiny_model.h"
#include "base/file.h"
#include "base/format.h"
#include "bench/baselines/finetune.h"
#include "bench/forgetting_data.h"
#include "learn/pretrain/pretrain.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using testing::expect_error;

class Forgetting : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder;
    testing::write_tiny_memory_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { delete folder_; }

  static ForgettingOptions options(const fs::path& out) {
    ForgettingOptions options;
    options.profile = forgetting_profile("smoke");
    options.profile.known_limit = 2;
    options.data = fs::path(ACCRETE_SOURCE_DIR) / "data";
    options.out = out;
    return options;
  }
  static Json run(const ForgettingOptions& options) {
    // One thread: the operations are far smaller than what waking another costs.
    LanguageModel model = LanguageModel::open(*folder_ / "model", {.threads = 1});
    return run_forgetting(model, options, {});
  }
  static std::map<std::string, std::string> files(const fs::path& folder) {
    std::map<std::string, std::string> out;
    for (const auto& entry : fs::directory_iterator(folder))
      out[entry.path().filename().string()] = read_file(entry.path());
    return out;
  }
  // A cell without what differs between two runs.
  static Json timeless(const std::string& text) {
    Json cell = Json::parse(text);
    if (cell.contains("cost")) cell["cost"].erase("seconds");
    return cell;
  }

  static testing::TemporaryFolder* folder_;
};
testing::TemporaryFolder* Forgetting::folder_ = nullptr;

TEST_F(Forgetting, EveryMethodGivesACellAndAStoppedRunGoesOn) {
  const fs::path out = *folder_ / "out";
  const Json result = run(options(out));
  EXPECT_TRUE(result.at("complete").get<bool>());
  EXPECT_EQ(result.at("missing"), 0);
  std::map<std::string, int> count;  // "split method"
  for (const Json& cell : result.at("cells")) {
    ++count[cell.at("split").get<std::string>() + " " + cell.at("method").get<std::string>()];
    EXPECT_EQ(cell.at("facts"), 6);
    EXPECT_EQ(cell.at("updates"), cell.at("schedule") == "stream" ? 3 : 1);
    for (const char* when : {"before", "after"})
      for (const char* key :
           {"new_exact", "new_f1", "taught_exact", "taught_f1", "questions_exact", "questions_f1",
            "clozes_exact", "clozes_f1", "neighbours_exact", "neighbours_f1", "bits_per_byte"})
        ASSERT_TRUE(cell.at(when).at(key).is_number()) << when << " " << key;
    EXPECT_GT(cell.at("before").at("bits_per_byte").get<double>(), 0);
    EXPECT_GT(cell.at("cost").at("tokens").get<int64_t>(), 0);
    EXPECT_GT(cell.at("cost").at("parameters").get<int64_t>(), 0);
    if (cell.at("method") == "full-adamw") {
      EXPECT_NE(cell.at("before").at("bits_per_byte"), cell.at("after").at("bits_per_byte"));
      // 6 facts of 3 or 4 phrasings are one batch a pass.
      EXPECT_EQ(cell.at("cost").at("steps"), cell.at("passes"));
    }
  }
  EXPECT_EQ(count, (std::map<std::string, int>{{"test interference", 1},
                                               {"dev full-adamw", 2},
                                               {"test full-adamw", 1},
                                               {"test lora-replay", 1},
                                               {"test tfidf-published", 1}}));

  // A second run computes nothing; one that lost a cell computes that one, to the same result.
  const auto first = files(out);
  EXPECT_EQ(run(options(out)), result);
  EXPECT_EQ(files(out), first);
  const std::string lost = "one_go-dev-full-adamw-rate3e-05-passes2-seed0.json";
  ASSERT_EQ(first.count(lost), 1U);
  fs::remove(out / lost);
  // No time left: it says so, and the test cell that depends on it is not made anew.
  auto hurried = options(out);
  hurried.max_seconds = 1e-9;
  const Json stopped = run(hurried);
  EXPECT_FALSE(stopped.at("complete").get<bool>());
  EXPECT_EQ(stopped.at("missing"), 1);
  EXPECT_FALSE(fs::exists(out / lost));
  run(options(out));
  const auto second = files(out);
  ASSERT_EQ(second.size(), first.size());
  for (const auto& [name, text] : first) {
    EXPECT_EQ(timeless(second.at(name)), timeless(text)) << name;
    if (name != lost) {
      EXPECT_EQ(second.at(name), text) << name;
    }
  }
}

TEST_F(Forgetting, AbilitiesAreScoredBeforeAndAfter) {
  auto abilities = options(*folder_ / "abilities");
  abilities.data = *folder_ / "abilities-data";
  fs::create_directories(abilities.data / "abilities");
  for (const char* name : {"facts", "native", "text", "background.txt.zst"})
    fs::create_symlink(fs::path(ACCRETE_SOURCE_DIR) / "data" / name, abilities.data / name);
  write_file_atomically(abilities.data / "abilities" / "count.jsonl",
                        R"({"prompt": "one two", "solution": "three four"})"
                        "\n");
  abilities.profile.abilities = true;
  abilities.methods = {"full-adamw"};
  for (const Json& cell : run(abilities).at("cells")) {
    // Only the test split has them: settings are chosen without.
    const bool test = cell.at("split") == "test";
    ASSERT_EQ(cell.at("after").contains("count_nats"), test);
    if (test) {
      EXPECT_NE(cell.at("before").at("count_nats"), cell.at("after").at("count_nats"));
    }
  }
}

// Questions and documents are drawn to be taught, and what is asked is never taught.
TEST_F(Forgetting, QuestionsAndDocumentsAreDrawnToo) {
  const LanguageModel model = LanguageModel::open(*folder_ / "model", {.threads = 1});
  for (const TeachKind kind : {TeachKind::kQuestions, TeachKind::kDocuments}) {
    const bool documents = kind == TeachKind::kDocuments;
    auto other = options(*folder_ / (documents ? "documents" : "questions"));
    other.profile.teach = kind;
    other.profile.facts = 3;
    auto split = read_split(other.data, "test", other.profile, /*native=*/false);
    const size_t all = split.taught.size();
    const Json known = find_known(model, split, other.profile, {});
    // The tiny model answers nothing, so every question is new to it.
    EXPECT_EQ(documents ? all : known.at("new").size(), all);
    select_known(split, known);
    const NewSet set = draw_new(split, other.profile, 0);
    ASSERT_EQ(set.items.size(), 3U);
    EXPECT_TRUE(set.few_shot.has_value());
    EXPECT_EQ(set.about.empty(), !documents);
    for (const Item& item : set.items) {
      if (documents) continue;
      ASSERT_EQ(item.asked.size(), 1U);
      const auto asked = few_shot_prompt(*set.few_shot, item.asked.front());
      for (const auto& prompt : item.prompts) EXPECT_NE(prompt, asked);
    }
    for (const Item& question : set.about)
      EXPECT_TRUE(std::any_of(set.items.begin(), set.items.end(), [&](const Item& item) {
        return question.id.starts_with(item.id + "/");
      })) << question.id;
  }
}

TEST_F(Forgetting, AFolderBelongsToOneProfile) {
  auto first = options(*folder_ / "claimed");
  first.methods = {"nothing of the kind"};
  EXPECT_TRUE(run(first).at("cells").empty());
  first.profile.facts = 7;
  expect_error(ErrorCode::kConflict, [&] { run(first); });
}

// What a native model is held to is what it was pretrained on and says: all of it is right before.
TEST(ForgettingNative, IsHeldToTheFactsItWasTrainedOn) {
  const testing::TemporaryFolder folder;
  const auto config = testing::write_tiny_config(folder.path(), "steps = 400");
  // Its tokens are bytes: longer texts than the learner's tests have.
  std::string toml = read_file(config);
  toml.replace(toml.find("positions = 128"), 15, "positions = 1024");
  write_file_atomically(config, toml);
  PretrainOptions train;
  train.threads = 1;
  pretrain(config, folder / "model", train);
  const fs::path data = folder / "data", tree = fs::path(ACCRETE_SOURCE_DIR) / "data";
  fs::create_directories(data / "native");
  for (const char* name : {"facts", "known", "text", "background.txt.zst"})
    fs::create_symlink(tree / name, data / name);
  // Facts with ids, which the benchmark names them by.
  std::string facts;
  std::istringstream lines(read_file(folder / "facts.jsonl"));
  int id = 0;
  for (std::string line; std::getline(lines, line);) {
    Json fact = Json::parse(line);
    fact["id"] = accrete::format("fact-{}", id++);
    facts += fact.dump() + "\n";
  }
  write_file_atomically(data / "native" / "known_facts.jsonl", facts);

  LanguageModel model = LanguageModel::open(folder / "model", {.threads = 1});
  ForgettingOptions options;
  options.profile = forgetting_profile("smoke", /*native=*/true);
  options.profile.facts = 2;
  options.data = data;
  options.out = folder / "out";
  options.methods = {"interference"};
  const Json cell = run_forgetting(model, options, {}).at("cells").at(0);
  const Json known = Json::parse(read_file(folder / "out" / "known_test.json"));
  ASSERT_GT(known.at("clozes").size(), 3U);
  EXPECT_EQ(known.at("asked"), id / 2);
  for (const auto& name : known.at("clozes"))
    EXPECT_EQ(std::stoi(name.get<std::string>().substr(5)) % 2, 1) << "of the other split";
  EXPECT_EQ(cell.at("known_clozes"), known.at("clozes").size());
  EXPECT_DOUBLE_EQ(cell.at("before").at("clozes_exact").get<double>(), 1);
  EXPECT_GT(cell.at("after").at("clozes_exact").get<double>(), 0);
}

TEST(ForgettingPlan, TuningWeighsLearnedAgainstKept) {
  const auto cell = [](double learned, double kept) {
    return Json{{"before", {{"questions_f1", 0.8}, {"clozes_f1", 0.5}, {"neighbours_f1", 0.0}}},
                {"after",
                 {{"new_f1", learned},
                  {"questions_f1", 0.8 * kept},
                  {"clozes_f1", 0.5 * kept},
                  {"neighbours_f1", 0.0}}}};
  };
  EXPECT_DOUBLE_EQ(tuning_score(cell(1, 1)), 1);
  EXPECT_GT(tuning_score(cell(0.9, 0.9)), tuning_score(cell(1, 0.5)));
  EXPECT_DOUBLE_EQ(tuning_score(cell(0, 1)), 0);
  EXPECT_DOUBLE_EQ(tuning_score(Json{{"refused", "it diverged"}}), -1);
}

TEST(ForgettingPlan, EveryMethodOfEveryProfileExists) {
  const testing::TemporaryFolder folder;
  testing::write_tiny_memory_model(folder / "model");
  LanguageModel model = LanguageModel::open(folder / "model", {.threads = 1});
  LearnerParts parts;
  const std::vector<std::string> documents = {std::string(200, 'x')};
  parts.replay = background_examples(model, documents, 20, 1, Rng(0));
  for (const char* name : {"smoke", "small", "abilities", "questions", "documents", "full"})
    for (const bool native : {false, true}) {
      if (native && (name == std::string("questions") || name == std::string("documents"))) {
        expect_error(ErrorCode::kUnsupported, [&] { forgetting_profile(name, native); });
        continue;
      }
      for (const MethodPlan& plan : forgetting_profile(name, native).methods)
        for (const GridLine& line : plan.grid)
          EXPECT_NE(make_learner(model, plan.method, line.hyper, parts, 0), nullptr) << plan.method;
    }
  expect_error(ErrorCode::kInvalidArgument,
               [&] { make_learner(model, "magic", {{"rate", 1}}, parts, 0); });
  expect_error(ErrorCode::kInvalidArgument, [] { forgetting_profile("huge"); });
}

TEST(ForgettingScore, MeansAreOverItems) {
  const AnswerScore scores[] = {{true, 1}, {false, 0.5}};
  const Answers mean = mean_answers(scores);
  EXPECT_DOUBLE_EQ(mean.exact, 0.5);
  EXPECT_DOUBLE_EQ(mean.f1, 0.75);
}

}  // namespace
}  // namespace accrete
