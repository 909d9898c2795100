#include "ledger/update_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/file.h"
#include "base/sha256.h"
#include "ledger_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::make_update;
using testing::names_under;
using testing::same;
using testing::TemporaryFolder;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(UpdateFile, RoundTrip) {
  const TemporaryFolder folder(TemporaryFolder::Place::kMemory);
  for (uint64_t number = 0; number < 30; ++number) {
    Rng rng(number);
    Update update = make_update(number, 1 + static_cast<int64_t>(rng.below(20)),
                                1 + static_cast<int64_t>(rng.below(9)));
    update.layers[1].width = 1;  // widths may differ
    update.layers[1].delta.resize(update.layers[1].indices.size());
    update.layers[0].delta[0] = -0.0F;
    update.metadata["unicode"] = "Zürich ☃ \"quoted\" \\ \n";
    const std::string id = write_update(folder.path(), update);
    EXPECT_TRUE(is_update_id(id));
    const fs::path file = folder / update_file_name(id);
    EXPECT_EQ(id, sha256_hex(read_file(file)).substr(0, 16));
    const Update read = read_update(file, id);
    EXPECT_TRUE(same(read, update));
    EXPECT_TRUE(std::signbit(read.layers[0].delta[0]));
    EXPECT_TRUE(same(read_update(file), update));
  }
  EXPECT_EQ(names_under(folder.path()).size(), 30U);
}

TEST(UpdateFile, SameContentSameIdSameBytes) {
  const TemporaryFolder one;
  const TemporaryFolder two;
  const std::string id = write_update(one.path(), make_update(1));
  const std::string bytes = read_file(one / update_file_name(id));
  EXPECT_EQ(write_update(one.path(), make_update(1)), id);
  EXPECT_EQ(read_file(one / update_file_name(id)), bytes);
  EXPECT_EQ(write_update(two.path(), make_update(1)), id);
  EXPECT_EQ(read_file(two / update_file_name(id)), bytes);
  // What was read gives the same file again.
  EXPECT_EQ(write_update(two.path(), read_update(one / update_file_name(id))), id);
  EXPECT_EQ(names_under(one.path()).size(), 1U);
}

TEST(UpdateFile, AnyChangeChangesTheId) {
  const TemporaryFolder folder;
  std::set<std::string> ids = {write_update(folder.path(), make_update(1))};
  const auto differs = [&](auto&& change) {
    Update update = make_update(1);
    change(update);
    EXPECT_TRUE(ids.insert(write_update(folder.path(), update)).second);
  };
  differs([](Update& u) { u.layers[0].delta[3] = std::nextafter(u.layers[0].delta[3], 9.0F); });
  differs([](Update& u) { u.layers[1].indices.back() += 1; });
  differs([](Update& u) { u.layers[1].block += 1; });
  differs([](Update& u) { u.layers.pop_back(); });
  differs([](Update& u) { u.metadata["seed"] = "2"; });
  differs([](Update& u) { u.metadata.clear(); });
  differs([](Update& u) { u.anchors.queries[0] = 9; });
  differs([](Update& u) { u.anchors.width = 1; });
  differs([](Update& u) { u.anchors.text = true; });
  differs([](Update& u) { u.anchors = {}; });
  differs([](Update& u) { u.taught = {}; });
  differs([](Update& u) { u.taught.items[1].excerpt += "."; });
  differs([](Update& u) { u.taught.weights[0] ^= 1; });
}

TEST(UpdateFile, FormatIsPinned) {
  // Ids are forever: whoever changes how an update is written sees it here.
  const TemporaryFolder folder;
  Update update;
  update.layers = {{3, 2, {1, 5}, {0.5F, -1, 2, 0}}, {7, 1, {0}, {4}}};
  update.metadata = {{"parent", ""}, {"seed", "1"}};
  const std::string id = write_update(folder.path(), update);
  const std::string bytes = read_file(folder / update_file_name(id));
  const SafetensorsFile file = SafetensorsFile::open(folder / update_file_name(id));
  std::vector<std::string> names;
  for (const TensorView& tensor : file.tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"3.indices", "7.indices", "3.delta", "7.delta"}));
  EXPECT_EQ(file.metadata().at("format"), "accrete-update/1");
  EXPECT_EQ(id, "64dbeba134e65de6");
}

TEST(UpdateFile, RefusesToWriteNonsense) {
  const TemporaryFolder folder;
  const auto refused = [&](auto&& change) {
    Update update = make_update(1);
    change(update);
    expect_error(ErrorCode::kInvalidArgument, [&] { write_update(folder.path(), update); });
  };
  refused([](Update& u) { u.layers.clear(); });
  refused([](Update& u) { u.layers[0].block = -1; });
  refused([](Update& u) { u.layers[1].block = std::numeric_limits<int>::max(); });
  refused([](Update& u) { std::swap(u.layers[0], u.layers[1]); });
  refused([](Update& u) { u.layers[1].block = u.layers[0].block; });
  refused([](Update& u) { u.layers[0].indices.clear(); });
  refused([](Update& u) { u.layers[0].indices.clear(), u.layers[0].delta.clear(); });
  refused([](Update& u) { u.layers[0].indices[0] = -1; });
  refused([](Update& u) { u.layers[0].indices[1] = u.layers[0].indices[0]; });
  refused([](Update& u) { std::swap(u.layers[0].indices[0], u.layers[0].indices[2]); });
  refused([](Update& u) { u.layers[0].delta.pop_back(); });
  refused([](Update& u) { u.layers[0].delta.resize(15); });
  refused([](Update& u) { u.layers[0].width = 0; });
  refused([](Update& u) { u.layers[0].width = -4; });
  refused([](Update& u) { u.layers[0].width = std::numeric_limits<int64_t>::max(); });
  refused([](Update& u) { u.layers[1].delta.back() = kNan; });
  refused([](Update& u) { u.layers[1].delta.back() = -kInfinity; });
  refused([](Update& u) { u.anchors.width = 3; });
  refused([](Update& u) { u.anchors.width = 0; });
  refused([](Update& u) { u.anchors.queries[1] = kInfinity; });
  refused([](Update& u) { u.taught.slots.pop_back(); });
  refused([](Update& u) { u.taught.slots[0] = -2; });
  refused([](Update& u) { u.taught.weights[0] = 0x7C00; });
  refused([](Update& u) { u.taught.owner[0] = 2; });
  refused([](Update& u) { u.taught.owner.pop_back(); });
  refused([](Update& u) { u.taught.items[0].answers.clear(); });
  refused([](Update& u) { u.taught.items[0].subject = "\xff"; });
  refused([](Update& u) { u.metadata["format"] = "mine"; });
  refused([](Update& u) { u.metadata["bad"] = "\xff"; });
  refused([](Update& u) { u.metadata["\xff"] = "bad"; });
  EXPECT_TRUE(names_under(folder.path()).empty());
  expect_error(ErrorCode::kNotFound, [&] { write_update(folder / "no", make_update(1)); });
}

// Files made by another hand, with exactly one thing wrong.
class DoctoredUpdate : public ::testing::Test {
 protected:
  DoctoredUpdate() {
    tensors_ = {view("4.indices", DType::kI64, {2}, indices_),
                view("4.delta", DType::kF32, {2, 3}, delta_)};
  }

  template <typename T>
  static TensorView view(std::string name, DType dtype, std::vector<int64_t> shape,
                         const std::vector<T>& values) {
    return {std::move(name), dtype, std::move(shape), std::as_bytes(std::span(values))};
  }

  fs::path write() {
    write_safetensors(folder_ / "u.safetensors", tensors_, metadata_);
    return folder_ / "u.safetensors";
  }

  void refused(ErrorCode code = ErrorCode::kFormat) {
    const fs::path path = write();
    const std::string message = expect_error(code, [&] { read_update(path); });
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
  }

  TemporaryFolder folder_;
  std::vector<int64_t> indices_ = {3, 8};
  std::vector<float> delta_ = {1, 2, 3, 4, 5, 6};
  std::vector<TensorView> tensors_;
  Metadata metadata_ = {{"format", "accrete-update/1"}};
};

TEST_F(DoctoredUpdate, TheUndoctoredOneIsFine) {
  const Update update = read_update(write());
  ASSERT_EQ(update.layers.size(), 1U);
  EXPECT_EQ(update.layers[0].block, 4);
  EXPECT_EQ(update.layers[0].width, 3);
  EXPECT_EQ(update.layers[0].delta, delta_);
  EXPECT_TRUE(update.metadata.empty());
}

TEST_F(DoctoredUpdate, AnyOrderOfTensorsIsRead) {
  tensors_.insert(tensors_.begin(), view("30.delta", DType::kF32, {2, 3}, delta_));
  tensors_.push_back(view("30.indices", DType::kI64, {2}, indices_));
  const Update update = read_update(write());
  ASSERT_EQ(update.layers.size(), 2U);
  EXPECT_EQ(update.layers[0].block, 4);
  EXPECT_EQ(update.layers[1].block, 30);
}

TEST_F(DoctoredUpdate, Names) {
  for (const char* name : {"indices", ".indices", "04.indices", "+4.indices", "-4.indices",
                           "4.0.indices", " 4.indices", "4.indices ", "4.Indices", "4.extra",
                           "99999999999.indices", "9999999.indices", "5.indices", ""}) {
    tensors_[0].name = name;
    refused();
  }
  tensors_[0].name = "4.indices";
  tensors_.push_back(view("5.delta", DType::kF32, {2, 3}, delta_));
  refused();
  tensors_.clear();
  refused();
}

TEST_F(DoctoredUpdate, TypesAndShapes) {
  const TensorView good_indices = tensors_[0];
  const TensorView good_delta = tensors_[1];
  const std::vector<int32_t> narrow = {3, 8};
  tensors_[0] = view("4.indices", DType::kI32, {2}, narrow);
  refused();
  tensors_[0] = view("4.indices", DType::kI64, {2, 1}, indices_);
  refused();
  tensors_[0] = view("4.indices", DType::kI64, {0}, std::vector<int64_t>());
  refused();
  const std::vector<int64_t> one = {3};
  tensors_[0] = view("4.indices", DType::kI64, {}, one);
  refused();
  tensors_[0] = good_indices;
  const std::vector<double> wide = {1, 2, 3, 4, 5, 6};
  tensors_[1] = view("4.delta", DType::kF64, {2, 3}, wide);
  refused();
  tensors_[1] = view("4.delta", DType::kF32, {3, 2}, delta_);
  refused();
  tensors_[1] = view("4.delta", DType::kF32, {6}, delta_);
  refused();
  tensors_[1] = view("4.delta", DType::kF32, {2, 3, 1}, delta_);
  refused();
  tensors_[1] = view("4.delta", DType::kF32, {2, 0}, std::vector<float>());
  refused();
  tensors_[1] = good_delta;
  read_update(write());
}

TEST_F(DoctoredUpdate, Values) {
  for (const auto& bad :
       {std::vector<int64_t>{8, 3}, {3, 3}, {-1, 3}, {std::numeric_limits<int64_t>::min(), 0}}) {
    indices_ = bad;
    tensors_[0].bytes = std::as_bytes(std::span(indices_));
    refused();
  }
  indices_ = {3, 8};
  tensors_[0].bytes = std::as_bytes(std::span(indices_));
  for (const float bad : {kNan, kInfinity, -kInfinity}) {
    delta_[5] = bad;
    refused();
  }
}

// Updates of an earlier accrete could have a scope: they are for models that are read no more.
TEST_F(DoctoredUpdate, Scope) {
  const std::vector<float> states = {5, 6, 7};
  tensors_.push_back(view("scope.states", DType::kF32, {1, 3}, states));
  expect_error(ErrorCode::kUnsupported, [&] { read_update(write()); });
}

TEST_F(DoctoredUpdate, Anchors) {
  std::vector<float> anchors = {1, 2, 3, 4};
  tensors_.push_back(view("gate.anchors", DType::kF32, {2, 2}, anchors));
  const Update update = read_update(write());
  EXPECT_EQ(update.anchors.width, 2);
  EXPECT_EQ(update.anchors.queries, anchors);
  anchors[3] = kNan;
  refused();
  tensors_.back() = view("gate.anchors", DType::kF32, {4}, anchors);
  refused();
  tensors_.back() = view("gate.anchors", DType::kF32, {0, 4}, std::vector<float>());
  refused();
  tensors_.back() = view("gate.anchors", DType::kI64, {1, 2}, indices_);
  refused();
}

TEST_F(DoctoredUpdate, Taught) {
  std::string items = "{\"line\": 3, \"prompts\": [\"Who?\"], \"answers\": [\"Ada\"]}\n";
  const auto item_view = [&] {
    return TensorView{"taught.items",
                      DType::kU8,
                      {static_cast<int64_t>(items.size())},
                      std::as_bytes(std::span(items))};
  };
  const std::vector<int32_t> slots = {1, -1, 5, 9};
  const std::vector<uint16_t> weights = {0x3800, 0, 0x3400, 0x3400};
  std::vector<int32_t> owner = {0, 0};
  tensors_.push_back(item_view());
  tensors_.push_back(view("taught.slots", DType::kI32, {2, 2}, slots));
  tensors_.push_back(view("taught.weights", DType::kF16, {2, 2}, weights));
  tensors_.push_back(view("taught.owner", DType::kI32, {2}, owner));
  const Update update = read_update(write());
  ASSERT_EQ(update.taught.items.size(), 1U);
  EXPECT_EQ(update.taught.items[0].line, 3);
  EXPECT_EQ(update.taught.items[0].answers, std::vector<std::string>{"Ada"});
  EXPECT_EQ(update.taught.slots, slots);
  const auto good = tensors_;
  owner[1] = 1;
  refused();
  owner[1] = 0;
  tensors_.pop_back();
  refused();
  tensors_ = good;
  tensors_[3] = view("taught.slots", DType::kI32, {4}, slots);
  refused();
  tensors_ = good;
  tensors_[4] = view("taught.weights", DType::kF16, {1, 4}, weights);
  refused();
  for (const char* bad : {"{}", "[]\n", "{\"line\": \"3\"}\n", "{\"line\": 1, \"else\": 2}\n",
                          "{\"line\": 1, \"prompts\": [\"a\"]}\n",
                          "{\"line\": 1, \"prompts\": [1], \"answers\": [\"b\"]}\n", "\xff\n"}) {
    tensors_ = good;
    items = bad;
    tensors_[2] = item_view();
    refused();
  }
}

TEST(TaughtItems, ExcerptsAreCutBetweenCharacters) {
  EXPECT_EQ(excerpt_of(" a\n\n b  c "), "a b c");
  EXPECT_EQ(excerpt_of("abcdef", 3), "abc");
  EXPECT_EQ(excerpt_of("ab\xC3\xBC", 3), "ab");
  EXPECT_EQ(excerpt_of("ab\xC3\xBC", 4), "ab\xC3\xBC");
}

TEST_F(DoctoredUpdate, Format) {
  metadata_.clear();
  refused();
  metadata_["format"] = "pt";
  refused();
  metadata_["format"] = "accrete-update/2";
  refused(ErrorCode::kUnsupported);
}

TEST(UpdateFile, TamperedAndTruncatedFilesAreRefused) {
  const TemporaryFolder folder;
  const std::string id = write_update(folder.path(), make_update(1));
  const fs::path file = folder / update_file_name(id);
  const std::string good = read_file(file);
  // With the id every changed bit is found; without it nothing may crash.
  Rng rng(9);
  const auto check = [&](const std::string& text) {
    const auto bytes = std::as_bytes(std::span(text));
    expect_error(ErrorCode::kFormat, [&] { parse_update(bytes, "bad", id); });
    try {
      const Update update = parse_update(bytes, "bad");
      EXPECT_FALSE(update.layers.empty());
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::kFormat || error.code() == ErrorCode::kUnsupported);
    }
  };
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = good;
    bytes[rng.below(bytes.size())] ^= static_cast<char>(1U << rng.below(8));
    check(bytes);
  }
  for (int i = 0; i < 50; ++i) {
    const std::string torn = good.substr(0, rng.below(good.size()));
    check(torn);
    write_file_atomically(folder / "bad", torn);
    expect_error(ErrorCode::kFormat, [&] { read_update(folder / "bad"); });
  }
  check(good + '\0');
  check("");
  expect_error(ErrorCode::kFormat, [&] { read_update(file, "0123456789abcdef"); });
  expect_error(ErrorCode::kNotFound, [&] { read_update(folder / "none.safetensors"); });
}

TEST(StagedUpdate, LeavesNothingUnlessPublished) {
  const TemporaryFolder folder;
  std::string id;
  {
    const StagedUpdate staged(folder.path(), make_update(1));
    id = staged.id();
    for (const std::string& name : names_under(folder.path()))
      EXPECT_TRUE(is_temporary_name(name)) << name;
  }
  EXPECT_TRUE(names_under(folder.path()).empty());
  StagedUpdate staged(folder.path(), make_update(1));
  staged.publish();
  EXPECT_EQ(staged.id(), id);
  EXPECT_EQ(names_under(folder.path()), std::set<std::string>{update_file_name(id)});
}

}  // namespace
}  // namespace accrete
