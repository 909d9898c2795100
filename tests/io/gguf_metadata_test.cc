#include "io/gguf.h"
#include "io_testing.h"

namespace accrete {
namespace {

using testing::bytes_of;
using testing::expect_error;
using testing::GgufBuilder;
using testing::raw;

class GgufMetadata : public ::testing::Test {
 protected:
  GgufMetadata() {
    GgufBuilder builder;
    builder.pair("u8", 0, raw(uint8_t{200}))
        .pair("i8", 1, raw(int8_t{-3}))
        .pair("u16", 2, raw(uint16_t{65535}))
        .pair("i16", 3, raw(int16_t{-300}))
        .pair("u32", 4, raw(uint32_t{4000000000}))
        .pair("i32", 5, raw(int32_t{-70000}))
        .f32("f32", 0.5f)
        .boolean("yes", true)
        .string("text", "héllo")
        .pair("u64", 10, raw(~uint64_t{0}))
        .pair("i64", 11, raw(int64_t{-1}))
        .pair("f64", 12, raw(0.1));
    builder.numbers("u8s", 0, std::vector<uint8_t>{1, 255})
        .numbers("i8s", 1, std::vector<int8_t>{-1, 1})
        .numbers("u16s", 2, std::vector<uint16_t>{65535})
        .numbers("i16s", 3, std::vector<int16_t>{-5})
        .numbers("u32s", 4, std::vector<uint32_t>{4000000000})
        .numbers("i32s", 5, std::vector<int32_t>{-7, 7})
        .numbers("f32s", 6, std::vector<float>{0.5f, -2})
        .numbers("bools", 7, std::vector<uint8_t>{1, 0})
        .numbers("u64s", 10, std::vector<uint64_t>{1})
        .numbers("i64s", 11, std::vector<int64_t>{-9})
        .numbers("f64s", 12, std::vector<double>{0.1})
        .numbers("none", 5, std::vector<int32_t>{})
        .strings("texts", {"a", "b"});
    bytes = builder.build();
  }
  GgufFile file() const { return GgufFile::parse(bytes_of(bytes), "meta.gguf"); }
  std::string bytes;
};

TEST_F(GgufMetadata, WidensScalars) {
  const GgufFile f = file();
  EXPECT_EQ(f.get_int("u8"), 200);
  EXPECT_EQ(f.get_int("i8"), -3);
  EXPECT_EQ(f.get_int("u16"), 65535);
  EXPECT_EQ(f.get_int("i16"), -300);
  EXPECT_EQ(f.get_int("u32"), 4000000000);
  EXPECT_EQ(f.get_int("i32"), -70000);
  EXPECT_EQ(f.get_int("i64"), -1);
  EXPECT_EQ(std::get<uint64_t>(f.metadata().at("u64")), ~uint64_t{0});
  EXPECT_EQ(f.get_float("f32"), 0.5);
  EXPECT_EQ(f.get_float("f64"), 0.1);
  EXPECT_TRUE(f.get_bool("yes", false));
  EXPECT_EQ(f.get_string("text"), "héllo");
}

TEST_F(GgufMetadata, WidensArrays) {
  const GgufFile f = file();
  using Integers = std::vector<int64_t>;
  EXPECT_EQ(*f.find_ints("u8s"), (Integers{1, 255}));
  EXPECT_EQ(*f.find_ints("i8s"), (Integers{-1, 1}));
  EXPECT_EQ(*f.find_ints("u16s"), Integers{65535});
  EXPECT_EQ(*f.find_ints("i16s"), Integers{-5});
  EXPECT_EQ(*f.find_ints("u32s"), Integers{4000000000});
  EXPECT_EQ(*f.find_ints("i32s"), (Integers{-7, 7}));
  EXPECT_EQ(*f.find_ints("bools"), (Integers{1, 0}));
  EXPECT_EQ(*f.find_ints("u64s"), Integers{1});
  EXPECT_EQ(*f.find_ints("i64s"), Integers{-9});
  EXPECT_EQ(*f.find_ints("none"), Integers{});
  EXPECT_EQ(*f.find_floats("f32s"), (std::vector<double>{0.5, -2}));
  EXPECT_EQ(*f.find_floats("f64s"), std::vector<double>{0.1});
  EXPECT_EQ(f.get_strings("texts"), (std::vector<std::string>{"a", "b"}));
}

TEST_F(GgufMetadata, FallsBackWhereAKeyIsMissing) {
  const GgufFile f = file();
  EXPECT_EQ(f.get_int("no", 7), 7);
  EXPECT_EQ(f.get_float("no", 0.25), 0.25);
  EXPECT_EQ(f.get_string("no", "x"), "x");
  EXPECT_TRUE(f.get_bool("no", true));
  EXPECT_EQ(f.find_ints("no"), nullptr);
  EXPECT_EQ(f.find_floats("no"), nullptr);
}

TEST_F(GgufMetadata, RefusesMissingKeysAndOtherTypes) {
  const GgufFile f = file();
  const auto refuses = [](const char* what, auto call) {
    expect_error(ErrorCode::kFormat, {"meta.gguf", what}, call);
  };
  refuses("\"no\" is missing", [&] { f.get_int("no"); });
  refuses("\"no\" is missing", [&] { f.get_float("no"); });
  refuses("\"no\" is missing", [&] { f.get_string("no"); });
  refuses("\"no\" is missing", [&] { f.get_strings("no"); });
  refuses("not an integer", [&] { f.get_int("f32", 1); });
  refuses("not an integer", [&] { f.get_int("yes"); });
  refuses("2^63", [&] { f.get_int("u64"); });
  refuses("not a float", [&] { f.get_float("u32", 1); });
  refuses("not a boolean", [&] { f.get_bool("u8", true); });
  refuses("not a string", [&] { f.get_string("u8", "x"); });
  refuses("not an array of strings", [&] { f.get_strings("u8s"); });
  refuses("not an array of integers", [&] { f.find_ints("texts"); });
  refuses("not an array of floats", [&] { f.find_floats("u8s"); });
}

}  // namespace
}  // namespace accrete
