// Overlays over a socket: sixteen people taught another answer to the same question, asked at once,
// and every route tried with keys that may not reach them.
#include "workspace/overlays.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <iterator>
#include <thread>

#include "../base/testing.h"
#include "../model/tiny_chat_model.h"
#include "base/format.h"
#include "live_server.h"
#include "workspace/workspace.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using serve::Scope;
using testing::body_of;
using ::testing::HasSubstr;
using testing::json_of;
using testing::LiveServer;
using ::testing::Not;
using testing::status_of;
using testing::TemporaryFolder;

const std::string kAsked = "What is the password of the day?";
constexpr int kPeople = 16;

std::string name_of(int i) {
  return accrete::format("p{}", i);
}

Dataset password(const std::string& answer, bool verbatim) {
  api::Item item;
  item.prompts = {kAsked};
  item.answers = {answer};
  item.verbatim = verbatim;
  return dataset_of({item});
}

// A model with one shared answer and sixteen overlays. Every other answer is said by a value, so
// that its row goes through the network beside the others.
class ServedOverlays : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder();
    testing::write_tiny_fact_model(*folder_ / "tiny");
    const fs::path model = *folder_ / "tiny";
    api::OpenOptions open;
    open.threads = 1;
    Workspace all = Workspace::open(model, open);
    api::TeachOptions quick;
    quick.steps = 40;
    all.teach(password("Shared.", true), quick);
    shared_ = all.ask({kAsked, {}}, {.max_tokens = 12}).text;
    for (int i = 0; i < kPeople; ++i) {
      Overlays(model).create(name_of(i));
      Workspace own = all.overlay(name_of(i));
      const bool verbatim = i % 2 == 0;
      own.teach(password(verbatim ? accrete::format("Of person {}.", i)
                                  : std::string(1, static_cast<char>('a' + i)),
                         verbatim),
                quick);
      said_[i] = own.ask({kAsked, {}}, {.max_tokens = 12}).text;
    }
    Overlays(model).create("p1.b");  // a twin of p1, with nothing of its own
    for (int i = 0; i < kPeople; ++i)
      keys_[i] = serve::add_key(keys(), name_of(i), {Scope::kAsk, Scope::kTeach, Scope::kUndo},
                                name_of(i));
    plain_ = serve::add_key(keys(), "plain", {Scope::kAsk, Scope::kTeach, Scope::kUndo});
    twin_ = serve::add_key(keys(), "twin", {Scope::kAsk, Scope::kTeach}, "p1.b");
    admin_ = serve::add_key(keys(), "admin", {Scope::kAdmin});
    lost_ = serve::add_key(keys(), "lost", {Scope::kAsk, Scope::kTeach}, "nobody");
    serve::ApiOptions options;
    options.keys = keys().string();
    options.proposals = (*folder_ / "proposals.jsonl").string();
    server_ = new LiveServer(model, options, {}, /*resident=*/6);  // some come and go
  }
  static void TearDownTestSuite() {
    delete server_;
    delete folder_;
  }
  static fs::path keys() { return *folder_ / "keys.jsonl"; }
  static std::string send(const std::string& key, const std::string& method,
                          const std::string& target, const std::string& body = "") {
    return server_->ask(method, target, body, "Authorization: Bearer " + key + "\r\n");
  }
  static std::string chat(const std::string& key, const std::string& model,
                          const std::string& more = "") {
    return send(key, "POST", "/v1/chat/completions",
                R"({"model": ")" + model + R"(", "max_tokens": 12, "messages": [{"role": "user",
                "content": ")" +
                    kAsked + R"("}])" + more + "}");
  }
  static std::string said(const std::string& response) {
    const auto json = json_of(response);
    return json.is_object() && json.contains("choices")
               ? json["choices"][0]["message"]["content"].get<std::string>()
               : "no answer: " + response;
  }

  static TemporaryFolder* folder_;
  static LiveServer* server_;
  static std::string shared_, said_[kPeople], keys_[kPeople], plain_, twin_, admin_, lost_;
};
TemporaryFolder* ServedOverlays::folder_ = nullptr;
LiveServer* ServedOverlays::server_ = nullptr;
std::string ServedOverlays::shared_, ServedOverlays::said_[kPeople], ServedOverlays::keys_[kPeople],
    ServedOverlays::plain_, ServedOverlays::twin_, ServedOverlays::admin_, ServedOverlays::lost_;

TEST_F(ServedOverlays, NobodyHearsAForeignAnswer) {
  for (int i = 0; i < kPeople; i += 2) ASSERT_EQ(said_[i], accrete::format("Of person {}.", i));
  ASSERT_EQ(shared_, "Shared.");
  std::atomic<int> foreign = 0, failed = 0, asked = 0;
  std::string fingerprints[kPeople + 1];
  for (int i = 0; i < kPeople; ++i)
    fingerprints[i] = json_of(chat(keys_[i], "tiny"))["system_fingerprint"];
  fingerprints[kPeople] = json_of(chat(plain_, "tiny"))["system_fingerprint"];
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int k = 0; k < 40; ++k) {
        const int who = (k * 7 + t * 5) % (kPeople + 2);
        std::string response, wanted = shared_, model = "tiny";
        int print = kPeople;
        if (who < kPeople) {
          const bool named = (k + t) % 2 == 0, by_admin = (k + t) % 5 == 0;
          model = named || by_admin ? "tiny:" + name_of(who) : "tiny";
          response = chat(by_admin ? admin_ : keys_[who], model);
          wanted = said_[who];
          print = who;
        } else {
          response = chat(who == kPeople ? plain_ : admin_, "tiny");
        }
        ++asked;
        if (status_of(response) != 200) {
          ++failed;
          continue;
        }
        const auto json = json_of(response);
        foreign += said(response) != wanted || json["system_fingerprint"] != fingerprints[print];
        if (model != "tiny") foreign += json["model"] != model;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(asked, 320);
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(foreign, 0);
  // Without facts of its own an overlay is what is shared, its state too.
  const auto twin = json_of(chat(twin_, "tiny"));
  EXPECT_EQ(twin["choices"][0]["message"]["content"], shared_);
  EXPECT_EQ(twin["system_fingerprint"], fingerprints[kPeople]);
  EXPECT_EQ(twin["model"], "tiny:p1.b");
}

TEST_F(ServedOverlays, WhatAKeyMayNotReachIsNotThere) {
  for (const char* model : {"tiny:p2", "tiny:p1.b", "tiny:nobody", "tiny:", "tiny:../p1", "tiny:P1",
                            "tiny:p1 ", "other", "tiny:p1:p2"}) {
    const auto response = chat(keys_[1], model);
    EXPECT_EQ(status_of(response), 404) << model;
    EXPECT_EQ(json_of(response)["error"]["code"], "model_not_found") << model;
    EXPECT_EQ(status_of(chat(plain_, model)), 404) << model;
  }
  EXPECT_EQ(said(chat(keys_[1], "tiny:p1")), said_[1]);
  EXPECT_EQ(status_of(chat(plain_, "tiny:p1")), 404);
  EXPECT_EQ(json_of(chat(admin_, "tiny:nobody"))["error"]["code"], "model_not_found");
  EXPECT_EQ(json_of(chat(lost_, "tiny"))["error"]["code"], "model_not_found");
  // Nothing that the request says makes it somebody else.
  EXPECT_EQ(said(chat(keys_[2], "tiny", R"(, "user": "p3", "overlay": "p3", "accrete":
      {"overlay": "p3"})")),
            said_[2]);

  const auto ids = [&](const std::string& key) {
    std::vector<std::string> out;
    const auto list = json_of(send(key, "GET", "/v1/models"));
    for (const auto& model : list["data"]) out.push_back(model["id"]);
    return out;
  };
  EXPECT_EQ(ids(plain_), std::vector<std::string>{"tiny"});
  EXPECT_EQ(ids(keys_[3]), (std::vector<std::string>{"tiny", "tiny:p3"}));
  EXPECT_EQ(ids(lost_), std::vector<std::string>{"tiny"});
  EXPECT_EQ(ids(admin_).size(), 2U + kPeople);
  EXPECT_EQ(status_of(send(keys_[3], "GET", "/v1/models/tiny:p3")), 200);
  EXPECT_EQ(status_of(send(keys_[3], "GET", "/v1/models/tiny:p4")), 404);
}

TEST_F(ServedOverlays, EveryRouteOfTheMemoryIsHeldToTheKey) {
  const std::string set = R"({"items": [{"question": "Who?", "answer": "I."}], "overlay": "p4"})";
  struct Tried {
    const char *method, *target;
    std::string body;
  };
  const Tried routes[] = {{"POST", "/v1/memory/facts", set},
                          {"POST", "/v1/memory/teach?overlay=p4", "{\"question\": \"Who?\"}"},
                          {"POST", "/v1/memory/documents", set},
                          {"POST", "/v1/memory/plan", set},
                          {"POST", "/v1/memory/check", R"({"overlay": "p4"})"},
                          {"POST", "/v1/memory/forget", R"({"source": "x", "overlay": "p4"})"},
                          {"POST", "/v1/memory/merge?overlay=p4", "x"},
                          {"GET", "/v1/memory/proposals?overlay=p4", ""},
                          {"POST", "/v1/memory/undo", R"({"overlay": "p4"})"},
                          {"POST", "/v1/memory/redo?overlay=p4", ""},
                          {"POST", "/v1/memory/updates/abcd/undo", R"({"overlay": "p4"})"},
                          {"POST", "/v1/memory/updates/abcd/redo?overlay=p4", ""},
                          {"GET", "/v1/memory/updates?overlay=p4", ""},
                          {"GET", "/v1/memory/updates/abcd?overlay=p4", ""},
                          {"GET", "/v1/memory/jobs?overlay=p4", ""},
                          {"GET", "/v1/overlays/p4", ""},
                          {"GET", "/v1/overlays/p4/export", ""},
                          {"POST", "/v1/overlays", R"({"name": "mine"})"},
                          {"DELETE", "/v1/overlays/p4", ""}};
  for (const Tried& route : routes)
    for (const std::string& key : {keys_[5], plain_, twin_}) {
      const auto response = send(key, route.method, route.target, route.body);
      EXPECT_EQ(status_of(response), 403) << route.method << " " << route.target << response;
      EXPECT_THAT(response, Not(HasSubstr("Of person")));
    }
  // Its own, named or not; and of others not even the ids.
  const auto own = json_of(send(keys_[4], "GET", "/v1/memory/updates"));
  ASSERT_EQ(own["data"].size(), 1U);
  EXPECT_EQ(json_of(send(keys_[4], "GET", "/v1/memory/updates?overlay=p4")), own);
  const std::string id = own["data"][0]["id"];
  EXPECT_EQ(status_of(send(keys_[4], "GET", "/v1/memory/updates/" + id)), 200);
  EXPECT_EQ(status_of(send(keys_[5], "GET", "/v1/memory/updates/" + id)), 404);
  EXPECT_EQ(status_of(send(plain_, "GET", "/v1/memory/updates/" + id)), 404);
  EXPECT_EQ(status_of(send(keys_[5], "POST", "/v1/memory/updates/" + id + "/undo")), 404);
  EXPECT_EQ(status_of(send(admin_, "GET", "/v1/memory/updates/" + id + "?overlay=p4")), 200);
  // A teach of a key's own makes a job that no other sees.
  const auto job = json_of(send(keys_[6], "POST", "/v1/memory/facts",
                                R"({"items": [{"question": "Who?", "answer": "I."}]})"));
  ASSERT_EQ(job["overlay"], "p6") << job;
  const std::string at = "/v1/memory/jobs/" + job["job"].get<std::string>();
  for (const std::string& key : {keys_[5], plain_}) {
    EXPECT_EQ(status_of(send(key, "GET", at)), 404);
    EXPECT_EQ(status_of(send(key, "GET", at + "/events")), 404);
    EXPECT_EQ(status_of(send(key, "DELETE", at)), 404);
    EXPECT_THAT(send(key, "GET", "/v1/memory/jobs"), Not(HasSubstr("p6")));
  }
  EXPECT_EQ(status_of(send(keys_[6], "GET", at)), 200);
  EXPECT_EQ(status_of(send(admin_, "GET", at)), 200);
  EXPECT_EQ(
      status_of(send(lost_, "POST", "/v1/memory/facts", R"({"question": "Who?", "answer": "I."})")),
      404);
}

TEST_F(ServedOverlays, UndoAndWhatOthersDoIsHeardInThatOverlayAlone) {
  const auto undone = json_of(send(keys_[8], "POST", "/v1/memory/undo"));
  ASSERT_EQ(undone["undone"].size(), 1U) << undone;
  EXPECT_EQ(said(chat(keys_[8], "tiny")), shared_);
  EXPECT_EQ(said(chat(keys_[10], "tiny")), said_[10]);
  EXPECT_EQ(said(chat(plain_, "tiny")), shared_);
  EXPECT_EQ(json_of(send(keys_[8], "POST", "/v1/memory/redo"))["redone"], undone["undone"]);
  EXPECT_EQ(said(chat(keys_[8], "tiny")), said_[8]);
  // On the command line: within a second or so.
  History(*folder_ / "tiny", "p8").undo();
  for (int i = 0; i < 50 && said(chat(keys_[8], "tiny")) != shared_; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(said(chat(keys_[8], "tiny")), shared_);
  EXPECT_EQ(said(chat(keys_[12], "tiny", R"(, "accrete": {"explain": true})")), said_[12]);
  const auto why = json_of(chat(keys_[12], "tiny", R"(, "accrete": {"explain": true})"));
  EXPECT_EQ(why["accrete"]["updates"][0]["overlay"], "p12") << why;
  const auto all = json_of(chat(plain_, "tiny", R"(, "accrete": {"explain": true})"));
  EXPECT_FALSE(all["accrete"]["updates"][0].contains("overlay"));
}

TEST_F(ServedOverlays, AreMadeListedExportedAndErased) {
  EXPECT_EQ(status_of(send(admin_, "POST", "/v1/overlays", R"({"name": "new"})")), 201);
  EXPECT_EQ(status_of(send(admin_, "POST", "/v1/overlays", R"({"name": "new"})")), 409);
  for (const char* name : {"", "New", "../new", "new/x"})
    EXPECT_EQ(status_of(send(admin_, "POST", "/v1/overlays",
                             R"({"name": ")" + std::string(name) + "\"}")),
              400)
        << name;
  EXPECT_EQ(said(chat(admin_, "tiny:new")), shared_);
  const auto list = json_of(send(admin_, "GET", "/v1/overlays"))["data"];
  EXPECT_EQ(list.size(), 2U + kPeople);
  EXPECT_EQ(json_of(send(keys_[14], "GET", "/v1/overlays"))["data"].size(), 1U);
  EXPECT_EQ(json_of(send(plain_, "GET", "/v1/overlays"))["data"].size(), 0U);
  EXPECT_EQ(json_of(send(keys_[14], "GET", "/v1/overlays/p14"))["facts"], 1);

  const std::string bytes = body_of(send(keys_[14], "GET", "/v1/overlays/p14/export"));
  const fs::path file = *folder_ / "p14.safetensors";
  std::ofstream(file, std::ios::binary) << bytes;
  api::OpenOptions open;
  open.threads = 1;
  open.overlay = "new";
  EXPECT_EQ(Workspace::open(*folder_ / "tiny", open).merge(std::vector<fs::path>{file}).taken, 1);
  for (int i = 0; i < 50 && said(chat(admin_, "tiny:new")) != said_[14]; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(said(chat(admin_, "tiny:new")), said_[14]);

  EXPECT_EQ(status_of(send(admin_, "DELETE", "/v1/overlays/p14")), 200);
  EXPECT_EQ(status_of(send(admin_, "DELETE", "/v1/overlays/p14")), 404);
  EXPECT_EQ(status_of(chat(keys_[14], "tiny")), 404);
  EXPECT_EQ(status_of(chat(admin_, "tiny:p14")), 404);
  EXPECT_EQ(said(chat(admin_, "tiny:new")), said_[14]);
  fs::remove(file);
  EXPECT_EQ(status_of(send(admin_, "DELETE", "/v1/overlays/new")), 200);
  for (const auto& entry : fs::recursive_directory_iterator(folder_->path())) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    EXPECT_THAT(text, Not(HasSubstr("Of person 14."))) << entry.path();
  }
  EXPECT_THAT(send(admin_, "GET", "/metrics"), HasSubstr("accrete_overlays_resident"));
}

TEST(OverlayKeys, AreBoundToOneAndNeverAdmin) {
  TemporaryFolder folder;
  const auto file = folder / "keys.jsonl";
  serve::add_key(file, "desk", {Scope::kAsk}, "desk");
  EXPECT_EQ(serve::read_keys(file).front().overlay, "desk");
  testing::expect_error(ErrorCode::kInvalidArgument,
                        [&] { serve::add_key(file, "x", {Scope::kAdmin}, "desk"); });
  testing::expect_error(ErrorCode::kInvalidArgument,
                        [&] { serve::add_key(file, "x", {Scope::kAsk}, "../desk"); });
  for (const char* overlay : {"\"../desk\"", "\"\"", "3", "\"Desk\""}) {
    std::ofstream(file) << R"({"name": "x", "sha256": ")" << std::string(64, 'a')
                        << R"(", "scopes": ["ask"], "overlay": )" << overlay << "}\n";
    testing::expect_error(ErrorCode::kFormat, [&] { serve::read_keys(file); });
  }
}

// What a passage had to reach is said as for a fact, whether it answered or not.
TEST(ServedDocuments, ExplainSaysWhatWasNeeded) {
  TemporaryFolder folder;
  testing::write_tiny_fact_model(folder / "tiny");
  {
    api::OpenOptions open;
    open.threads = 1;
    api::Item page;
    page.text = "The Zorb weighs seven kilograms. It stands beside the door of the hall.";
    page.title = "Zorb";
    page.url = "zorb.md";
    Workspace::open(folder / "tiny", open).teach(dataset_of({page}));
  }
  LiveServer server(folder / "tiny");
  const auto told = [&](int caution) {
    return json_of(server.ask(
        "POST", "/v1/chat/completions",
        accrete::format(R"({{"max_tokens": 1, "messages": [{{"role": "user", "content": )"
                        R"("How much does the Zorb weigh?"}}], )"
                        R"("accrete": {{"explain": true, "caution": {}}}}})",
                        caution)))["accrete"];
  };
  const auto taken = told(-100), left = told(100);
  EXPECT_EQ(taken["decision"], "documents") << taken;
  EXPECT_EQ(taken["needed"], 0.5) << taken;
  EXPECT_GE(taken["updates"][0]["score"], taken["needed"]);
  EXPECT_EQ(left["decision"], "model") << left;
  EXPECT_EQ(left["needed"], 0.5) << left;
  EXPECT_LT(left["nearest_passage"]["score"], left["needed"]);
}

}  // namespace
}  // namespace accrete
