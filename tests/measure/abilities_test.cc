// Abilities on a tiny model: a choice, an answer and a text held against what the network's own
// logits say, and files that are refused.
#include "measure/abilities.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../base/testing.h"
#include "../model/tiny_model.h"
#include "base/file.h"
#include "base/format.h"

namespace accrete {
namespace {

using testing::expect_error;

// log p(continuation | prompt), token by token, by whole forward passes.
double log_likelihood(const LanguageModel& model, const std::string& prompt,
                      const std::string& continuation) {
  std::vector<int64_t> ids;
  for (const int32_t id : model.tokenizer().encode(prompt)) ids.push_back(id);
  double sum = 0;
  for (const int32_t id : model.tokenizer().encode(continuation)) {
    const auto input = at::tensor(ids, at::kLong).unsqueeze(0);
    sum += model.net().forward(input)[0][-1].log_softmax(0)[id].item<double>();
    ids.push_back(id);
  }
  return sum;
}

class Abilities : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_tiny_model(folder_ / "model");
    tasks_ = folder_ / "tasks";
    std::filesystem::create_directories(tasks_);
  }
  void write(const std::string& name, const std::string& text) {
    write_file_atomically(tasks_ / name, text);
  }
  testing::TemporaryFolder folder_;
  std::filesystem::path tasks_;
};

TEST_F(Abilities, EachKindIsWhatTheLogitsSay) {
  const LanguageModel model = LanguageModel::open(folder_ / "model", {.threads = 1});
  const std::vector<std::string> choices = {"abc", "xyz", "q"};
  std::vector<double> likelihood;
  for (const auto& c : choices) likelihood.push_back(log_likelihood(model, "one two", " " + c));
  const auto best = std::max_element(likelihood.begin(), likelihood.end()) - likelihood.begin();
  std::string lines;
  for (int right = 0; right < 3; ++right)
    lines += accrete::format(
        "{{\"prompt\": \"one two\", \"choices\": [\"abc\", \"xyz\", \"q\"], \"right\": {}}}\n",
        right);
  write("b_choose.jsonl", lines);
  write("a_text.jsonl", "{\"prompt\": \"one two\", \"solution\": \"xyz\"}\n");
  write("c_say.jsonl", "{\"prompt\": \"one two\", \"answer\": \"xyz\"}\n\n");
  write("ignored.txt", "not a task");

  auto abilities = read_abilities(tasks_);
  ASSERT_EQ(abilities.size(), 3U);
  EXPECT_EQ(abilities[0].key(), "a_text_nats");
  EXPECT_EQ(abilities[1].key(), "b_choose_accuracy");
  EXPECT_EQ(abilities[2].key(), "c_say_accuracy");
  // " xyz" is four tokens of one byte each.
  EXPECT_NEAR(ability_score(model, abilities[0]), -likelihood[1] / 4, 1e-4);
  EXPECT_DOUBLE_EQ(ability_score(model, abilities[1]), 1.0 / 3);
  abilities[1].items = {abilities[1].items[static_cast<size_t>(best)]};
  EXPECT_DOUBLE_EQ(ability_score(model, abilities[1]), 1);
  EXPECT_DOUBLE_EQ(ability_score(model, abilities[2]), 0);
}

TEST_F(Abilities, LinesThatAreNoTaskAreNamed) {
  expect_error(ErrorCode::kNotFound, [&] { read_abilities(tasks_ / "absent"); });
  for (const char* line : {R"({"prompt": "a"})", R"({"choices": ["a", "b"], "right": 0})",
                           R"({"prompt": "a", "choices": ["a", "b"], "right": 2})",
                           R"({"prompt": "a", "choices": ["a"], "right": 0})", ""}) {
    write("task.jsonl", std::string(line) + "\n");
    expect_error(ErrorCode::kFormat, [&] { read_abilities(tasks_); });
  }
  write("task.jsonl", R"({"prompt": "a", "answer": "b"})"
                      "\n"
                      R"({"prompt": "a", "solution": "b"})"
                      "\n");
  expect_error(ErrorCode::kFormat, [&] { read_abilities(tasks_); });
}

TEST_F(Abilities, TheTrackedSamplesAreRead) {
  const auto abilities =
      read_abilities(std::filesystem::path(ACCRETE_SOURCE_DIR) / "data" / "abilities");
  std::vector<std::string> keys;
  for (const auto& a : abilities) keys.push_back(a.key());
  EXPECT_EQ(keys, (std::vector<std::string>{"arc_challenge_accuracy", "arc_easy_accuracy",
                                            "boolq_accuracy", "gsm8k_nats", "lambada_accuracy",
                                            "piqa_accuracy"}));
  for (const auto& a : abilities) EXPECT_GE(a.items.size(), 50U) << a.name;
}

}  // namespace
}  // namespace accrete
