// Keys: made, found, revoked; files that are wrong in every way.
#include "serve/keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "../base/testing.h"
#include "base/file.h"

namespace accrete::serve {
namespace {

using accrete::testing::expect_error;
using accrete::testing::TemporaryFolder;
using ::testing::HasSubstr;

TEST(Keys, AreMadeFoundAndRevoked) {
  TemporaryFolder folder;
  const auto file = folder / "keys.jsonl";
  const std::string desk = add_key(file, "desk", {Scope::kAsk, Scope::kTeach});
  const std::string root = add_key(file, "root", {Scope::kAdmin});
  EXPECT_NE(desk, root);
  const std::string text = read_file(file);
  EXPECT_EQ(text.find(desk), std::string::npos);  // the file has hashes alone
  EXPECT_EQ(text.find(desk.substr(4, 16)), std::string::npos);
  struct stat status{};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0077, 0U);
  KeyRing ring(file);
  ASSERT_TRUE(ring.find(desk));
  EXPECT_EQ(ring.find(desk)->name, "desk");
  EXPECT_TRUE(ring.find(desk)->allows(Scope::kTeach));
  EXPECT_FALSE(ring.find(desk)->allows(Scope::kUndo));
  EXPECT_TRUE(ring.find(root)->allows(Scope::kUndo));
  EXPECT_FALSE(ring.find(""));
  EXPECT_FALSE(ring.find(desk + "0"));
  EXPECT_FALSE(ring.find(desk.substr(1)));
  revoke_key(file, "desk");  // seen without opening anew
  EXPECT_FALSE(ring.find(desk));
  EXPECT_TRUE(ring.find(root));
  std::filesystem::remove(file);
  EXPECT_FALSE(ring.find(root));
}

TEST(Keys, QuotasAreKeptAndChecked) {
  TemporaryFolder folder;
  const auto file = folder / "keys.jsonl";
  add_key(file, "desk", {Scope::kTeach}, "", {5, 100});
  add_key(file, "any", {Scope::kTeach});
  revoke_key(file, "any");  // the file is written anew
  EXPECT_EQ(read_keys(file).front().quotas.jobs_a_day, 5);
  EXPECT_EQ(read_keys(file).front().quotas.items_a_job, 100);
  for (const char* quotas :
       {"3", "{\"jobs_a_day\": 0}", "{\"jobs_a_day\": \"3\"}", "{\"jobs_an_hour\": 3}", "null"}) {
    std::ofstream(file) << R"({"name": "x", "sha256": ")" << std::string(64, 'a')
                        << R"(", "scopes": ["ask"], "quotas": )" << quotas << "}\n";
    expect_error(ErrorCode::kFormat, [&] { read_keys(file); });
  }
}

TEST(Keys, NamesAndScopesAreChecked) {
  TemporaryFolder folder;
  const auto file = folder / "keys.jsonl";
  add_key(file, "a", {Scope::kAsk});
  expect_error(ErrorCode::kConflict, [&] { add_key(file, "a", {Scope::kAsk}); });
  for (const char* name : {"", "a b", "a\"b", "a/b", "\xc3\xa4"})
    expect_error(ErrorCode::kInvalidArgument, [&] { add_key(file, name, {Scope::kAsk}); });
  expect_error(ErrorCode::kInvalidArgument,
               [&] { add_key(file, std::string(65, 'a'), {Scope::kAsk}); });
  expect_error(ErrorCode::kInvalidArgument, [&] { add_key(file, "b", {}); });
  expect_error(ErrorCode::kNotFound, [&] { revoke_key(file, "b"); });
  expect_error(ErrorCode::kInvalidArgument, [&] { parse_scope("root"); });
  expect_error(ErrorCode::kNotFound, [&] { KeyRing ring(folder / "none"); });
}

TEST(Keys, BadFilesAreNamedWithTheirLine) {
  TemporaryFolder folder;
  const auto file = folder / "keys.jsonl";
  const std::string hash(64, 'a');
  const std::string good =
      R"({"name": "a", "sha256": ")" + hash + R"(", "scopes": ["ask"]})" + "\n";
  for (const std::string& line : {
           std::string("{"),
           std::string("[]"),
           std::string(R"({"name": "b"})"),
           R"({"name": "b", "sha256": "abc", "scopes": ["ask"]})" + std::string(),
           R"({"name": "b", "sha256": ")" + std::string(64, 'b') + R"(", "scopes": []})",
           R"({"name": "b", "sha256": ")" + std::string(64, 'b') + R"(", "scopes": ["root"]})",
           R"({"name": "b", "sha256": ")" + std::string(64, 'B') + R"(", "scopes": ["ask"]})",
           R"({"name": "a", "sha256": ")" + std::string(64, 'b') + R"(", "scopes": ["ask"]})",
           R"({"name": "b", "sha256": ")" + hash + R"(", "scopes": ["ask"]})",
       }) {
    std::ofstream(file) << good << "\n" << line << "\n";
    EXPECT_THAT(expect_error(ErrorCode::kFormat, [&] { (void)read_keys(file); }),
                HasSubstr("keys.jsonl:3"))
        << line;
  }
  std::ofstream(file) << good;
  EXPECT_EQ(read_keys(file).size(), 1U);
}

}  // namespace
}  // namespace accrete::serve
