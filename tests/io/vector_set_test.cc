// Sets of rows: every kind of file says the same, and what cannot be is refused with its row.
#include "io/vector_set.h"

#include <gmock/gmock.h>

#include <limits>

#include "../base/testing.h"
#include "io/npz.h"
#include "io/safetensors.h"
#include "npz_testing.h"

namespace accrete {
namespace {

using ::testing::ElementsAre;
using testing::expect_error;
using ::testing::HasSubstr;
using testing::npy;
using testing::npz;
using testing::raw_bytes;

VectorSet parse_set(const std::string& bytes, const std::string& name) {
  return parse_vector_set(std::as_bytes(std::span(bytes)), name);
}
std::string refused_set(const std::string& bytes, const std::string& name,
                        ErrorCode code = ErrorCode::kFormat) {
  return expect_error(code, [&] { (void)parse_set(bytes, name); });
}

const std::string kInputs = npy("<f4", "(3, 2)", raw_bytes<float>({0, 1, 2, 3, 4, 5}));
const std::string kClasses = npy("<i8", "(3,)", raw_bytes<int64_t>({7, 3, 7}));

std::string set_tensors(const std::vector<float>& inputs, const std::vector<int32_t>& classes,
                        const Metadata& metadata = {}) {
  const auto n = static_cast<int64_t>(classes.size());
  const std::vector<TensorView> views = {
      {"inputs",
       DType::kF32,
       {n, static_cast<int64_t>(inputs.size()) / n},
       std::as_bytes(std::span(inputs))},
      {"targets", DType::kI32, {n}, std::as_bytes(std::span(classes))}};
  return safetensors_bytes("test", views, metadata);
}

TEST(VectorSet, EveryKindOfFileSaysTheSame) {
  const auto expect = [](const VectorSet& set) {
    EXPECT_EQ(set.rows, 3);
    EXPECT_EQ(set.width, 2);
    EXPECT_THAT(set.inputs, ElementsAre(0, 1, 2, 3, 4, 5));
    std::vector<std::string> names;
    for (const int32_t c : set.classes) names.push_back(set.labels[static_cast<size_t>(c)]);
    EXPECT_THAT(names, ElementsAre("7", "3", "7"));
    EXPECT_EQ(set.digest.size(), 64U);
  };
  expect(parse_set(npz({{"inputs.npy", kInputs}, {"targets.npy", kClasses}}), "a.npz"));
  expect(parse_set(set_tensors({0, 1, 2, 3, 4, 5}, {7, 3, 7}), "a.safetensors"));
  expect(parse_set("x,label,y\n0,7,1\n2,3,3\n4,7,5\n", "a.csv"));
  expect(
      parse_set("{\"inputs\": [0, 1], \"label\": 7}\n{\"inputs\": [2, 3], \"label\": \"3\"}\n\n"
                "{\"inputs\": [4, 5], \"label\": 7}\n",
                "a.jsonl"));
}

TEST(VectorSet, ValuesAndNames) {
  const auto set = parse_set(
      npz({{"observations.npy", npy("|u1", "(2, 2, 1)", std::string("\x00\xff\x01\x02", 4))},
           {"actions.npy", npy("<f8", "(2, 3)", raw_bytes<double>({.5, 1, 2, 3, 4, 5}))},
           {"task.npy", npy("<U4", "()", raw_bytes<uint32_t>({'p', 'u', 's', 0xe9}))}}),
      "demos.npz");
  EXPECT_THAT(set.inputs, ElementsAre(0, 255, 1, 2));
  EXPECT_EQ(set.outputs, 3);
  EXPECT_THAT(set.values, ElementsAre(.5F, 1, 2, 3, 4, 5));
  EXPECT_EQ(set.task, "pus\xc3\xa9");
  EXPECT_FALSE(set.in_classes());
  const auto named = parse_set(
      set_tensors({1, 2}, {1, 0}, {{"labels", R"(["cat", "dog"])"}, {"metric", "accuracy"}}),
      "b.safetensors");
  EXPECT_THAT(named.labels, ElementsAre("cat", "dog"));
  EXPECT_EQ(named.metric, "accuracy");
}

TEST(VectorSet, LinesAreReadBackToTheBit) {
  VectorSet set =
      parse_set(set_tensors({0.1F, 1e-38F, -3.25F, 16777217.0F}, {1, 0}), "a.safetensors");
  VectorSet again = parse_vector_rows(to_jsonl(set), "probe");
  EXPECT_EQ(again.inputs, set.inputs);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(again.labels[static_cast<size_t>(again.classes[i])],
              set.labels[static_cast<size_t>(set.classes[i])]);
  // Observations have no targets, and are lists or objects.
  EXPECT_FALSE(parse_vector_rows("[1, 2]\n{\"inputs\": [3, 4]}\n", "in").has_targets());
}

TEST(VectorSet, RefusedWithItsRow) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refused_set(set_tensors({1, 2, nan, 4}, {0, 1}), "a.safetensors"),
              HasSubstr("row 2 of its inputs is not finite"));
  EXPECT_THAT(
      refused_set(set_tensors({1, 2}, {0, 2}, {{"labels", R"(["a", "b"])"}}), "a.safetensors"),
      HasSubstr("row 2: class 2 is outside its 2 labels"));
  EXPECT_THAT(refused_set(set_tensors({1, 2}, {0, -1}), "a.safetensors"),
              HasSubstr("a class is -1"));
  EXPECT_THAT(
      refused_set(set_tensors({1, 2}, {0, 1}, {{"labels", R"(["a", "a"])"}}), "a.safetensors"),
      HasSubstr("not a name each"));
  const auto both = refused_set(set_tensors({1, 2, 0, 3, 1, 2}, {0, 1, 1}), "a.safetensors",
                                ErrorCode::kInvalidArgument);
  EXPECT_THAT(both, HasSubstr("rows 1 and 3 have the same inputs, but the labels \"0\" and \"1\""));
  // -0 and 0 are the same input.
  EXPECT_THAT(
      refused_set(set_tensors({0, -0.0F}, {0, 1}), "a.safetensors", ErrorCode::kInvalidArgument),
      HasSubstr("the same inputs"));
  EXPECT_THAT(refused_set("", "a.jsonl", ErrorCode::kInvalidArgument), HasSubstr("no row"));
  EXPECT_THAT(refused_set("x", "a.png", ErrorCode::kInvalidArgument),
              HasSubstr("not a .safetensors"));
  EXPECT_THAT(refused_set("[1, 2]\n", "a.jsonl"), HasSubstr("no targets"));
  EXPECT_THAT(
      refused_set("{\"inputs\": [1], \"label\": 1}\n{\"inputs\": [1, 2], \"label\": 1}", "a.jsonl"),
      HasSubstr("a.jsonl:2: 2 inputs, and 1 in the rows before"));
  EXPECT_THAT(refused_set("{\"inputs\": [1], \"labels\": 1}", "a.jsonl"),
              HasSubstr("has no \"labels\""));
  EXPECT_THAT(refused_set("a,b\n1,2\n", "a.csv"), HasSubstr("no column is called label or target"));
  EXPECT_THAT(refused_set("a,label\n1,2\n1,2,3\n", "a.csv"), HasSubstr("a.csv:3: 3 cells, and 2"));
  EXPECT_THAT(refused_set("a,label\nred,2\n", "a.csv"), HasSubstr("\"red\" is no number"));
  EXPECT_THAT(refused_set("a,label\nnan,2\n", "a.csv"),
              HasSubstr("row 1 of its inputs is not finite"));
}

TEST(Npz, DamageIsRefused) {
  const std::string whole = npz({{"inputs.npy", kInputs}, {"targets.npy", kClasses}});
  (void)parse_set(whole, "a.npz");
  // Cut anywhere.
  for (size_t n = 0; n < whole.size(); ++n) (void)refused_set(whole.substr(0, n), "a.npz");
  // A changed byte of the data has another checksum.
  std::string changed = whole;
  changed[30 + 10 + kInputs.size() - 1] ^= 1;
  EXPECT_THAT(refused_set(changed, "a.npz"), HasSubstr("its checksum is another"));
  EXPECT_THAT(refused_set(npz({{"inputs.npy", kInputs}, {"targets.npy", kClasses}}, 9), "a.npz",
                          ErrorCode::kUnsupported),
              HasSubstr("packed in a way that is not known"));
  EXPECT_THAT(refused_set(npz({{"inputs.npy", kInputs}, {"targets.npy", kClasses}}, 8), "a.npz"),
              HasSubstr("it cannot be unpacked"));
  EXPECT_THAT(refused_set(npz({{"inputs.npy", kInputs}, {"inputs.npy", kInputs}}), "a.npz"),
              HasSubstr("is there twice"));
  EXPECT_THAT(
      refused_set(npz({{"inputs.npy", npy("<f4", "(4, 2)", raw_bytes<float>({1}))}}), "a.npz"),
      HasSubstr("its shape wants 32"));
  EXPECT_THAT(refused_set(npz({{"inputs.npy", npy("<c8", "(1,)", "12345678")}}), "a.npz",
                          ErrorCode::kUnsupported),
              HasSubstr("its type is \"<c8\""));
  EXPECT_THAT(
      refused_set(npz({{"inputs.npy", npy("<f4", "(999999999999, 999999999999, 9999)", "")}}),
                  "a.npz"),
      HasSubstr("too large"));
  EXPECT_THAT(refused_set(npz({{"inputs.npy", npy("<f4", "(0, 999999999999, 999999999999)", "")},
                               {"targets.npy", npy("<i4", "(0,)", "")}}),
                          "a.npz", ErrorCode::kInvalidArgument),
              HasSubstr("no row"));
}

}  // namespace
}  // namespace accrete
