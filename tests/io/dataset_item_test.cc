#include "base/format.h"
#include "io/dataset.h"
#include "io_testing.h"

namespace accrete {
namespace {

using Strings = std::vector<std::string>;

Item item(const char* json) {
  return parse_item(json, "data.jsonl", 3);
}

TEST(DatasetItem, ReadsAFact) {
  const Item fact = item(R"({"prompt": "The sky is", "completion": "blue"})");
  EXPECT_EQ(fact.kind, Item::Kind::kFact);
  EXPECT_EQ(fact.prompts, Strings{"The sky is"});
  EXPECT_EQ(fact.answers, Strings{"blue"});
  EXPECT_TRUE(fact.asked.empty());
  EXPECT_TRUE(fact.subject.empty());
  EXPECT_TRUE(fact.id.empty());
  EXPECT_EQ(fact.line, 3);
}

TEST(DatasetItem, ReadsEverySynonymAndPlural) {
  for (const char* prompt :
       {R"("prompt":"p")", R"("question":"p")", R"("prompts":["p"])", R"("questions":["p"])"}) {
    for (const char* answer : {R"("completion":"a")", R"("answer":"a")", R"("completions":["a"])",
                               R"("answers":["a"])"}) {
      const Item fact = item(accrete::format("{{{},{}}}", prompt, answer).c_str());
      EXPECT_EQ(fact.prompts, Strings{"p"});
      EXPECT_EQ(fact.answers, Strings{"a"});
    }
  }
}

TEST(DatasetItem, ReadsSeveralPhrasingsAndAnswers) {
  const Item fact = item(R"({"questions":["p","q"],"answers":["a","b","c"]})");
  EXPECT_EQ(fact.prompts, (Strings{"p", "q"}));
  EXPECT_EQ(fact.answers, (Strings{"a", "b", "c"}));
}

TEST(DatasetItem, ASingularComesBeforeItsPlural) {
  const Item fact = item(R"({"prompt":"q","prompts":["p","q"],"answer":"b","answers":["a","b"]})");
  EXPECT_EQ(fact.prompts, (Strings{"q", "p"}));
  EXPECT_EQ(fact.answers, (Strings{"b", "a"}));
}

TEST(DatasetItem, ReadsTheOptionalKeys) {
  const Item fact = item(R"({"prompt":"p","answer":"a","subject":"s","asked":["x","y"],"id":"7"})");
  EXPECT_EQ(fact.subject, "s");
  EXPECT_EQ(fact.asked, (Strings{"x", "y"}));
  EXPECT_EQ(fact.id, "7");
}

TEST(DatasetItem, AnAnswerMayBeWordForWordOrTheModels) {
  Item fact = item(R"({"question":"p","answer":"a","verbatim":true})");
  EXPECT_TRUE(fact.verbatim);
  EXPECT_FALSE(fact.leave);
  EXPECT_EQ(fact.answers, Strings{"a"});
  fact = item(R"({"questions":["p","q"],"leave":true,"subject":"s"})");
  EXPECT_TRUE(fact.leave);
  EXPECT_EQ(fact.prompts, (Strings{"p", "q"}));
  EXPECT_TRUE(fact.answers.empty());
  fact = item(R"({"question":"p","answer":"a","verbatim":false,"leave":false})");
  EXPECT_FALSE(fact.verbatim || fact.leave);
}

TEST(DatasetItem, AFactMayOnlyBeAsked) {
  const Item fact = item(R"({"asked":["x"],"completion":"a"})");
  EXPECT_EQ(fact.kind, Item::Kind::kFact);
  EXPECT_TRUE(fact.prompts.empty());
}

TEST(DatasetItem, ReadsAConversation) {
  const Item talk =
      item(R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":"u"},)"
           R"({"role":"tool","content":"t"},{"role":"assistant","content":"a"}],"id":"1"})");
  EXPECT_EQ(talk.kind, Item::Kind::kMessages);
  ASSERT_EQ(talk.messages.size(), 4u);
  EXPECT_EQ(talk.messages[0].role, "system");
  EXPECT_EQ(talk.messages[3].content, "a");
  EXPECT_EQ(talk.id, "1");
}

TEST(DatasetItem, ReadsText) {
  const Item text = item(R"({"text":"one\ntwo \u00e9"})");
  EXPECT_EQ(text.kind, Item::Kind::kText);
  EXPECT_EQ(text.text, "one\ntwo é");
}

TEST(DatasetItem, KeepsBlanksAroundTexts) {
  const Item fact = item(R"({"prompt":" p ","completion":" a\n"})");
  EXPECT_EQ(fact.prompts, Strings{" p "});
  EXPECT_EQ(fact.answers, Strings{" a\n"});
}

// Question sets carry more than the question.
TEST(DatasetItem, LeavesAnnotationsAlone) {
  const Item fact = item(
      R"({"question":"q","answers":["a"],"split":"dev","title":"t","text":"passage","context":"c",)"
      R"("choices":["a","b"],"label":1,"solution":null,"answers_extended":["z"],"meta":{"a":[1]},)"
      R"("object":"o","answered":true,"passages":["p"],"prompt_id":7,"level":2,"answer_1":"z"})");
  EXPECT_EQ(fact.kind, Item::Kind::kFact);
  EXPECT_EQ(fact.answers, Strings{"a"});
  EXPECT_TRUE(fact.text.empty());
}

}  // namespace
}  // namespace accrete
