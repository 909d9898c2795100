// Files that are torn, contradictory or hostile.
#include <algorithm>

#include "base/format.h"
#include "io/safetensors.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::error_of;
using testing::expect_error;
using testing::raw;
using testing::safetensors_file;

void parse(const std::string& file) {
  std::vector<TensorView> tensors;
  Metadata metadata;
  parse_safetensors(bytes_of(file), "weights", tensors, metadata);
}

void refuses(const std::string& file, std::initializer_list<const char*> parts,
             ErrorCode code = ErrorCode::kFormat) {
  SCOPED_TRACE(file.substr(0, 200));
  expect_error(code, {"weights: "}, [&] { parse(file); });
  expect_error(code, parts, [&] { parse(file); });
}

std::string header_of(const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
  return R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

std::string good_file() {
  return safetensors_file(R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],)"
                          R"("data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1,4],)"
                          R"("data_offsets":[8,12]}})",
                          std::string(12, '\1'));
}

TEST(SafetensorsRefused, EveryTruncation) {
  const std::string file = good_file();
  ASSERT_NO_THROW(parse(file));
  for (size_t n = 0; n < file.size(); ++n)
    expect_error(ErrorCode::kFormat, {"weights: "}, [&] { parse(file.substr(0, n)); });
}

TEST(SafetensorsRefused, TrailingBytes) {
  refuses(good_file() + '\0', {"1 bytes follow the last tensor"});
  refuses(safetensors_file("{}", "x"), {"1 bytes follow"});
}

// Any byte changed to any of some others: refused, or read as something consistent; never worse.
TEST(SafetensorsRefused, FlippedBytesNeverDoHarm) {
  const std::string file = good_file();
  for (size_t i = 0; i < file.size(); ++i) {
    for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string torn = file;
      torn[i] = static_cast<char>(torn[i] ^ flip);
      error_of([&] { parse(torn); });
    }
  }
}

TEST(SafetensorsRefused, LengthsThatLie) {
  refuses(raw(uint64_t{3}) + "{}", {"claims 3 bytes, only 2"});
  refuses(raw(uint64_t{100'000'001}) + "{}", {"100000001", "limit"});
  refuses(raw(~uint64_t{0}) + "{}", {"18446744073709551615"});
  refuses(raw(uint64_t{0}), {"does not begin"});
}

TEST(SafetensorsRefused, HeadersThatAreNotTheFormat) {
  for (const char* header : {"", " {}", "[]", "1", "null", "\"a\"", "{} x", "{}{}", "{\"a\"", "{,}",
                             "\xEF\xBB\xBF{}", "{\"\xFF\":{}}"})
    refuses(safetensors_file(header), {"header"});
  for (const char* header :
       {R"({"t":1})", R"({"t":[]})", R"({"t":"x"})", R"({"t":null})", R"({"t":{}})",
        R"({"t":{"dtype":"U8"}})", R"({"t":{"dtype":"U8","shape":[]}})",
        R"({"t":{"dtype":"U8","shape":[],"data_offsets":[0,1],"more":1}})",
        R"({"t":{"dtype":1,"shape":[],"data_offsets":[0,1]}})",
        R"({"t":{"dtype":["U8"],"shape":[],"data_offsets":[0,1]}})",
        R"({"t":{"dtype":{"a":1},"shape":[],"data_offsets":[0,1]}})",
        R"({"t":{"dtype":"U8","shape":1,"data_offsets":[0,1]}})",
        R"({"t":{"dtype":"U8","shape":{},"data_offsets":[0,1]}})",
        R"({"t":{"dtype":"U8","shape":[],"data_offsets":"0,1"}})", R"({"__metadata__":[]})",
        R"({"__metadata__":{"a":1}})", R"({"__metadata__":{"a":{}}})"})
    refuses(safetensors_file(header, "x"), {"header"});
}

TEST(SafetensorsRefused, NumbersThatAreNotSizes) {
  for (const char* shape :
       {"[-1]", "[1.0]", "[1e3]", "[\"1\"]", "[null]", "[true]", "[[1]]", "[{}]", "[-0]",
        "[18446744073709551615]", "[18446744073709551616]", "[9223372036854775808]"})
    refuses(safetensors_file(header_of("U8", shape, "[0,1]"), "x"), {"\"t\""});
  for (const char* offsets : {"[]", "[0]", "[0,1,2]", "[-1,0]", "[0,1.0]", "[0,\"1\"]", "[[0],1]",
                              "[0,18446744073709551616]"})
    refuses(safetensors_file(header_of("U8", "[1]", offsets), "x"), {"\"t\""});
}

TEST(SafetensorsRefused, SizesThatOverflowOrDoNotMatch) {
  refuses(safetensors_file(header_of("F64", "[2305843009213693952]", "[0,0]")), {"overflows"});
  refuses(safetensors_file(header_of("U8", "[4294967296,4294967296]", "[0,0]")), {"overflows"});
  refuses(safetensors_file(header_of("U8", "[4294967296,4294967296,0]", "[0,0]")), {"overflows"});
  refuses(safetensors_file(header_of("F32", "[2]", "[0,7]"), "1234567"), {"7 bytes", "need 8"});
  refuses(safetensors_file(header_of("U8", "[1]", "[1,0]"), "x"), {"backwards"});
  refuses(safetensors_file(header_of("U8", "[9]", "[0,9]"), "x"), {"only 1 bytes"});
  refuses(
      safetensors_file(header_of("U8", "[1]", "[18446744073709551614,18446744073709551615]"), "x"),
      {"hole"});
}

TEST(SafetensorsRefused, RangesThatOverlapOrLeaveHoles) {
  const auto two = [](const char* a, const char* b) {
    return accrete::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                           R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                           a, b);
  };
  refuses(safetensors_file(two("[0,4]", "[3,7]"), "1234567"), {"\"b\"", "overlap"});
  refuses(safetensors_file(two("[0,4]", "[0,4]"), "1234"), {"\"b\"", "overlap"});
  refuses(safetensors_file(two("[0,4]", "[5,9]"), "123456789"), {"\"b\"", "hole"});
  refuses(safetensors_file(two("[1,5]", "[5,9]"), "123456789"), {"\"a\"", "hole"});
}

TEST(SafetensorsRefused, DuplicateKeys) {
  const std::string entry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  refuses(safetensors_file(R"({"t":)" + entry + R"(,"t":)" + entry + "}"), {"\"t\"", "twice"});
  refuses(safetensors_file(R"({"__metadata__":{},"__metadata__":{}})"), {"__metadata__", "twice"});
  refuses(safetensors_file(R"({"__metadata__":{"a":"1","a":"2"}})"), {"\"a\"", "twice"});
  refuses(safetensors_file(R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
          {"\"dtype\"", "twice"});
}

TEST(SafetensorsRefused, TypesThatAreNotRead) {
  for (const char* dtype : {"F8_E4M3", "U64", "C64", "f32", "", "I4"})
    refuses(safetensors_file(header_of(dtype, "[1]", "[0,1]"), "x"), {"\"t\"", "type"},
            ErrorCode::kUnsupported);
}

TEST(SafetensorsRefused, DepthAndFloods) {
  std::string deep = R"({"t":)";
  for (int i = 0; i < 1000000; ++i) deep += "[";
  refuses(safetensors_file(deep), {"\"t\""});
  std::string wide = "[0";
  for (int i = 0; i < 1000000; ++i) wide += ",0";
  refuses(safetensors_file(header_of("U8", wide + "]", "[0,0]")), {"dimensions"});
  refuses(safetensors_file(header_of(std::string(1000000, 'x'), "[0]", "[0,0]")), {"..."},
          ErrorCode::kUnsupported);
}

TEST(SafetensorsRefused, LeavesTheOutputsAlone) {
  std::vector<TensorView> tensors(1);
  tensors[0].name = "before";
  Metadata metadata{{"before", "x"}};
  const std::string file = good_file() + "x";
  error_of([&] { parse_safetensors(bytes_of(file), "weights", tensors, metadata); });
  EXPECT_EQ(tensors.at(0).name, "before");
  EXPECT_EQ(metadata.size(), 1u);
}

}  // namespace
}  // namespace accrete
