#include <nlohmann/json.hpp>

#include "base/format.h"
#include "io/dataset.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::error_of;
using testing::expect_error;

void item_refuses(const std::string& json, std::initializer_list<const char*> parts) {
  SCOPED_TRACE(json.substr(0, 200));
  expect_error(ErrorCode::kFormat, {"data.jsonl:3: "}, [&] { parse_item(json, "data.jsonl", 3); });
  expect_error(ErrorCode::kFormat, parts, [&] { parse_item(json, "data.jsonl", 3); });
}

TEST(DatasetItemRefused, EveryTruncation) {
  for (
      const std::string line :
      {R"({"prompts": ["a", "b"], "completion": "c", "subject": "s", "asked": ["d"], "id": "1"})",
       R"({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "é"}]})",
       R"({"text": "some text"})"}) {
    ASSERT_NO_THROW(parse_item(line, "data.jsonl", 3));
    for (size_t n = 0; n < line.size(); ++n) item_refuses(line.substr(0, n), {"not valid JSON"});
  }
}

TEST(DatasetItemRefused, FlippedBytesNeverDoHarm) {
  const std::string line =
      R"({"prompts":["a","b"],"answer":"c","asked":["d"],"id":"1","x":[1.5,null,{"y":true}]})";
  for (size_t i = 0; i < line.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      std::string torn = line;
      torn[i] = static_cast<char>(value);
      error_of([&] { parse_item(torn, "data.jsonl", 3); });
    }
  }
}

TEST(DatasetItemRefused, OtherJson) {
  for (const char* json : {"[]", "1", "null", "\"text\"", "true"})
    item_refuses(json, {"an item is expected"});
}

TEST(DatasetItemRefused, NamesTheKeysFoundAndExpected) {
  item_refuses(R"({"relation":"P19","object":"x"})", {"found \"object\", \"relation\"", "expected",
                                                      "\"prompt(s)\"", "\"messages\"", "\"text\""});
  item_refuses("{}", {"found no keys", "expected"});
  item_refuses(R"({"prompt":"p"})", {"the answer is missing", "found \"prompt\""});
  item_refuses(R"({"question":"q","choices":["a"],"label":0})",
               {"the answer is missing", "\"choices\""});
  item_refuses(R"({"answer":"a"})", {"the question is missing"});
  item_refuses(R"({"asked":["q"]})", {"neither a fact"});
  item_refuses(R"({"context":"c","answers":["a"]})", {"the question is missing"});
  item_refuses(R"({"prompt":"p","text":"t"})", {"the answer is missing"});
}

TEST(DatasetItemRefused, VerbatimAndLeaveAreOfQuestions) {
  item_refuses(R"({"question":"p","leave":true,"answer":"a"})", {"leave", "no answer"});
  item_refuses(R"({"question":"p","leave":true,"verbatim":true})", {"leave"});
  item_refuses(R"({"leave":true})", {"neither a fact"});
  item_refuses(R"({"asked":["p"],"leave":true})", {""});
  item_refuses(R"({"question":"p","leave":1})", {"\"leave\" must be true or false"});
  item_refuses(R"({"question":"p","answer":"a","verbatim":"yes"})",
               {"\"verbatim\" must be true or false"});
  item_refuses(R"({"question":"p","leave":false})", {"the answer is missing"});
  item_refuses(R"({"text":"t","verbatim":true})", {"belong to a question"});
  item_refuses(
      R"({"messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}],"leave":true})",
      {"belong to a question"});
}

TEST(DatasetItemRefused, Contradictions) {
  item_refuses(R"({"prompt":"p","question":"p","answer":"a"})", {"mean the same", "\"question\""});
  item_refuses(R"({"prompt":"p","questions":["p"],"answer":"a"})", {"mean the same"});
  item_refuses(R"({"prompt":"p","answer":"a","completion":"a"})",
               {"mean the same", "\"completion\""});
  const std::string messages = R"("messages":[{"role":"assistant","content":"a"}])";
  item_refuses("{" + messages + R"(,"prompt":"p","answer":"a"})", {"\"messages\" stand alone"});
  item_refuses("{" + messages + R"(,"answer":"a"})", {"\"messages\" stand alone"});
  item_refuses("{" + messages + R"(,"text":"t"})", {"\"messages\" stand alone"});
  item_refuses(R"({"prompt":"p","prompt":"q","answer":"a"})", {"\"prompt\"", "twice"});
}

TEST(DatasetItemRefused, SlipsOfThePen) {
  item_refuses(R"({"prompt":"p","answer":"a","subjects":"s"})",
               {"\"subjects\"", "did you mean \"subject\""});
  item_refuses(R"({"prompt":"p","answer":"a","Subject":"s"})", {"\"Subject\"", "\"subject\""});
  item_refuses(R"({"prompt":"p","answer":"a","aksed":["s"]})", {"\"aksed\"", "\"asked\""});
  item_refuses(R"({"promt":"p","answer":"a"})", {"\"promt\"", "did you mean \"prompt\""});
  item_refuses(R"({"prompt":"p\u0000q","answer":"a"})", {"U+0000"});
  item_refuses(R"([{"prompt":"p","answer":"a"}])", {"JSON array"});
  item_refuses(R"({"text":"p","corrects":"q"})", {"\"corrects\""});
  item_refuses(R"({"prompt":"p","compleition":"a"})", {"\"compleition\"", "\"completion\""});
  item_refuses(R"({"prompt":"p","anwser":"a"})", {"\"anwser\"", "did you mean \"answer\"?"});
  item_refuses(R"({"prompt":"p","anwsers":["a"]})", {"did you mean \"answers\"?"});
  item_refuses(R"({"prompt":"p","answer":"a","verbtaimm":true})", {"did you mean \"verbatim\"?"});
  item_refuses(R"({"prompt":"p","answer":"a","sbjct":"s"})", {"did you mean \"subject\"?"});
  item_refuses(R"({"quetsoin":"q","answer":"a"})", {"did you mean \"question\"?"});
  item_refuses(R"({"questoins":["q"],"leave":true,"id":"1"})", {"did you mean \"questions\"?"});
  item_refuses(R"({"message":[]})", {"did you mean \"messages\""});
  item_refuses(R"({"Text":"t"})", {"did you mean \"text\""});
  item_refuses(R"({"prompt":"p","answer":"a","ID":"s"})", {"did you mean \"id\""});
}

TEST(DatasetItemRefused, OtherTypes) {
  for (const char* wrong : {"1", "null", "true", "[]", "[\"x\"]", "{}"}) {
    for (const char* key : {"prompt", "question"})
      item_refuses(accrete::format(R"({{"{}":{},"answer":"a"}})", key, wrong),
                   {key, "must be a string"});
    for (const char* key : {"completion", "answer"})
      item_refuses(accrete::format(R"({{"prompt":"p","{}":{}}})", key, wrong),
                   {key, "must be a string"});
    for (const char* key : {"subject", "id"})
      item_refuses(accrete::format(R"({{"prompt":"p","answer":"a","{}":{}}})", key, wrong),
                   {key, "must be a string"});
    item_refuses(accrete::format(R"({{"text":{}}})", wrong), {"text", "must be a string"});
  }
  for (const char* wrong : {"1", "null", "\"x\"", "{}", "[]", "[1]", "[\"x\",null]", "[[\"x\"]]"}) {
    for (const char* key : {"prompts", "questions"})
      item_refuses(accrete::format(R"({{"{}":{},"answer":"a"}})", key, wrong), {key});
    for (const char* key : {"completions", "answers"})
      item_refuses(accrete::format(R"({{"prompt":"p","{}":{}}})", key, wrong), {key});
    item_refuses(accrete::format(R"({{"prompt":"p","answer":"a","asked":{}}})", wrong), {"asked"});
  }
}

TEST(DatasetItemRefused, Emptiness) {
  for (const char* blank : {"", " ", "\\n\\t "}) {
    item_refuses(accrete::format(R"({{"prompt":"{}","answer":"a"}})", blank),
                 {"\"prompt\" is empty"});
    item_refuses(accrete::format(R"({{"prompt":"p","answer":"{}"}})", blank),
                 {"\"answer\" is empty"});
    item_refuses(accrete::format(R"({{"prompts":["p","{}"],"answer":"a"}})", blank),
                 {"entry 2 of \"prompts\""});
    item_refuses(accrete::format(R"({{"prompt":"p","answer":"a","subject":"{}"}})", blank),
                 {"\"subject\""});
    item_refuses(accrete::format(R"({{"text":"{}"}})", blank), {"\"text\" is empty"});
  }
}

TEST(DatasetItemRefused, Conversations) {
  for (const char* wrong : {"[]", "1", "null", "{}", "\"x\""})
    item_refuses(accrete::format(R"({{"messages":{}}})", wrong), {"\"messages\" must be a list"});
  const auto with = [](const char* message) {
    return accrete::format(R"({{"messages":[{{"role":"user","content":"u"}},{}]}})", message);
  };
  for (const char* wrong :
       {"1", "null", "[]", "{}", R"({"role":"assistant"})", R"({"content":"a"})"})
    item_refuses(with(wrong), {"message 2", "\"role\" and \"content\""});
  item_refuses(with(R"({"role":1,"content":"a"})"), {"message 2", "role"});
  item_refuses(with(R"({"role":"assistant","content":null})"), {"message 2", "content"});
  item_refuses(with(R"({"role":"assistant","content":[{"type":"text"}]})"),
               {"message 2", "content"});
  item_refuses(with(R"({"role":"assistant","content":" "})"), {"message 2", "empty"});
  item_refuses(with(R"({"role":"gpt","content":"a"})"), {"message 2", "\"gpt\"", "assistant"});
  item_refuses(with(R"({"role":"user","content":"a"})"),
               {"the last message must be the assistant's"});
}

TEST(DatasetItemRefused, HostileJson) {
  item_refuses("{\"prompt\":" + std::string(1000000, '['), {"deeper"});
  item_refuses(R"({"prompt":"\ud800","answer":"a"})", {"not valid JSON"});
  item_refuses("{\"prompt\":\"\xFF\",\"answer\":\"a\"}", {"not valid JSON"});
  std::string many = "{\"k0\":0";
  for (int i = 1; i < 10000; ++i) many += accrete::format(",\"k{}\":0", i);
  const auto error = error_of([&] { parse_item(many + "}", "data.jsonl", 3); });
  ASSERT_TRUE(error);
  EXPECT_LT(std::string(error->what()).size(), 1000u);
  const auto names =
      error_of([] { parse_item("{\"" + std::string(100000, 'k') + "\":1}", "d", 1); });
  ASSERT_TRUE(names);
  EXPECT_LT(std::string(names->what()).size(), 1000u);
}

}  // namespace
}  // namespace accrete
