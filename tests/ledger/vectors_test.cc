// Updates of vectors as files: what is written is read back, and what does not fit is refused.
#include "ledger/vectors.h"

#include <gmock/gmock.h>

#include "../base/testing.h"
#include "ledger/update_file.h"

namespace accrete {
namespace {

using testing::expect_error;
using ::testing::HasSubstr;

UpdateVectors two_rows() {
  UpdateVectors v;
  v.columns = 3;
  v.outputs = {"cat", "dog"};
  v.rows = 2;
  v.classes = {0, 1};
  v.inputs = {-5, 9};
  v.per_row = 2;
  v.slots = {0, 2, 1, -1};
  v.weights = {5, 6, 7, 0};
  return v;
}

UpdateVectors two_sums() {
  UpdateVectors v;
  v.columns = 2;
  v.outputs = {"0"};
  v.rows = 4;
  v.gram = {4, -1, 9};
  v.cross = {65536, 0};
  return v;
}

TEST(UpdateVectors, AreReadBack) {
  const testing::TemporaryFolder folder;
  for (const UpdateVectors& vectors : {two_rows(), two_sums()}) {
    Update update;
    update.vectors = vectors;
    const std::string id = write_update(folder.path(), update);
    const Update again = read_update(folder / update_file_name(id), id);
    EXPECT_EQ(again.vectors, vectors);
    EXPECT_EQ(rows_of(again), vectors.rows);
    EXPECT_EQ(write_update(folder.path(), again), id);
  }
}

TEST(UpdateVectors, WhatDoesNotFitIsRefused) {
  const testing::TemporaryFolder folder;
  const auto refused = [&folder](UpdateVectors vectors, auto&& change) {
    change(vectors);
    Update update;
    update.vectors = std::move(vectors);
    return expect_error(ErrorCode::kInvalidArgument,
                        [&] { (void)write_update(folder.path(), update); });
  };
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.slots[1] = 3; }), HasSubstr("accesses of row 0"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.slots[1] = 0; }), HasSubstr("accesses of row 0"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.weights[3] = 1; }),
              HasSubstr("accesses of row 1"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.weights[0] = 0; }),
              HasSubstr("accesses of row 0"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.classes[1] = 2; }), HasSubstr("class 2"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.inputs.pop_back(); }), HasSubstr("an input"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.outputs[1] = "cat"; }), HasSubstr("a name each"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.values = {1}; }), HasSubstr("a target for each"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.columns = kMostColumns + 1; }),
              HasSubstr("columns"));
  EXPECT_THAT(refused(two_rows(), [](auto& v) { v.rows = 0; }), HasSubstr("0 rows"));
  EXPECT_THAT(refused(two_sums(), [](auto& v) { v.gram[0] = .5; }), HasSubstr("whole numbers"));
  EXPECT_THAT(refused(two_sums(), [](auto& v) { v.cross.push_back(1); }),
              HasSubstr("another size"));
  EXPECT_THAT(refused(two_sums(), [](auto& v) { v.slots = {1}; }), HasSubstr("accesses and sums"));
}

}  // namespace
}  // namespace accrete
