// The audit trail: whole lines, cut texts, full files, a disk that is full.
#include "serve/audit_trail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "../base/testing.h"
#include "base/file.h"

namespace accrete::serve {
namespace {

using accrete::testing::expect_error;
using accrete::testing::TemporaryFolder;

std::vector<nlohmann::json> entries(const std::filesystem::path& file) {
  std::vector<nlohmann::json> out;
  std::string text = read_file(file);
  EXPECT_EQ(text.back(), '\n');
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    out.push_back(nlohmann::json::parse(text.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

TEST(AuditTrail, GoesOnWhereItStopped) {
  const TemporaryFolder folder;
  const auto file = folder / "audit.jsonl";
  for (const char* action : {"teach", "undo"})
    AuditTrail(file).add({{"key", "desk"}, {"action", action}, {"items", 3}});
  const auto all = entries(file);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["action"], "teach");
  EXPECT_EQ(all[1]["action"], "undo");
  EXPECT_EQ(all[1]["items"], 3);
  EXPECT_EQ(all[0]["time"].get<std::string>().size(), 20u);
  struct stat status{};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0077, 0U);
}

TEST(AuditTrail, CutsTextsBetweenCharacters) {
  const TemporaryFolder folder;
  const auto file = folder / "audit.jsonl";
  std::string source = "a";
  while (source.size() < 400) source += "é";
  AuditTrail(file).add({{"action", "forget"}, {"source", source + "\n{\"action\": \"none\"}"}});
  const auto all = entries(file);
  ASSERT_EQ(all.size(), 1u);  // a line break in it makes no second line
  const std::string kept = all[0]["source"];
  EXPECT_LE(kept.size(), 164u);
  EXPECT_EQ(kept.substr(0, 159), source.substr(0, 159));
}

TEST(AuditTrail, WritesWholeLinesFromManyThreadsAndKeepsFullFiles) {
  const TemporaryFolder folder;
  const auto file = folder / "audit.jsonl";
  {
    AuditTrail trail(file, {.bytes = 2000, .kept = 100});
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 50; ++i) trail.add({{"action", "undo"}, {"thread", t}, {"number", i}});
      });
    for (auto& thread : threads) thread.join();
  }
  std::vector<int> next(4, 0);
  std::vector<std::filesystem::path> files;
  for (int n = 100; n >= 1; --n) files.push_back(file.string() + "." + std::to_string(n));
  files.push_back(file);
  for (const auto& one : files) {
    if (!std::filesystem::exists(one)) continue;
    EXPECT_LE(std::filesystem::file_size(one), 2000u);
    for (const auto& entry : entries(one)) EXPECT_EQ(entry["number"], next[entry["thread"]]++);
  }
  EXPECT_EQ(next, std::vector<int>(4, 50));
}

TEST(AuditTrail, LetsTheOldestFileGo) {
  const TemporaryFolder folder;
  const auto file = folder / "audit.jsonl";
  AuditTrail trail(file, {.bytes = 1, .kept = 2});  // a line a file
  for (int i = 0; i < 6; ++i) trail.add({{"number", i}});
  EXPECT_EQ(entries(file).at(0)["number"], 5);
  EXPECT_EQ(entries(file.string() + ".1").at(0)["number"], 4);
  EXPECT_EQ(entries(file.string() + ".2").at(0)["number"], 3);
  EXPECT_FALSE(std::filesystem::exists(file.string() + ".3"));
}

TEST(AuditTrail, SaysWhenItCannotWrite) {
  const TemporaryFolder folder;
  expect_error(ErrorCode::kIo, [&] { AuditTrail trail(folder / "none" / "audit.jsonl"); });
  AuditTrail full("/dev/full");
  expect_error(ErrorCode::kIo, [&] { full.add({{"action", "undo"}}); });
}

}  // namespace
}  // namespace accrete::serve
