#include "base/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/format.h"
#include "base/progress.h"
#include "testing.h"

namespace accrete {
namespace {

TEST(Error, CarriesCodeMessageAndHint) {
  const Error error(ErrorCode::kConflict, "who", "wait");
  EXPECT_EQ(error.code(), ErrorCode::kConflict);
  EXPECT_STREQ(error.what(), "who");
  EXPECT_EQ(error.hint(), "wait");
  EXPECT_EQ(Error(ErrorCode::kIo, "m").hint(), "");
}

TEST(Error, CodeNamesAreTheJsonContract) {
  const std::pair<ErrorCode, const char*> expected[] = {
      {ErrorCode::kInvalidArgument, "invalid_argument"},
      {ErrorCode::kNotFound, "not_found"},
      {ErrorCode::kIo, "io"},
      {ErrorCode::kFormat, "format"},
      {ErrorCode::kUnsupported, "unsupported"},
      {ErrorCode::kConflict, "conflict"},
      {ErrorCode::kRefused, "refused"},
      {ErrorCode::kInterrupted, "interrupted"},
      {ErrorCode::kInternal, "internal"},
  };
  for (const auto& [code, name] : expected) EXPECT_EQ(error_code_name(code), name);
}

TEST(Reporter, TellsAndStops) {
  Reporter silent;
  silent.report("stage", 1, 2);
  EXPECT_NO_THROW(silent.check_cancelled());

  std::string seen;
  bool stop = false;
  const Reporter reporter{[&](const ProgressEvent& e) {
                            seen +=
                                accrete::format("{} {}/{} {};", e.stage, e.done, e.total, e.detail);
                          },
                          [&] { return stop; }};
  reporter.report("teach", 1, 2, "loss 0.5");
  reporter.report("teach", 2, 2);
  EXPECT_EQ(seen, "teach 1/2 loss 0.5;teach 2/2 ;");
  EXPECT_NO_THROW(reporter.check_cancelled());
  stop = true;
  testing::expect_error(ErrorCode::kInterrupted, [&] { reporter.check_cancelled(); });
}

}  // namespace
}  // namespace accrete
