#include "base/sha256.h"
#include "io/dataset.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::ScratchFolder;

constexpr const char* kFact = R"({"prompt":"p","completion":"c"})";

class DatasetFile : public ::testing::Test {
 protected:
  Dataset read(std::string_view name, const std::string& content) {
    return read_dataset(folder.write(name, content));
  }
  void refuses(std::string_view name, const std::string& content,
               std::initializer_list<const char*> parts, ErrorCode code = ErrorCode::kFormat) {
    expect_error(code, parts, [&] { read(name, content); });
  }
  ScratchFolder folder;
};

TEST_F(DatasetFile, ReadsLinesWithTheirNumbers) {
  const std::string content = std::string("\n") + kFact + "\n  \t\n\n" + R"({"text":"t"})" + "\n\n";
  const Dataset data = read("d.jsonl", content);
  ASSERT_EQ(data.items.size(), 2u);
  EXPECT_EQ(data.items[0].line, 2);
  EXPECT_EQ(data.items[1].line, 5);
  EXPECT_EQ(data.path, folder / "d.jsonl");
  EXPECT_EQ(data.digest, sha256_hex(content));
}

TEST_F(DatasetFile, ReadsLinesOfEveryEditor) {
  EXPECT_EQ(read("a.jsonl", kFact).items.size(), 1u);  // no line end
  EXPECT_EQ(read("b.jsonl", std::string(kFact) + "\r\n" + kFact + "\r\n").items.size(), 2u);
  EXPECT_EQ(read("c.jsonl", std::string("\xEF\xBB\xBF") + kFact + "\n").items.size(), 1u);
  // A line separator of Unicode's is text, not the end of a line.
  EXPECT_EQ(read("d.jsonl", "{\"text\":\"a\u2028b\"}\n").items.size(), 1u);
}

TEST_F(DatasetFile, ErrorsNameFileAndLine) {
  refuses("d.jsonl", std::string(kFact) + "\n\n{\"prompt\":\"p\"}\n",
          {"d.jsonl:3: ", "completion"});
  refuses("d.jsonl", std::string(kFact) + "\n{", {"d.jsonl:2: "});
  refuses("d.jsonl", std::string(kFact) + " " + kFact, {"d.jsonl:1: "});
  refuses("d.jsonl", std::string("[").append(kFact).append("]"), {"d.jsonl:1: ", "array"});
}

TEST_F(DatasetFile, RefusesAFileWithoutItems) {
  for (const char* name : {"d.jsonl", "d.txt"})
    for (const char* content : {"", "\n \n", "\xEF\xBB\xBF"})
      refuses(name, content, {name, "no item"}, ErrorCode::kInvalidArgument);
  refuses("d.json", "[]", {"d.json", "no item"}, ErrorCode::kInvalidArgument);
  refuses("d.txt", "\n<|endoftext|>\n \n<|endoftext|>\n", {"no item"}, ErrorCode::kInvalidArgument);
}

TEST_F(DatasetFile, ReadsAnArrayWithTheLineOfEachItem) {
  const std::string content =
      " [\n " + std::string(kFact) +
      ",\n\n{\n\"prompt\": \"[}],\\\"\",\n\"answer\": \"]\"\n}\n, {\"text\":\"t\"}\n]\n";
  const Dataset data = read("d.json", content);
  ASSERT_EQ(data.items.size(), 3u);
  EXPECT_EQ(data.items[0].line, 2);
  EXPECT_EQ(data.items[1].line, 4);
  EXPECT_EQ(data.items[1].prompts[0], "[}],\"");
  EXPECT_EQ(data.items[2].line, 8);
}

TEST_F(DatasetFile, RefusesArraysThatAreNone) {
  refuses("d.json", kFact, {"d.json:1: ", "array"});
  for (const char* content :
       {"[", "[,]", "[{}", "[1 2]", "[]]", "[\"a", "[\"a\\", "[\"a\\\"", "[}]", "[{]}", "[] []",
        "[{\"text\":\"t\"},]", "[,{\"text\":\"t\"}]", "[[]]", "[1]", "[{\"text\":\"a\nb\"}]", ""})
    refuses("d.json", content, {"d.json:"});
  refuses("d.json", "[\n{\"text\":\"t\"},\n{\"text\":1}]", {"d.json:3: "});
  refuses("d.json", "[\n{\"text\":\"t\",\n\"more\": x}]", {"d.json:3: "});
  refuses("d.json", std::string(1000000, '['), {"d.json:1: "});
  refuses("d.json", std::string(1000000, '[') + std::string(1000000, ']'), {"deeper"});
}

TEST_F(DatasetFile, ReadsDocuments) {
  const Dataset data = read("d.txt",
                            "<|endoftext|>\nTitle\n\nfirst <|endoftext|> text\n<|endoftext|>\n \n"
                            "<|endoftext|>\r\nsecond\r\n<|endoftext|>\nthird");
  ASSERT_EQ(data.items.size(), 3u);
  EXPECT_EQ(data.items[0].kind, Item::Kind::kText);
  EXPECT_EQ(data.items[0].text, "Title\n\nfirst <|endoftext|> text");
  EXPECT_EQ(data.items[0].line, 2);
  EXPECT_EQ(data.items[1].text, "second");
  EXPECT_EQ(data.items[2].text, "third");
  EXPECT_EQ(data.items[2].line, 10);
}

TEST_F(DatasetFile, RefusesTextThatIsNotUtf8) {
  refuses("d.txt", "one\ntwo \xE9\n", {"d.txt:2: ", "UTF-8"});
  refuses("d.jsonl", "{\"text\":\"\xE9\"}\n", {"d.jsonl:1: "});
}

TEST_F(DatasetFile, RefusesOtherFiles) {
  for (const char* name : {"d.csv", "d", "d.JSONL", "d.parquet", "d.zst", ".jsonl"})
    refuses(name, kFact, {name, ".jsonl"}, ErrorCode::kInvalidArgument);
  expect_error(ErrorCode::kNotFound, {"none.jsonl"}, [&] { read_dataset(folder / "none.jsonl"); });
  std::filesystem::create_directory(folder / "folder.jsonl");
  expect_error(ErrorCode::kInvalidArgument, {"folder.jsonl"},
               [&] { read_dataset(folder / "folder.jsonl"); });
}

}  // namespace
}  // namespace accrete
