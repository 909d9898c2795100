#include "api/find_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class FindReader : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("accrete_find_reader_" + std::to_string(::getpid()));
    fs::create_directories(folder_ / "share");
    setenv("ACCRETE_DATA", (folder_ / "share").c_str(), 1);
    unsetenv("ACCRETE_READER");
  }
  void TearDown() override {
    fs::remove_all(folder_);
    unsetenv("ACCRETE_DATA");
    unsetenv("ACCRETE_READER");
  }
  fs::path make(const fs::path& name) const {
    fs::create_directories(folder_ / name);
    std::ofstream(folder_ / name / "config.json") << "{}";
    return folder_ / name;
  }

  fs::path folder_;
};

TEST_F(FindReader, TakesTheFirstThatIsThere) {
  const fs::path installed = make("share/reader");
  EXPECT_EQ(find_reader(""), installed);
  const fs::path beside = make("models/all-MiniLM-L6-v2");
  EXPECT_EQ(find_reader(""), beside);
  setenv("ACCRETE_DATA", (folder_ / "share/").c_str(), 1);
  EXPECT_EQ(find_reader(""), beside);
  const fs::path named = make("named");
  setenv("ACCRETE_READER", named.c_str(), 1);
  EXPECT_EQ(find_reader(""), named);
  EXPECT_EQ(find_reader(installed.string()), installed);
}

TEST_F(FindReader, SaysWhereItLookedAndWhatToDo) {
  const auto refusal = [](const std::string& given) -> std::string {
    try {
      find_reader(given);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kNotFound);
      EXPECT_THAT(error.hint(), HasSubstr("make setup"));
      EXPECT_THAT(error.hint(), HasSubstr("--reader FOLDER"));
      return error.what();
    }
    return "found";
  };
  EXPECT_THAT(refusal(""), HasSubstr("all-MiniLM-L6-v2"));
  EXPECT_THAT(refusal(""), HasSubstr("share/reader"));
  make("share/reader");
  EXPECT_THAT(refusal("/nowhere"), HasSubstr("/nowhere"));  // what is named is not passed over
  setenv("ACCRETE_READER", "/nowhere", 1);
  EXPECT_THAT(refusal(""), HasSubstr("ACCRETE_READER"));
}

}  // namespace
}  // namespace accrete
