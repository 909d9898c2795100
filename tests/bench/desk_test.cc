// The desk benchmark without a model: what a right use is (data/desk/USE.md), questions put in
// other ways, what the sections teach and ask, scores and means.
#include "bench/desk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "../base/testing.h"
#include "base/file.h"
#include "bench/desk_data.h"
#include "bench/desk_measure.h"
#include "bench/desk_use.h"
#include "bench/desk_variants.h"
#include "text/wording.h"

namespace accrete {
namespace {

using testing::expect_error;
using Json = nlohmann::ordered_json;

std::filesystem::path data() {
  return std::filesystem::path(ACCRETE_SOURCE_DIR) / "data";
}

UseItem use(const char* json) {
  return parse_use(nlohmann::json::parse(json), "use", 1);
}

TEST(DeskUse, StringsAreFoundOnBorders) {
  const struct {
    const char *what, *in;
    bool found;
  } cases[] = {
      {"186", "186g", true},
      {"186", "1186 g", false},
      {"4", "14 euros", false},
      {"4", "4.50", false},
      {"7", "€7.00", true},
      {"7", "7,00 Euro", true},
      {"18", "18,000", false},
      {"1921", "in 1921.", true},
      {"2.3", "12.3", false},
      {"2.3", "2.35", false},
      {"5", "2.5", false},
      {"5", "a: 5", true},
      {"Graz", "Grazer", false},
      {"graz", "In GRAZ!", true},
      {"30", "30th of October", true},
      {"USB-C", "USB‑C port", true},
      {"0800 555 0142", "0800\u00a0555\n0142", true},
      {"19", "19°C", true},
      {"a|b", "only b", true},
      {"don't", "don’t", true},
      {"ist", "größ ist", true},
      {"gr", "größe", false},
      {"7", "7.000", false},
      {"12.9|12.90", "12.90 euros", true},
      {"", "anything", false},
  };
  for (const auto& c : cases) EXPECT_EQ(found_in(c.what, c.in), c.found) << c.what << " | " << c.in;
}

TEST(DeskUse, RightContent) {
  const UseItem two = use(R"({"kind": "two", "facts": ["a", "b"], "question": "?",
                              "must": ["11.4", "749|seven"], "must_not": ["12"]})");
  EXPECT_TRUE(use_right(two, "It weighs 11.4 kg and costs €749."));
  EXPECT_FALSE(use_right(two, "It weighs 11.4 kg."));
  EXPECT_FALSE(use_right(two, "It weighs 11.4 kg and costs 749, or 12."));
  const UseItem yes = use(R"({"kind": "yesno", "facts": ["a"], "question": "?", "must": [],
                              "answer": "yes", "form": "yes"})");
  EXPECT_TRUE(use_right(yes, "Yes, that is so. No doubt."));
  EXPECT_FALSE(use_right(yes, "No. Yes."));
  EXPECT_FALSE(use_right(yes, "Yesterday it was."));
  EXPECT_TRUE(use_right(yes, "I think yes"));
  EXPECT_FALSE(use_form(yes, "I think yes", {}));
  EXPECT_TRUE(use_form(yes, "  YES!", {}));
  EXPECT_FALSE(use_form(yes, "Yesterday", {}));
}

TEST(DeskUse, JsonIsSearchedInItsAnswerAlone) {
  const UseItem item = use(R"({"kind": "json", "facts": ["a"], "question": "?", "must": ["11.4"],
                               "form": "json"})");
  const char* fenced = "```json\n{\"answer\": \"11.4 kg\"}\n```";
  EXPECT_TRUE(use_right(item, fenced));
  EXPECT_TRUE(use_form(item, fenced, {}));
  EXPECT_TRUE(use_right(item, R"({"answer": 11.4})"));
  EXPECT_FALSE(use_right(item, R"({"answer": "no", "weight": "11.4"})"));
  EXPECT_TRUE(use_right(item, "11.4"));
  EXPECT_FALSE(use_form(item, "11.4", {}));
  EXPECT_FALSE(use_form(item, R"(["answer"])", {}));
  EXPECT_FALSE(use_form(item, R"({"weight": "11.4"})", {}));
}

TEST(DeskUse, Forms) {
  const std::vector<std::string> answers = {"Only on the second Monday."};
  UseItem item;
  item.form = "sentence";
  EXPECT_TRUE(use_form(item, "It is only on the second Monday.", answers));
  EXPECT_FALSE(use_form(item, " only on the second monday ", answers));
  EXPECT_FALSE(use_form(item, "It weighs it.", answers));
  item.form = "bullet";
  EXPECT_TRUE(use_form(item, "\n- 62 dB", answers));
  EXPECT_TRUE(use_form(item, "* 62 dB", answers));
  EXPECT_FALSE(use_form(item, "-62 dB", answers));
  item.form = "";
  EXPECT_TRUE(use_form(item, "", answers));
  item.form = "^[0-9]+ dB$";
  EXPECT_TRUE(use_form(item, "62 dB", answers));
  EXPECT_FALSE(use_form(item, "about 62 dB", answers));
}

TEST(DeskUse, Languages) {
  const std::map<std::string, std::vector<std::string>> texts = {
      {"german",
       {"Der Corvane 5 wiegt 186 g.", "Ida Morrenfeld starb in Triest.",
        "Skardelin Logistics wurde 1974 gegründet.", "Die Fähre braucht 55 Minuten.",
        "Er hatte sechs Geschwister."}},
      {"spanish",
       {"El Corvane 5 cuesta 129 euros.", "La garantía dura tres años.",
        "Trabajan 64 personas en Brannock & Quill.", "El faro tiene 197 escalones."}},
      {"english",
       {"The Corvane 5 weighs 186 g.", "Ida Morrenfeld died in Trieste.",
        "Le Corvane 5 pèse 186 g.", "It was founded in 1974."}}};
  for (const auto& [language, all] : texts)
    for (const std::string& text : all)
      for (const char* form : {"german", "spanish"}) {
        UseItem item;
        item.form = form;
        EXPECT_EQ(use_form(item, text, {}), form == language) << form << " | " << text;
      }
}

TEST(DeskUse, ListsAreThoseOfTheDescription) {
  const std::string text = read_file(data() / "desk" / "USE.md");
  for (const char* language : {"german", "spanish", "english"}) {
    const std::string expected =
        "- " + std::string(language) + ": " + std::string(language_words(language)) + "\n";
    EXPECT_NE(text.find(expected), std::string::npos) << language;
  }
}

TEST(DeskUse, WhatIsNoUseIsRefused) {
  for (const char* line :
       {R"({"kind": "two", "question": "?", "must": ["1"]})",
        R"({"kind": "two", "facts": [], "question": "?", "must": ["1"]})",
        R"({"kind": "two", "facts": ["a"], "question": "?", "must": []})",
        R"({"kind": "two", "facts": ["a"], "question": "?", "must": ["1"], "form": "("})",
        R"({"kind": "two", "facts": ["a"], "question": "?", "must": [], "answer": "maybe"})"})
    expect_error(ErrorCode::kFormat, [&] { use(line); });
}

// A smaller profile draws some, and teaches what those need.
TEST(DeskUse, SomeOfTheUsesAndTheirFacts) {
  const DeskData all(data(), "test");
  const DeskSet some = all.section("use", 3, 40);
  ASSERT_EQ(some.use.size(), 40U);
  std::set<std::string> needed, taught;
  for (const UseItem& item : some.use) needed.insert(item.facts.begin(), item.facts.end());
  for (const Item& item : some.taught) taught.insert(item.id);
  EXPECT_EQ(taught, needed);
  EXPECT_LT(taught.size(), all.section("use", 3).taught.size());
  const DeskSet others = all.section("use", 4, 40);
  EXPECT_FALSE(
      std::equal(some.use.begin(), some.use.end(), others.use.begin(), others.use.end(),
                 [](const UseItem& a, const UseItem& b) { return a.question == b.question; }));
}

// Who recites has the content of all kinds but the two that ask for yes or no.
TEST(DeskUse, RecitalOfTheTrackedSets) {
  for (const char* split : {"dev", "test"}) {
    const DeskSet set = DeskData(data(), split).section("use", 0);
    EXPECT_EQ(set.use.size(), 240U);
    std::map<std::string, const Item*> facts;
    for (const Item& item : set.taught) facts[item.id] = &item;
    std::map<std::string, size_t> right, formed;
    for (const UseItem& item : set.use) {
      std::string said;
      std::vector<std::string> answers;
      for (const std::string& id : item.facts) {
        ASSERT_TRUE(facts.contains(id)) << id;
        answers.push_back(facts.at(id)->answers.front());
        said += (said.empty() ? "" : " and ") + answers.back();
      }
      answers.push_back(said);
      const bool is_right = use_right(item, said);
      right[item.kind] += is_right;
      formed[item.kind] += is_right && use_form(item, said, answers);
    }
    for (const char* kind : {"sentence", "json", "bullet", "german", "spanish", "two", "open"}) {
      EXPECT_EQ(right[kind], 24U) << split << " " << kind;
      EXPECT_EQ(formed[kind], std::string_view(kind) == "two" ? 24U : 0U) << split << " " << kind;
    }
    // Two follow-ups want a yes or no.
    EXPECT_EQ(right["followup"], 22U) << split;
    EXPECT_EQ(formed["followup"], 16U) << split;
    EXPECT_EQ(right["yesno"] + right["compare"], 0U) << split;
  }
}

TEST(DeskVariants, CapitalsAndTypos) {
  EXPECT_EQ(in_capitals("How heavy is the Größe 5?"), "HOW HEAVY IS THE GRößE 5?");
  const std::string text = "How heavy is the Tessaro M20?";
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 50; ++i) {
    const std::string typo = with_typo(text, "Tessaro M20", Rng(i));
    EXPECT_EQ(typo, with_typo(text, "Tessaro M20", Rng(i)));
    EXPECT_EQ(typo.size(), text.size());
    EXPECT_FALSE(find_name(typo, "Tessaro M20").empty()) << typo;
    size_t first = 0;
    while (first < text.size() && typo[first] == text[first]) ++first;
    ASSERT_LT(first + 1, text.size()) << typo;
    EXPECT_EQ(typo[first], text[first + 1]);
    EXPECT_EQ(typo[first + 1], text[first]);
    EXPECT_EQ(typo.substr(first + 2), text.substr(first + 2));
    seen.insert(typo);
  }
  EXPECT_GT(seen.size(), 1U);
  EXPECT_EQ(with_typo("Is it 4 m?", "", Rng(0)), "Is it 4 m?");
}

TEST(DeskVariants, Conversations) {
  AskRequest request;
  request.messages = {{"user", "How heavy is it?"}};
  const AskRequest system = under_system(under_system(request, "A."), "B.");
  ASSERT_EQ(system.messages.size(), 2U);
  EXPECT_EQ(system.messages[0].role, "system");
  EXPECT_EQ(system.messages[0].content, "B.");
  const std::vector<Message> one = {{"user", "a"}, {"assistant", "b"}, {"user", "c"}};
  const std::vector<Message> two = {{"user", "d"}, {"assistant", "e"}};
  const AskRequest third = in_third_turn(request, one, two);
  std::string order;
  for (const Message& m : third.messages) order += m.content + " ";
  EXPECT_EQ(order, "a b d e How heavy is it? ");
  EXPECT_EQ(text_of(with_text(third, "new")), "new");
  AskRequest raw;
  raw.raw = true;
  raw.text = "It is";
  EXPECT_EQ(text_of(with_text(raw, "It was")), "It was");
}

TEST(DeskSections, AreDrawnBySeedAndNeverMixSides) {
  const DeskData test(data(), "test");
  EXPECT_GE(test.unrelated.size(), 3000U);
  for (const auto& [name, facts] :
       {std::pair("thing12", 12U), std::pair("thing36", 36U), std::pair("things144", 144U),
        std::pair("shop", 60U), std::pair("clinc5", 150U), std::pair("clinc10", 150U),
        std::pair("facts1000", 1000U), std::pair("raw200", 200U), std::pair("long", 40U),
        std::pair("corrections", 36U)}) {
    const DeskSet set = test.section(name, 1);
    EXPECT_EQ(set.taught.size(), facts) << name;
    std::set<std::string> taught;
    for (size_t i = 0; i < set.taught.size(); ++i) {
      const Item& item = set.taught[i];
      EXPECT_EQ(item.line, static_cast<int64_t>(i) + 1);
      EXPECT_GE(item.prompts.size(), 1U) << name;
      EXPECT_GE(item.asked.size(), 1U) << name;
      for (const std::string& text : item.prompts) taught.insert(name_key(text));
    }
    for (const std::string& text : set.left) EXPECT_FALSE(taught.contains(name_key(text))) << text;
    for (const std::string& text : set.twins) EXPECT_FALSE(taught.contains(name_key(text))) << text;
    for (const std::string& text : set.open) EXPECT_EQ(text.find("{}"), std::string::npos);
  }
  const DeskSet a = test.section("thing12", 1), b = test.section("thing12", 1),
                c = test.section("thing12", 2);
  EXPECT_EQ(a.taught.front().id, b.taught.front().id);
  EXPECT_NE(a.taught.front().subject, c.taught.front().subject);
  EXPECT_EQ(a.left.size(), 36U * 5);
  EXPECT_FALSE(a.twins.empty());
  EXPECT_GE(a.open.size(), 30U);
  for (const Item& item : test.section("clinc5", 2).taught) EXPECT_EQ(item.prompts.size(), 5U);
  expect_error(ErrorCode::kInvalidArgument, [&] { test.section("thing13", 0); });
}

TEST(DeskSections, TenThousandSubjectsAreDistinct) {
  const DeskSet set = DeskData(data(), "test").section("facts10000", 0);
  ASSERT_EQ(set.taught.size(), 10000U);
  std::set<std::string> subjects;
  for (const Item& item : set.taught) {
    subjects.insert(name_key(item.subject));
    for (const std::string& text : item.prompts)
      EXPECT_FALSE(find_name(text, item.subject).empty()) << text;
  }
  EXPECT_EQ(subjects.size(), 10000U);
  std::set<std::string> others;
  for (const Item& item : DeskData(data(), "dev").section("facts10000", 0).taught)
    others.insert(name_key(item.subject));
  size_t both = 0;
  for (const std::string& subject : subjects) both += others.contains(subject);
  EXPECT_EQ(both, 0U);
}

TEST(DeskSections, CorrectionsHaveNewAnswers) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const DeskSet set = DeskData(data(), "dev").section("corrections", seed);
    ASSERT_EQ(set.correct.size(), 9U);
    for (size_t i = 0; i < set.correct.size(); ++i)
      for (const Item& item : set.taught) EXPECT_FALSE(same_text(set.correct[i], item.answers[0]));
  }
}

TEST(DeskScores, AreaAndBeginnings) {
  EXPECT_DOUBLE_EQ(area_under_curve(std::vector<double>{3, 4}, std::vector<double>{1, 2}), 1);
  EXPECT_DOUBLE_EQ(area_under_curve(std::vector<double>{1, 2}, std::vector<double>{3, 4}), 0);
  EXPECT_DOUBLE_EQ(area_under_curve(std::vector<double>{1, 2}, std::vector<double>{1, 2}), 0.5);
  EXPECT_DOUBLE_EQ(area_under_curve({}, std::vector<double>{1}), 0.5);
  const std::vector<std::string> answers = {"11.4 kg"};
  EXPECT_TRUE(begins_right("11.4 kg, of course", answers));
  EXPECT_TRUE(begins_right("The 11.4 KG.", answers));
  EXPECT_FALSE(begins_right("11.4 kgs", answers));
  EXPECT_FALSE(begins_right("It is 11.4 kg", answers));
}

TEST(DeskScores, MeansTakeTheBestSettingOfTheFirstSeed) {
  Json rows = Json::array();
  const auto add = [&](const char* section, int seed, const char* method, const Json& setting,
                       double untaught) {
    rows.push_back({{"section", section},
                    {"seed", seed},
                    {"method", method},
                    {"setting", setting},
                    {"untaught", untaught},
                    {"variants", {{"typo", untaught / 2}}}});
  };
  const Json slow = {{"rate", 1e-3}, {"epochs", 6}}, fast = {{"rate", 2e-3}, {"epochs", 6}};
  add("shop", 0, "accrete", Json::object(), 0.9);
  add("thing12", 0, "lora", slow, 0.5);
  add("thing12", 0, "lora", fast, 0.7);
  add("thing12", 1, "lora", fast, 0.5);
  add("thing12", 2, "lora", slow, 1.0);
  const auto means = desk_means(rows);
  ASSERT_EQ(means.size(), 2U);
  EXPECT_EQ(means[0].at("section"), "thing12");
  EXPECT_EQ(means[0].at("setting"), fast);
  EXPECT_EQ(means[0].at("seeds"), 2);
  EXPECT_DOUBLE_EQ(means[0].at("untaught").get<double>(), 0.6);
  EXPECT_DOUBLE_EQ(means[0].at("variants").at("typo").get<double>(), 0.3);
  EXPECT_EQ(means[1].at("section"), "shop");
}

TEST(DeskProfiles, NameWhatThereIs) {
  for (const char* name : {"quick", "rates", "hour", "full"}) {
    for (const auto& part : desk_profile(name).parts) {
      EXPECT_NE(std::find(desk_sections().begin(), desk_sections().end(), part.section),
                desk_sections().end());
      for (const std::string& method : part.methods)
        EXPECT_NE(std::find(desk_methods().begin(), desk_methods().end(), method),
                  desk_methods().end());
    }
  }
  expect_error(ErrorCode::kInvalidArgument, [] { desk_profile("minute"); });
}

}  // namespace
}  // namespace accrete
