// Keys of reports and their order: programs read them.
#include "workspace/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace accrete {
namespace {

std::string keys(const nlohmann::ordered_json& json) {
  std::string out;
  for (const auto& [key, value] : json.items()) out += (out.empty() ? "" : " ") + key;
  return out;
}

TEST(Json, TeachAndPlan) {
  api::TeachReport r;
  r.update = "0123456789abcdef";
  r.learned = {0.25, 1};
  EXPECT_EQ(keys(to_json(r)),
            "update items learned kept conflicts companions forecast overlaps change dropped "
            "remarks check_share rows parameters teach_tokens seconds measuring_seconds "
            "peak_bytes");
  r.asked = {0, 0.5};
  r.kept["known"] = {1, 1, 1, std::nullopt};
  r.conflicts.push_back({"q", "new", 1, "id", 2, "old", "file"});
  r.overlaps.push_back({"id", "tag", "file", 3, 0.5, -1});
  r.forecast["known"].touched = 2;
  const auto json = to_json(r);
  EXPECT_EQ(json["learned"].dump(), R"({"before":0.25,"after":1.0})");
  EXPECT_EQ(json["asked"].dump(), R"({"before":0.0,"after":0.5})");
  EXPECT_EQ(json["kept"]["known"].dump(), R"({"before":1.0,"after":1.0,"kept":1.0,"floor":null})");
  EXPECT_EQ(keys(json["conflicts"][0]),
            "question answer line update update_line update_answer update_source");
  EXPECT_EQ(json["overlaps"][0].dump(),
            R"({"update":"id","tag":"tag","source":"file","shared":3,"share":0.5,"cosine":-1.0})");
  EXPECT_EQ(keys(json["forecast"]["known"]),
            "predicted low high now first_order second_order examples touched tried");

  api::PlanReport p;
  p.probes["known"].floor = 0.9;
  p.probes["known"].holds = false;
  const auto plan = to_json(p);
  EXPECT_EQ(keys(plan),
            "items forecast rows parameters overlaps conflicts companions remarks seconds");
  EXPECT_EQ(plan["forecast"]["known"]["floor"], 0.9);
  EXPECT_EQ(plan["forecast"]["known"]["holds"], false);
}

TEST(Json, Answers) {
  api::Answer a;
  a.text = "2.4 kg";
  a.tokens = 3;
  a.finish_reason = "stop";
  EXPECT_EQ(to_json(a).dump(), R"({"text":"2.4 kg","tokens":3,"finish_reason":"stop"})");
  a.has_facts = a.fact = true;
  auto& why = a.explanation.emplace().fact.emplace();
  why.accepted = true;
  auto& best = why.nearest.emplace();
  best.answer = "2.4 kg";
  why.needed = 0.5;
  auto json = to_json(a);
  EXPECT_EQ(keys(json), "text tokens finish_reason fact passage explain");
  EXPECT_EQ(keys(json["explain"]), "accepted fact read needed");
  EXPECT_EQ(
      keys(json["explain"]["fact"]),
      "update source line wording subject probability masked_cosine whole_cosine contrast answer");
  EXPECT_FALSE(json["passage"]);
  a.sources.emplace_back();
  EXPECT_TRUE(to_json(a)["passage"]);
  a.sources.clear();
  why.accepted = false;
  best.leave = true;
  json = to_json(a);
  EXPECT_EQ(keys(json["explain"]), "accepted nearest read needed");
  EXPECT_FALSE(json["explain"]["nearest"].contains("answer"));
  why.nearest.reset();
  EXPECT_EQ(to_json(a)["explain"].dump(), R"({"accepted":false})");

  api::Explanation rows;
  rows.rows.emplace().updates.push_back({"id", "", "file", 1.5, {{1, "q", "a", 0.5}}});
  EXPECT_EQ(to_json(rows).dump(),
            R"({"log_probability":0.0,"base_log_probability":0.0,"updates":[{"id":"id","tag":"",)"
            R"("source":"file","effect":1.5,"lines":[{"line":1,"question":"q","answer":"a",)"
            R"("similarity":0.5}]}]})");
}

TEST(Json, Evaluation) {
  api::EvalReport r;
  r.items = 2;
  EXPECT_EQ(to_json(r).dump(), R"({"items":2})");
  r.bits_per_byte = 1.5;
  r.shares = {1, 1, 1, std::nullopt, std::nullopt};
  EXPECT_EQ(keys(to_json(r)), "items bits_per_byte exact f1 begins");
  r.shares->by_facts = 0;
  EXPECT_EQ(keys(to_json(r)), "items bits_per_byte exact f1 begins by_facts");
  EXPECT_EQ(keys(to_json(api::EvalReport::Question())), "prompt answer output exact f1 begins");
}

TEST(Json, Ledger) {
  api::UpdateInfo u;
  u.id = "0123456789abcdef";
  u.measurements = R"({"learned":{"after":1.0,"before":0.1},"seconds":0.30000000000000004})";
  EXPECT_EQ(keys(to_json(u)),
            "id order time items active source digest parent seed method rows tag tool_version "
            "measurements");
  EXPECT_EQ(to_json(u)["measurements"].dump(), u.measurements);
  EXPECT_EQ(to_json(std::vector<api::UpdateInfo>()).dump(), R"({"updates":[]})");
  EXPECT_EQ(to_json(std::vector{u, u})["updates"].size(), 2U);
  api::UpdateDetails d{u,
                       {{1, {"q"}, {"a"}, "", "", false, false, "", "", 0},
                        {2, {}, {}, "s", "Once", false, false, "", "", 0},
                        {3, {"q"}, {"a"}, "", "", true, false, "", "", 0},
                        {4, {"q"}, {}, "", "", false, true, "", "", 0}}};
  EXPECT_EQ(to_json(d)["taught"].dump(),
            R"([{"line":1,"prompts":["q"],"answers":["a"]},{"line":2,"subject":"s",)"
            R"("excerpt":"Once"},{"line":3,"prompts":["q"],"answers":["a"],"verbatim":true},)"
            R"({"line":4,"prompts":["q"],"answers":[],"leave":true}])");
  EXPECT_EQ(to_json(api::ActiveReport{"undone", {"a", "b"}, 3}).dump(),
            R"({"undone":["a","b"],"active":3})");
  EXPECT_EQ(to_json(api::ActiveReport{"redone", {}, 0}).dump(), R"({"redone":[],"active":0})");
  EXPECT_EQ(to_json(api::TagReport{"id", "prices"}).dump(), R"({"id":"id","tag":"prices"})");
  EXPECT_EQ(to_json(api::Digest{"b", "s"}).dump(), R"({"base":"b","state":"s"})");
}

TEST(Json, Inspection) {
  api::DiffReport diff{"a", "b", api::DiffReport::Facts(), std::nullopt};
  diff.facts->changed.push_back({"q", "old", ""});
  EXPECT_EQ(to_json(diff).dump(),
            R"({"a":"a","b":"b","facts":[0,0],"shared":0,"changed":[{"question":"q","a":"old"}],)"
            R"("only_a":[],"only_b":[]})");
  diff.facts.reset();
  diff.rows.emplace().blocks.emplace_back();
  EXPECT_EQ(keys(to_json(diff)),
            "a b rows shared norm norm_difference cosine anchors anchors_near blocks");
  EXPECT_EQ(keys(to_json(diff)["blocks"][0]), "block rows shared norm norm_difference");

  api::AuditReport audit;
  audit.facts.emplace().updates.emplace_back();
  EXPECT_EQ(keys(to_json(audit)),
            "facts wordings documents passages left_to_the_model bytes updates subjects anomalies");
  EXPECT_EQ(keys(to_json(audit)["updates"][0]), "id tag source facts taught wordings bytes");
  audit.facts->documents.push_back({"a.md", 3, "u"});
  EXPECT_EQ(to_json(audit)["documents"].dump(), R"([{"source":"a.md","passages":3,"update":"u"}])");
  EXPECT_EQ(to_json(api::MadeReport{5, 2, 9, 4}).dump(),
            R"({"passages":5,"before":2,"asked":9,"kept":4})");
  audit.facts.reset();
  audit.rows.emplace().blocks.push_back({1, 3, 10, 0, 0});
  EXPECT_EQ(keys(to_json(audit)), "updates blocks overlaps contested anomalies");
  EXPECT_EQ(to_json(audit)["blocks"][0]["left"], 7);

  EXPECT_EQ(keys(to_json(api::CompactReport())),
            "updates folded digest identical rows bytes erased");
  EXPECT_EQ(keys(to_json(api::ExportReport())), "folder updates files");
  api::Info info;
  EXPECT_EQ(keys(to_json(info)), "base memory state updates chat");
  info.kind = "questions";
  EXPECT_EQ(
      keys(to_json(info)),
      "base memory reader tell block caution facts wordings documents passages state updates chat");
}

TEST(Json, ProbesAndModels) {
  const api::ProbeInfo probe{"known", 3, 0.5, 0.9};
  EXPECT_EQ(to_json(probe).dump(), R"({"name":"known","items":3,"base":0.5})");
  EXPECT_EQ(to_json(std::vector{probe}).dump(),
            R"({"probes":[{"name":"known","items":3,"base":0.5,"floor":0.9}]})");
  EXPECT_EQ(to_json(api::DiscoverReport{"known", 5, 3}).dump(),
            R"({"name":"known","asked":5,"kept":3})");
  EXPECT_EQ(to_json(api::CheckReport()).dump(), R"({"probes":{}})");
  api::CheckReport check;
  check.probes.push_back({"known", 1, 0.5, 0.5, std::nullopt, true});
  EXPECT_EQ(to_json(check).dump(),
            R"({"probes":{"known":{"base":1.0,"now":0.5,"kept":0.5,"floor":null,"holds":true}}})");
  EXPECT_EQ(keys(to_json(api::RetrofitReport())), "model block tell reader seconds");
  api::UpgradeReport upgrade;
  upgrade.updates.emplace_back();
  upgrade.left.emplace_back();
  EXPECT_EQ(keys(to_json(upgrade)), "model updates left probes");
  EXPECT_EQ(keys(to_json(upgrade)["updates"][0]), "old update source facts");
  EXPECT_EQ(keys(to_json(upgrade)["left"][0]), "update source line what why");
}

}  // namespace
}  // namespace accrete
