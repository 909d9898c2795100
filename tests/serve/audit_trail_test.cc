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
#include "../model/tiny_chat_model.h"
#include "base/file.h"
#include "live_server.h"
#include "workspace/workspace.h"

namespace accrete::serve {
namespace {

using accrete::testing::expect_error;
using accrete::testing::json_of;
using accrete::testing::LiveServer;
using accrete::testing::status_of;
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

// A model that was taught one fact.
void teach_one(const std::filesystem::path& model) {
  accrete::testing::write_tiny_fact_model(model);
  api::OpenOptions open;
  open.threads = 1;
  api::Item item;
  item.prompts = {"What is the password of the day?"};
  item.answers = {"Apple."};
  item.verbatim = true;
  Workspace::open(model, open).teach(dataset_of({item}));
}

TEST(AuditTrail, SaysWhoChangedWhat) {
  const TemporaryFolder folder;
  teach_one(folder / "tiny");
  const auto file = folder / "audit.jsonl", keys = folder / "keys.jsonl";
  const std::string desk = add_key(keys, "desk", {Scope::kTeach, Scope::kUndo});
  const std::string root = add_key(keys, "root", {Scope::kAdmin});
  ApiOptions options;
  options.keys = keys.string();
  options.audit = file.string();
  LiveServer server(folder / "tiny", options);
  const auto send = [&](const std::string& key, const char* method, const std::string& target,
                        const std::string& body = "") {
    return server.ask(method, target, body, "Authorization: Bearer " + key + "\r\n");
  };
  EXPECT_EQ(status_of(send(desk, "GET", "/v1/memory/updates")), 200);  // changes nothing: no line
  EXPECT_EQ(status_of(send(desk, "POST", "/v1/memory/undo")), 200);
  EXPECT_EQ(status_of(send(desk, "POST", "/v1/memory/undo")), 400);  // there is nothing any more
  EXPECT_EQ(status_of(send(root, "POST", "/v1/overlays", R"({"name": "anna"})")), 201);
  EXPECT_EQ(status_of(send(root, "DELETE", "/v1/overlays/anna")), 200);
  EXPECT_EQ(status_of(send(desk, "POST", "/v1/memory/facts?wait=20",
                           R"({"questions": ["When?"], "answer": "My secret."})")),
            500);  // the program that would teach is /bin/false
  std::vector<std::string> lines;
  for (const auto& e : entries(file))
    lines.push_back(e["key"].get<std::string>() + " " + e["action"].get<std::string>() + " " +
                    e["state"].get<std::string>() + " " + e.value("overlay", ""));
  EXPECT_EQ(lines,
            (std::vector<std::string>{
                "desk undo asked ", "desk undo done ", "desk undo asked ", "desk undo failed ",
                "root create asked anna", "root create done anna", "root erase asked anna",
                "root erase done anna", "desk teach asked ", "desk teach failed "}));
  const auto all = entries(file);
  EXPECT_EQ(all[1]["updates"].size(), 1u);
  EXPECT_EQ(all[8]["sha256"].get<std::string>().size(), 64u);
  EXPECT_EQ(all[8]["source"], all[9]["source"]);
  EXPECT_EQ(read_file(file).find("secret"), std::string::npos);
}

TEST(AuditTrail, WhatCannotBeWrittenDownDoesNotHappen) {
  const TemporaryFolder folder;
  teach_one(folder / "tiny");
  ApiOptions options;
  options.audit = "/dev/full";
  LiveServer server(folder / "tiny", options);
  EXPECT_EQ(status_of(server.ask("POST", "/v1/memory/undo")), 507);
  const auto updates = json_of(server.ask("GET", "/v1/memory/updates"));
  EXPECT_TRUE(updates["data"][0]["active"]) << updates;
}

}  // namespace
}  // namespace accrete::serve
