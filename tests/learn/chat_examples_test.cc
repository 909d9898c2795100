// Prompts and conversations as examples: the model's own chat template, and how raw texts begin.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "model/examples.h"
#include "tiny_model.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

class ChatExamples : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    testing::write_tiny_base(folder_, 3);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // In the manner of Llama 3: contents are trimmed, every turn ends with "<|end|>".
  LanguageModel open(const std::string& turn = "m.content | trim") const {
    write_file_atomically(
        folder_ / "tokenizer_config.json",
        nlohmann::json({{"eos_token", "<|end|>"},
                        {"bos_token", "<|end|>"},
                        {"chat_template",
                         "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + " + turn +
                             " + '<|end|>' }}{% endfor %}{% if "
                             "add_generation_prompt %}[assistant]{% endif %}"}})
            .dump());
    return LanguageModel::open(folder_, testing::one_thread());
  }
  // The text with what is to be learned in braces.
  static std::string marked(const LanguageModel& model, const Example& e) {
    std::string out;
    for (size_t i = 0; i < e.tokens.size(); ++i) {
      if (e.label[i] != 0 && (i == 0 || e.label[i - 1] == 0)) out += '{';
      if (e.label[i] == 0 && i > 0 && e.label[i - 1] != 0) out += '}';
      out += model.tokenizer().decode({&e.tokens[i], 1});
    }
    return e.label.back() != 0 ? out + '}' : out;
  }
  static Item conversation(std::vector<Message> messages) {
    Item item;
    item.kind = Item::Kind::kMessages;
    item.messages = std::move(messages);
    return item;
  }

  fs::path folder_;
};

TEST_F(ChatExamples, AreWrittenByTheModelsTemplate) {
  const LanguageModel model = open();
  EXPECT_EQ(marked(model, make_example(model, " Who? ", "Eva", "", {})),
            "<|end|>[user]Who?<|end|>[assistant]{Eva<|end|>}");
  const std::vector<Item> items = {conversation(
      {{"system", "S"}, {"user", "a "}, {"assistant", " b\n"}, {"user", "c"}, {"assistant", "d"}})};
  EXPECT_EQ(marked(model, make_examples(model, items, {}).at(0)),
            "<|end|>[system]S<|end|>[user]a<|end|>[assistant]{b<|end|>}[user]c<|end|>[assistant]"
            "{d<|end|>}");
  EXPECT_EQ(model.stop_ids(), std::vector<int64_t>{256});
}

TEST_F(ChatExamples, EarlierAnswersMustStayAsTheyWereSaid) {
  const LanguageModel model = open("(m.content if loop.last else '...')");
  const std::vector<Item> one = {conversation({{"user", "a"}, {"assistant", "b"}})};
  const std::vector<Item> two = {
      conversation({{"user", "a"}, {"assistant", "b"}, {"user", "c"}, {"assistant", "d"}})};
  EXPECT_EQ(make_examples(model, one, {}).size(), 1U);
  testing::expect_error(ErrorCode::kUnsupported, [&] { make_examples(model, two, {}); });
}

TEST_F(ChatExamples, RawTextsBeginAsTheTokenizerSays) {
  auto json = nlohmann::json::parse(read_file(folder_ / "tokenizer.json"));
  json["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                            {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", {256}}}}}}};
  write_file_atomically(folder_ / "tokenizer.json", json.dump());
  const LanguageModel model = open();
  ExampleOptions raw;
  raw.raw = true;
  EXPECT_EQ(marked(model, make_example(model, "Eva", "q", "", raw)), "<|end|>Eva{ q}");
  Item text;
  text.kind = Item::Kind::kText;
  text.text = "abcdef";
  raw.window = 3;
  const auto windows = make_examples(model, std::vector<Item>{text}, raw);
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(marked(model, windows[0]), "<|end|>a{bcd}");
  EXPECT_EQ(marked(model, windows[1]), "<|end|>d{ef}");
  // A rendered chat brings its own.
  EXPECT_EQ(marked(model, make_example(model, "a", "b", "", {})),
            "<|end|>[user]a<|end|>[assistant]{b<|end|>}");
}

}  // namespace
}  // namespace accrete
