#include "io/strict_json.h"

#include <nlohmann/json.hpp>

#include "io_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::ScratchFolder;

TEST(StrictJson, ReadsWhatNlohmannReads) {
  for (const char* text :
       {"null", "true", "-3", "18446744073709551615", "0.5", "\"a\\u00e9\"", "[]", "{}",
        R"({"a":[1,[2,{"b":[]}],"x"],"c":{"d":null},"e":[{},{}]})", " [1 , 2 ] "})
    EXPECT_EQ(parse_json(text, "test"), nlohmann::json::parse(text)) << text;
}

TEST(StrictJson, RefusesDuplicateKeysAtEveryDepth) {
  for (const char* text : {R"({"a":1,"a":1})", R"([{"b":{"a":1,"\u0061":2}}])"})
    expect_error(ErrorCode::kFormat, {"test:", "\"a\"", "twice"},
                 [&] { parse_json(text, "test"); });
  // Not duplicates: the same key in different objects.
  EXPECT_NO_THROW(parse_json(R"({"a":{"a":1},"b":[{"a":1},{"a":2}]})", "test"));
}

TEST(StrictJson, RefusesDepth) {
  const std::string deep = std::string(64, '[') + std::string(64, ']');
  EXPECT_NO_THROW(parse_json(deep, "test"));
  expect_error(ErrorCode::kFormat, {"deeper than 64"},
               [&] { parse_json("[" + deep + "]", "test"); });
  // Never closed, and deep enough to overflow the stack of a recursive reader.
  for (const char* open : {"[", "{\"a\":"}) {
    std::string text;
    for (int i = 0; i < 1000000; ++i) text += open;
    expect_error(ErrorCode::kFormat, {"deeper"}, [&] { parse_json(text, "test"); });
  }
}

TEST(StrictJson, RefusesMoreValuesThanAllowed) {
  expect_error(ErrorCode::kFormat, {"too many"},
               [] { parse_json("[1,2,3,4]", "test", {.depth = 8, .values = 4}); });
  EXPECT_NO_THROW(parse_json("[1,2,3]", "test", {.depth = 8, .values = 4}));
}

TEST(StrictJson, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", " ", "{", "[1,]", "{\"a\"}", "[1] 2", "nul", "'a'", "{\"a\":1,}", "NaN", "[\"\xFF\"]",
        "\"\\ud800\"", "\"a\nb\"", "01", "// x\n1", "1e999"})
    expect_error(ErrorCode::kFormat, {"test: not valid JSON"}, [&] { parse_json(text, "test"); });
}

TEST(StrictJson, RefusesEveryTruncation) {
  const std::string text = R"({"a":[1,2.5,"x\n"],"b":{"c":null,"d":true}})";
  for (size_t n = 0; n < text.size(); ++n)
    expect_error(ErrorCode::kFormat, {}, [&] { parse_json(text.substr(0, n), "test"); });
}

TEST(StrictJson, CountsLinesFromTheFirst) {
  expect_error(ErrorCode::kFormat, {"data:12: "}, [] { parse_json("{\n\n]", "data", {}, 10); });
  expect_error(ErrorCode::kFormat, {"data:7: "},
               [] { parse_json("{\"a\":1,\"a\":2}", "data", {}, 7); });
}

TEST(StrictJson, MessagesStayShortAndPrintable) {
  const std::string text = "[\"" + std::string(1000000, 'x') + "\xFF";
  const auto error = testing::error_of([&] { parse_json(text, "test"); });
  ASSERT_TRUE(error);
  EXPECT_LT(std::string(error->what()).size(), 500u);
  EXPECT_NO_THROW(nlohmann::json(error->what()).dump());
}

TEST(StrictJson, ReadsAnObjectFromAFile) {
  const ScratchFolder folder;
  EXPECT_EQ(read_json_object(folder.write("a.json", "\xEF\xBB\xBF{\"a\": 1}\n"))["a"], 1);
  expect_error(ErrorCode::kFormat, {"b.json", "array"},
               [&] { read_json_object(folder.write("b.json", "[1]")); });
  expect_error(ErrorCode::kNotFound, {"c.json"}, [&] { read_json_object(folder / "c.json"); });
}

}  // namespace
}  // namespace accrete
