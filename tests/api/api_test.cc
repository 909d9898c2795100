// The public interface where no model is needed: errors and their codes. What needs one is
// model_test.cc, and tests/install as another project sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "accrete/accrete.h"

namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::MatchesRegex;

class Api : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("accrete_api_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // The error that `f` ends with.
  template <typename F>
  static accrete::Error error_of(F&& f) {
    try {
      f();
    } catch (const accrete::Error& e) {
      return e;
    }
    return {accrete::ErrorCode::kInternal, "it did not fail"};
  }

  fs::path folder_;
};

TEST_F(Api, Version) {
  EXPECT_THAT(std::string(accrete::version()), MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
}

TEST_F(Api, OpenWithoutFolder) {
  const auto e = error_of([&] { accrete::Model::open(folder_ / "absent"); });
  EXPECT_EQ(e.code(), accrete::ErrorCode::kNotFound) << e.what();
  EXPECT_THAT(e.what(), HasSubstr("absent"));
  EXPECT_THAT(e.hint(), HasSubstr("retrofit"));
}

TEST_F(Api, OpenUnknownDevice) {
  std::ofstream(folder_ / "config.json") << "{}";
  accrete::OpenOptions options;
  options.device = "nonsense";
  const auto e = error_of([&] { accrete::Model::open(folder_, options); });
  EXPECT_EQ(e.code(), accrete::ErrorCode::kInvalidArgument) << e.what();
}

TEST_F(Api, RetrofitWithoutReader) {
  accrete::RetrofitOptions options;
  options.reader = folder_ / "nowhere";
  const auto e =
      error_of([&] { accrete::retrofit(folder_ / "absent", folder_ / "model", options); });
  EXPECT_EQ(e.code(), accrete::ErrorCode::kNotFound) << e.what();
  EXPECT_THAT(e.what(), HasSubstr("nowhere"));
  EXPECT_THAT(e.hint(), HasSubstr("make setup"));
  EXPECT_FALSE(fs::exists(folder_ / "model"));
}

TEST_F(Api, RetrofitFindsTheReader) {
  ::setenv("ACCRETE_DATA", folder_.c_str(), 1);
  const auto e = error_of([&] { accrete::retrofit(folder_ / "absent", folder_ / "model"); });
  ::unsetenv("ACCRETE_DATA");
  EXPECT_EQ(e.code(), accrete::ErrorCode::kNotFound) << e.what();
  EXPECT_THAT(e.what(), HasSubstr((folder_ / "reader").string()));
}

static_assert(!std::is_copy_constructible_v<accrete::Model>);
static_assert(std::is_nothrow_move_constructible_v<accrete::Model>);

}  // namespace
