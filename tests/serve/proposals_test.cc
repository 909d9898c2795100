// Proposals: kept in a file, and over a socket from what is said in a chat to a teach.
#include "serve/proposals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/file.h"
#include "live_server.h"
#include "workspace/workspace.h"

namespace accrete {
namespace {

using serve::Proposal;
using serve::Proposals;
using ::testing::HasSubstr;
using testing::json_of;
using testing::LiveServer;
using ::testing::Not;
using testing::status_of;
using testing::TemporaryFolder;

Proposal price(const std::string& answer, const std::string& overlay = "") {
  Proposal p;
  p.overlay = overlay;
  p.key = "desk";
  p.question = "What does it cost?";
  p.questions = {"What does the Hub cost?", "Price of the Hub?"};
  p.subject = "Hub";
  p.old_answer = "249 euros";
  p.answer = answer;
  p.said = "No, it is now " + answer + ".";
  return p;
}

TEST(Proposals, StayInTheFileUntilTheyAreDecided) {
  TemporaryFolder folder;
  const auto file = folder / "proposals.jsonl";
  std::string first;
  {
    Proposals kept(file);
    kept.add(price("199 euros"));
    kept.add(price("199 euros"));
    kept.add(price("198 euros"));
    kept.add(price("199 euros", "desk"));
    ASSERT_EQ(kept.list(std::nullopt).size(), 3U);
    ASSERT_EQ(kept.list("desk").size(), 1U);
    first = kept.list("").back().id;
    EXPECT_EQ(kept.find(first)->count, 2);
    EXPECT_TRUE(kept.move(first, "open", "teaching", "job-1"));
    EXPECT_FALSE(kept.move(first, "open", "dropped"));
    kept.ended("job-2", true, "");
    EXPECT_EQ(kept.find(first)->state, "teaching");
  }
  EXPECT_EQ(std::filesystem::status(file).permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
  {
    Proposals kept(file);  // the job ended with the server
    EXPECT_EQ(kept.find(first)->state, "open");
    EXPECT_EQ(kept.find(first)->questions, price("").questions);
    EXPECT_EQ(kept.find(first)->subject, "Hub");
    EXPECT_TRUE(kept.move(first, "open", "teaching", "job-1"));
    kept.ended("job-1", false, "a floor would break");
    EXPECT_EQ(kept.find(first)->state, "open");
    EXPECT_EQ(kept.find(first)->error, "a floor would break");
    EXPECT_TRUE(kept.move(first, "open", "teaching", "job-2"));
    kept.ended("job-2", true, "");
    kept.add(price("199 euros"));  // said again later: another one
    EXPECT_EQ(kept.list("").size(), 3U);
    kept.erase("desk");
  }
  EXPECT_EQ(Proposals(file).find(first)->state, "taught");
  EXPECT_THAT(read_file(file), Not(HasSubstr("\"overlay\":\"desk\"")));
  EXPECT_EQ(Proposals(file).list(std::nullopt).size(), 3U);
  std::ofstream(file, std::ios::app) << "{\"id\": \"p-1\"}\n";
  testing::expect_error(ErrorCode::kFormat, [&] { Proposals broken(file); });
}

class ServedProposals : public ::testing::Test {
 protected:
  static constexpr const char* kAsked = "What does the Zorb cost?";

  void SetUp() override {
    const auto model = folder_ / "tiny";
    testing::write_tiny_fact_model(model);
    api::OpenOptions open;
    open.threads = 1;
    Workspace all = Workspace::open(model, open);
    api::Item item;
    item.prompts = {kAsked};
    item.answers = {"249 euros"};
    item.verbatim = true;
    all.teach(dataset_of({item}));
    using serve::Scope;
    const auto file = folder_ / "keys.jsonl";
    asks_ = serve::add_key(file, "asks", {Scope::kAsk});
    teaches_ = serve::add_key(file, "teaches", {Scope::kTeach});
    other_ = serve::add_key(file, "other", {Scope::kTeach}, "desk");
    // A program that keeps what it is told to teach.
    const auto script = folder_ / "accrete";
    std::ofstream(script) << "#!/bin/sh\ncp \"$3\" " << (folder_ / "taught.jsonl").string()
                          << "\necho '{\"update\": \"abcd\"}'\n";
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    serve::ApiOptions options;
    options.keys = file.string();
    options.program = script.string();
    options.proposals = (folder_ / "proposals.jsonl").string();
    server_ = std::make_unique<LiveServer>(model, options);
  }
  std::string send(const std::string& key, const std::string& method, const std::string& target,
                   const std::string& body = "") {
    return server_->ask(method, target, body, "Authorization: Bearer " + key + "\r\n");
  }
  void say(const std::string& answer, const std::string& correction, const std::string& more = "") {
    const nlohmann::json messages = {{{"role", "user"}, {"content", kAsked}},
                                     {{"role", "assistant"}, {"content", answer}},
                                     {{"role", "user"}, {"content", correction}}};
    EXPECT_EQ(status_of(send(asks_, "POST", "/v1/chat/completions",
                             R"({"max_tokens": 4, "messages": )" + messages.dump() + more + "}")),
              200);
  }
  // After everything that was put aside before.
  nlohmann::json list() {
    (void)send(asks_, "GET", "/v1/models");
    return json_of(send(teaches_, "GET", "/v1/memory/proposals"))["data"];
  }

  TemporaryFolder folder_;
  std::string asks_, teaches_, other_;
  std::unique_ptr<LiveServer> server_;
};

TEST_F(ServedProposals, ACorrectionIsTaughtWhenSomebodyConfirmsIt) {
  say("249 euros", "Thank you!");
  say("249 euros", "No, it is now cheaper.");       // a number gives way to a number
  say("249 euros", "No, it is 249 euros.");         // the same
  say("Perhaps 300.", "No, it is now 199 euros.");  // no fact said that
  say("249 euros", "No, it is now 199 euros.", R"(, "accrete": {"facts": false})");
  EXPECT_EQ(list().size(), 0U);
  say("249 euros", "No, it is now 199 euros.");
  say("249 euros", "No, it's 199 euros now");
  const auto open = list();
  ASSERT_EQ(open.size(), 1U);
  EXPECT_EQ(open[0]["answer"], "199 euros");
  EXPECT_EQ(open[0]["old_answer"], "249 euros");
  EXPECT_EQ(open[0]["questions"], nlohmann::json({kAsked}));
  EXPECT_EQ(open[0]["count"], 2);
  EXPECT_EQ(open[0]["key"], "asks");
  const std::string at = "/v1/memory/proposals/" + open[0]["id"].get<std::string>();
  // Nothing is taught before, nor by others.
  EXPECT_FALSE(std::filesystem::exists(folder_ / "taught.jsonl"));
  EXPECT_EQ(status_of(send(asks_, "POST", at, R"({"action": "confirm"})")), 403);
  EXPECT_EQ(status_of(send(other_, "POST", at, R"({"action": "confirm"})")), 404);
  EXPECT_EQ(json_of(send(other_, "GET", "/v1/memory/proposals"))["data"].size(), 0U);
  EXPECT_EQ(status_of(send(teaches_, "POST", at, R"({"action": "apply"})")), 400);
  EXPECT_EQ(status_of(send(teaches_, "POST", "/v1/memory/proposals/p-0", "{}")), 404);
  const std::string taught = send(teaches_, "POST", at + "?wait=20", R"({"action": "confirm"})");
  EXPECT_EQ(status_of(taught), 200) << taught;
  EXPECT_EQ(json_of(taught)["update"], "abcd");
  const auto line = nlohmann::json::parse(read_file(folder_ / "taught.jsonl"));
  EXPECT_EQ(line, nlohmann::json({{"questions", {kAsked}},
                                  {"answer", "199 euros"},
                                  {"subject", line.value("subject", "")},
                                  {"verbatim", true}}));
  EXPECT_EQ(json_of(send(teaches_, "GET", at))["state"], "taught");
  EXPECT_EQ(status_of(send(teaches_, "POST", at, R"({"action": "drop"})")), 409);
}

TEST_F(ServedProposals, OneMayBeDroppedOrPutBetter) {
  say("249 euros", "That is wrong, it costs 199 euros.");
  const std::string at = "/v1/memory/proposals/" + list()[0]["id"].get<std::string>();
  EXPECT_EQ(json_of(send(teaches_, "POST", at, R"({"action": "drop"})"))["state"], "dropped");
  EXPECT_EQ(status_of(send(teaches_, "POST", at, R"({"action": "confirm"})")), 409);
  say("249 euros", "Actually, it costs 189 euros.");
  const std::string next = "/v1/memory/proposals/" + list()[0]["id"].get<std::string>();
  ASSERT_NE(next, at);
  EXPECT_EQ(status_of(send(teaches_, "POST", next + "?wait=20",
                           R"({"action": "confirm", "answer": "189 euros and 90 cents"})")),
            200);
  EXPECT_THAT(read_file(folder_ / "taught.jsonl"), HasSubstr("189 euros and 90 cents"));
}

}  // namespace
}  // namespace accrete
