// Sums of several places in one: as if one place had been taught all of it.
#include "vector/vector_merge.h"

#include <gmock/gmock.h>

#include "../base/testing.h"
#include "vector_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::cloud;
using testing::expect_error;
using ::testing::HasSubstr;

class VectorMerge : public ::testing::Test {
 protected:
  VectorMerge() {
    testing::write_classifier(folder_ / "source");
    for (const char* name : {"all", "one", "two", "here"}) make(name, testing::small_memory());
    teach("all", red_), teach("all", blue_), teach("all", green_);
    teach("one", red_), teach("two", blue_), teach("two", green_);
  }
  void make(const std::string& name, const RetrofitVectorsOptions& options) const {
    retrofit_vectors(folder_ / "source", folder_ / name, options);
  }
  static VectorStateOf from_disk(const VectorModel& model) {
    return [&model](const Ledger& ledger, const std::vector<UpdateRecord>& active, bool sums) {
      return make_state(model.place(), ledger, active, sums, nullptr);
    };
  }
  void teach(const std::string& name, const VectorSet& set) const {
    const VectorModel model = VectorModel::open(folder_ / name);
    teach_vectors(model, set, from_disk(model), {});
  }
  MergeVectorsResult merge(const std::string& name, const std::vector<fs::path>& files) const {
    const VectorModel model = VectorModel::open(folder_ / name);
    return merge_vectors(model, files, from_disk(model), "test");
  }
  std::vector<fs::path> updates_of(const std::string& name) const {
    std::vector<fs::path> out;
    const Ledger ledger = Ledger::open(folder_ / name, Ledger::Mode::kRead);
    for (const auto& record : ledger.active())
      out.push_back(ledger.folder() / "updates" / update_file_name(record.id));
    return out;
  }
  // Of the update files alone; and of what a reader has.
  std::string digest(const std::string& name) const {
    const VectorModel model = VectorModel::open(folder_ / name);
    const Ledger ledger = Ledger::open(folder_ / name, Ledger::Mode::kRead);
    const std::string files = model.digest(sums_of_files(model.place(), ledger, ledger.active()));
    const auto read = make_state(model.place(), ledger, ledger.active(), true, nullptr);
    EXPECT_EQ(model.digest(*read.sums), files);
    return files;
  }

  const VectorSet red_ = cloud("red", 1, 0, 40, 1), blue_ = cloud("blue", -1, 0, 40, 2),
                  green_ = cloud("green", 0, 1.5F, 40, 3);
  testing::TemporaryFolder folder_{testing::TemporaryFolder::Place::kMemory};
};

TEST_F(VectorMerge, IsTheStateOfOnePlaceThatWasTaughtAll) {
  const auto one = updates_of("one"), two = updates_of("two");
  const auto result = merge("here", {one[0], two[0], two[1], one[0]});
  EXPECT_EQ(result.files, 3);
  EXPECT_EQ(result.updates.size(), 3);
  EXPECT_EQ(digest("here"), digest("all"));
  // In another order, some of it taught here.
  teach("two", red_);
  EXPECT_EQ(digest("two"), digest("all"));
  merge("one", {two[1], two[0]});
  EXPECT_EQ(digest("one"), digest("all"));
  // Each share is an update of its own.
  Ledger::open(folder_ / "here", Ledger::Mode::kWrite).set_active(one[0].stem().string(), false);
  Ledger::open(folder_ / "all", Ledger::Mode::kWrite).set_active(one[0].stem().string(), false);
  EXPECT_EQ(digest("here"), digest("all"));
}

TEST_F(VectorMerge, WhatIsThereIsNotCountedTwice) {
  const std::string before = digest("one");
  auto result = merge("one", updates_of("one"));
  EXPECT_TRUE(result.updates.empty());
  EXPECT_EQ(result.there, 1);
  EXPECT_EQ(digest("one"), before);
  // The same set, taught in two places.
  teach("two", red_);
  result = merge("one", updates_of("two"));
  EXPECT_EQ(result.there, 1);
  EXPECT_EQ(result.updates.size(), 2);
  EXPECT_EQ(digest("one"), digest("all"));
}

TEST_F(VectorMerge, WhatDoesNotFitIsRefusedAndNothingIsChanged) {
  const std::string empty = digest("here");
  EXPECT_THAT(expect_error(ErrorCode::kInvalidArgument, [&] { merge("here", {}); }),
              HasSubstr("nothing to merge"));
  auto options = testing::small_memory();
  options.seed = 7;
  make("other", options);
  teach("other", blue_);
  EXPECT_THAT(expect_error(ErrorCode::kConflict,
                           [&] { merge("here", {updates_of("one")[0], updates_of("other")[0]}); }),
              HasSubstr("was made for another memory"));
  testing::write_policy(folder_ / "source2");
  retrofit_vectors(folder_ / "source2", folder_ / "arm", testing::small_memory());
  EXPECT_THAT(expect_error(ErrorCode::kConflict, [&] { merge("arm", updates_of("one")); }),
              HasSubstr("was made for another network"));
  // One input that two places taught as two classes.
  VectorSet pink = red_;
  pink.labels = {"pink"};
  pink.digest = sha256_hex(std::string_view("pink"));
  make("poisoned", testing::small_memory());
  teach("poisoned", pink);
  EXPECT_THAT(
      expect_error(ErrorCode::kConflict,
                   [&] { merge("here", {updates_of("one")[0], updates_of("poisoned")[0]}); }),
      HasSubstr("the same input is"));
  EXPECT_EQ(digest("here"), empty);
}

TEST_F(VectorMerge, AFloorScreensWhatOthersSend) {
  merge("here", updates_of("one"));
  const VectorModel model = VectorModel::open(folder_ / "here");
  ProbeRecord record;
  record.name = "red";
  record.floor = .9;
  add_vector_probe(model, red_, record, false, from_disk(model));
  const std::string before = digest("here");
  make("rude", testing::small_memory());
  teach("rude", cloud("rude", 1, 0, 400, 8));
  EXPECT_THAT(expect_error(ErrorCode::kRefused, [&] { merge("here", updates_of("rude")); }),
              HasSubstr("the floor of probe red would break"));
  EXPECT_EQ(digest("here"), before);
  merge("here", updates_of("two"));
  EXPECT_EQ(digest("here"), digest("all"));
}

}  // namespace
}  // namespace accrete
