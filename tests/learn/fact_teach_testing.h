// Whole transactions on a tiny model whose facts are addressed by the question. Its caution is far
// below 0, so that whatever names a taught subject is accepted, whatever the weights of acceptance.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/file.h"
#include "base/format.h"
#include "learn/fact_inspect.h"
#include "learn/fact_teach.h"
#include "measure/fact_probe.h"
#include "measure/score.h"
#include "model/ask.h"
#include "model/state_digest.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::TemporaryFolder;

OpenOptions on_one_thread() {
  OpenOptions open;
  open.threads = 1;
  return open;
}

Item fact(const std::string& subject, std::vector<std::string> questions,
          const std::string& answer) {
  Item item;
  item.subject = subject;
  item.prompts = std::move(questions);
  if (!answer.empty()) item.answers = {answer};
  return item;
}
Item leave(const std::string& subject, std::vector<std::string> questions) {
  Item item = fact(subject, std::move(questions), "");
  item.leave = true;
  return item;
}

Dataset set_of(std::vector<Item> items) {
  Dataset data;
  data.path = "test.jsonl";
  data.digest = std::string(64, 'a');
  for (size_t i = 0; i < items.size(); ++i) items[i].line = static_cast<int64_t>(i) + 1;
  data.items = std::move(items);
  return data;
}

class FactTeach : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "model", 4);
    auto info = load_fact_memory_info(*folder_ / "model", 4);
    info.caution = -200;
    save_fact_memory(*folder_ / "model", info, load_memory_info(*folder_ / "model"));
  }
  static void TearDownTestSuite() { delete folder_; }

  // A copy to teach.
  static fs::path fresh() {
    const auto path = *folder_ / accrete::format("copy-{}", ++copies_);
    fs::copy(*folder_ / "model", path, fs::copy_options::recursive);
    return path;
  }
  static TeachOptions options(bool raw = false) {
    TeachOptions o;
    o.raw = raw;
    o.facts.steps = o.facts.more_steps = 80;
    o.facts.rate = 1;
    o.tool_version = "test";
    return o;
  }
  static TeachResult learn(const fs::path& model, std::vector<Item> items, bool raw = false) {
    return teach(model, set_of(std::move(items)), on_one_thread(), options(raw), {});
  }
  static Asked asked(const fs::path& folder, std::vector<Message> messages) {
    const LanguageModel model = LanguageModel::open(folder, on_one_thread());
    AskRequest request;
    request.messages = std::move(messages);
    AskOptions how;
    how.generate.max_tokens = 40;
    return ask(model, {&request, 1}, how).front();
  }
  static std::string says(const fs::path& folder, const std::string& question) {
    return asked(folder, {{"user", question}}).generation.text;
  }
  static std::string says_raw(const fs::path& folder, const std::string& text) {
    const LanguageModel model = LanguageModel::open(folder, on_one_thread());
    const AskRequest request = single_question(model, text, true);
    AskOptions how;
    how.generate.max_tokens = 12;
    return ask(model, {&request, 1}, how).front().generation.text;
  }
  static std::string state(const fs::path& folder) {
    const LanguageModel model = LanguageModel::open(folder, on_one_thread());
    const std::string digest = model.state_digest();
    EXPECT_EQ(digest, state_digest(model, Ledger::open(folder, Ledger::Mode::kRead)));
    return digest;
  }
  // Refused with all of `parts` in the message, and nothing changed.
  static void refused(ErrorCode code, const fs::path& model, std::vector<Item> items,
                      const std::vector<std::string>& parts, bool raw = false) {
    const std::string before = state(model);
    const auto updates = Ledger::open(model, Ledger::Mode::kRead).updates().size();
    const std::string message = expect_error(code, [&] { learn(model, items, raw); });
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
    expect_error(code, [&] { plan(model, set_of(items), on_one_thread(), options(raw), {}); });
    EXPECT_EQ(state(model), before);
    EXPECT_EQ(Ledger::open(model, Ledger::Mode::kRead).updates().size(), updates);
  }
  // As `accrete probe add` makes one.
  static void add_probe(const fs::path& folder, const std::string& name,
                        const std::vector<Item>& items, double floor, bool raw) {
    Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
    const LanguageModel model = LanguageModel::open(folder, on_one_thread());
    Probe probe;
    probe.data.items = items;
    probe.raw = raw;
    probe.record.name = name;
    probe.record.details["base_answers"] = base_answers(model, probe);
    probe.record.base = probe_score(model, probe);
    probe.record.items = static_cast<int64_t>(items.size());
    if (floor > 0) probe.record.floor = floor;
    probe.record.details["raw"] = raw;
    probe.record.details["state"] = state_key(ledger.active());
    ledger.add_probe(probe.record, to_jsonl(items));
  }
  // Raw questions about a subject that the model answers so by itself, with one character.
  static std::vector<Item> known(const fs::path& folder, const std::string& subject, size_t count) {
    const LanguageModel model = LanguageModel::open(folder, on_one_thread());
    ExampleOptions raw;
    raw.raw = true;
    std::vector<Item> out;
    Rng rng(8);
    for (int attempt = 0; attempt < 400 && out.size() < count; ++attempt) {
      std::string text = subject;
      for (int i = 0; i < 2; ++i) text += std::string(" ") + static_cast<char>('a' + rng.below(26));
      text += " ";
      std::vector<int64_t> ids;
      for (const int32_t id : model.tokenizer().encode_text(text)) ids.push_back(id);
      const auto best = model.net()
                            .forward(at::tensor(ids, at::kLong).unsqueeze(0))[0][-1]
                            .argmax()
                            .item<int64_t>();
      const auto token = static_cast<int32_t>(best);
      const std::string said = model.tokenizer().decode({&token, 1});
      if (said.size() != 1 || said[0] < '!' || said[0] > '~') continue;
      Item item = fact("", {text}, said);
      if (score_items(model, {&item, 1}, raw, false)[0].exact) out.push_back(item);
    }
    EXPECT_EQ(out.size(), count);
    return out;
  }

  static TemporaryFolder* folder_;
  static int copies_;
};
TemporaryFolder* FactTeach::folder_ = nullptr;
int FactTeach::copies_ = 0;

const std::string kHeavy = "How much does the Zorb weigh?";
const std::string kHeavyToo = "What is the weight of the Zorb?";
const std::string kMaker = "Who made the Quendel?";

}  // namespace
}  // namespace accrete
