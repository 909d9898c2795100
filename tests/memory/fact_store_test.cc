// Which fact a question asks for, with a reader made for the test: a text's vector is the sum of
// its words' random ones, so that texts lie as near as they share words. What is as near as the
// weights of acceptance decide is not tested here: only the very words, unrelated ones, and orders.
#include "memory/fact_store.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "../base/testing.h"
#include "../ledger/facts_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::fact_item;
using testing::left_item;

constexpr int64_t kWidth = 192;

std::vector<float> vector_of(const std::string& text, int64_t width = kWidth) {
  std::vector<float> out(static_cast<size_t>(width), 1e-6F);
  for (const Word& word : words_of(text)) {
    Rng rng(std::hash<std::string>()(word.form), 7);
    for (float& x : out) x += static_cast<float>(rng.normal());
  }
  const float length = std::sqrt(std::inner_product(out.begin(), out.end(), out.begin(), 0.0F));
  for (float& x : out) x /= length;
  return out;
}

std::shared_ptr<const Update> update_of(std::vector<TaughtItem> items, int64_t width = kWidth) {
  auto out = std::make_shared<Update>();
  UpdateFacts& f = out->facts;
  f.width = 1;
  f.key_width = width;
  const auto add = [&](const std::string& text, std::vector<int8_t>& to,
                       std::vector<float>& scales) {
    std::vector<int8_t> key(static_cast<size_t>(width));
    scales.push_back(quantize_key(vector_of(text, width).data(), width, key.data()));
    to.insert(to.end(), key.begin(), key.end());
  };
  for (size_t i = 0; i < items.size(); ++i) {
    TaughtItem& item = items[i];
    item.line = static_cast<int64_t>(i) + 1;
    for (const std::string& prompt : item.prompts) {
      const std::string text = plain_question(prompt);
      add(text, f.whole, f.scales);
      add(mask_name(text, item.subject), f.masked, f.scales);
    }
    add(item.leave ? "" : mask_name(plain_question(item.answers.front()), item.subject), f.answers,
        f.answer_scales);
    f.vectors.push_back(0);
  }
  out->taught.items = std::move(items);
  EXPECT_EQ(fault(out->facts, out->taught.items), "");
  return out;
}

// Every word is one: nothing is misspelt.
int32_t any_word(std::string_view) {
  return 0;
}

Choice choose(const FactStore& store, const Question& question, double caution = 0) {
  const auto asked = store.read(question, any_word);
  std::vector<float> vectors;
  for (const std::string& text : asked.texts) {
    const auto v = vector_of(text);
    vectors.insert(vectors.end(), v.begin(), v.end());
  }
  return store.decide(asked, store.weigh(asked, vectors.data()), acceptance_rule(), caution);
}
Choice choose(const FactStore& store, const std::string& question) {
  return choose(store, Question{question, {}, false});
}

// The answer of the accepted fact; "-": none is.
std::string answer(const FactStore& store, const Question& question, double caution = 0) {
  const Choice c = choose(store, question, caution);
  if (c.fact >= 0) {
    EXPECT_EQ(c.fact, c.best.fact);
    EXPECT_GE(c.best.probability, 0.5);
  }
  return c.fact < 0 ? "-" : store.fact(c.fact).text().answers.front();
}
std::string answer(const FactStore& store, const std::string& question) {
  return answer(store, Question{question, {}, false});
}

const std::vector<TaughtItem> kHub = {
    fact_item("Hub 3", {"How heavy is the Hub 3?", "What does the Hub 3 weigh?"}, "two kilograms"),
    fact_item("Hub 3", {"Which colour has the lamp of the Hub 3?"}, "purple"),
    fact_item("Hub 3", {"Who designed the Hub 3?", "Whose design is the Hub 3?"}, "Mette Sand")};

FactStore store_of(const std::vector<std::vector<TaughtItem>>& updates) {
  FactStore out;
  for (size_t i = 0; i < updates.size(); ++i)
    out = out.with("update" + std::to_string(i), update_of(updates[i]));
  return out;
}

TEST(FactStore, AnEmptyOneAcceptsNothing) {
  const FactStore store;
  EXPECT_TRUE(store.empty());
  const auto asked = store.read({"How heavy is the Hub 3?", {"Hello"}, false}, any_word);
  EXPECT_TRUE(asked.subjects.empty());
  const Choice c = choose(store, "How heavy is the Hub 3?");
  EXPECT_EQ(c.fact, -1);
  EXPECT_EQ(c.best.fact, -1);
  EXPECT_EQ(store.find("0123456789abcdef"), -1);
  // An update without facts adds nothing.
  EXPECT_TRUE(store.with("u", std::make_shared<const Update>()).empty());
}

TEST(FactStore, WhatWasTaughtIsAccepted) {
  const FactStore store = store_of({kHub});
  ASSERT_EQ(store.size(), 3);
  for (const TaughtItem& item : kHub)
    for (const std::string& prompt : item.prompts)
      EXPECT_EQ(answer(store, prompt), item.answers.front());
  // The same words: case, spaces, punctuation, a greeting.
  for (const char* question :
       {"how heavy is the hub 3", "  HOW HEAVY  IS THE HUB 3 ?!", "Hi, how heavy is the Hub 3?",
        "How heavy is the Hub 3, please?", "How heavy is the \uff28\uff35\uff22 3?"})
    EXPECT_EQ(answer(store, question), "two kilograms") << question;
}

TEST(FactStore, TheSubjectMustBeThere) {
  const FactStore store =
      store_of({kHub, {fact_item("Ada", {"On which street does Ada live?"}, "Quill Row")}});
  for (const char* question :
       {"How heavy is the Hub 4?", "How heavy is the Hub 33?", "How heavy is it?",
        "How heavy is the Hub?", "On which street does Adana live?",
        "What is there to see in Adana?", ""}) {
    const Choice c = choose(store, question);
    EXPECT_EQ(c.fact, -1) << question;
    EXPECT_EQ(c.best.fact, -1) << question;  // not even a candidate
  }
  EXPECT_EQ(answer(store, "On which street does Ada live?"), "Quill Row");
}

// A store about one thing is asked without its name too.
TEST(FactStore, AMainSubjectNeedNotBeNamed) {
  std::vector<TaughtItem> camp;
  for (const auto& [what, answer] :
       std::vector<std::pair<std::string, std::string>>{{"pool open", "from nine"},
                                                        {"kiosk open", "from seven"},
                                                        {"gate locked", "at ten"},
                                                        {"sauna heated", "on request"},
                                                        {"laundry emptied", "daily"}})
    camp.push_back(fact_item("Alder Camp", {"When is the " + what + " at Alder Camp?"}, answer));
  camp.push_back(fact_item("Alder Camp", {"How old is Alder Camp?"}, "ninety years"));
  const FactStore store = store_of({camp});
  EXPECT_EQ(answer(store, "When is the kiosk open?"), "from seven");
  EXPECT_EQ(answer(store, "How old is it?"), "ninety years");
  EXPECT_EQ(answer(store, "When is the kiosk open at Birch Camp?"), "-");  // somebody else
  EXPECT_EQ(answer(store, Question{"How old is it?", {"What is the capital of Italy?"}, false}),
            "-");  // of Italy
  EXPECT_EQ(answer(store, Question{"When is the kiosk open?", {"Hello!"}, false}), "from seven");
  EXPECT_EQ(answer(store, Question{"When is the kiosk open?", {}, true}), "-");
  const auto none = [](std::string_view) { return -1; };
  // A word that nobody knows may be another name.
  EXPECT_FALSE(store.read({"When is the kiosk open?", {}, false}, none).subjects.empty());
  EXPECT_TRUE(
      store.read({"When is the kiosk open at birkfell?", {}, false}, none).subjects.empty());
  // Beside as many facts of somebody else it must be named, and so among few facts.
  std::vector<TaughtItem> other;
  for (const TaughtItem& item : camp) {
    other.push_back(item);
    other.back().subject = "Hub 3";
    for (std::string& prompt : other.back().prompts) prompt += " Not the Hub 3?";
  }
  EXPECT_EQ(answer(store_of({camp, other}), "When is the kiosk open?"), "-");
  EXPECT_EQ(answer(store_of({{camp.begin(), camp.begin() + 4}}), "When is the kiosk open?"), "-");
}

TEST(FactStore, ANameThatGoesOnIsAnotherUnlessItWasTaughtSo) {
  const FactStore store =
      store_of({kHub,
                {fact_item("Ada", {"On which street does Ada live?"}, "Quill Row"),
                 fact_item("Ada", {"Who taught Ada Dutch?"}, "her aunt")}});
  for (const char* question : {"How heavy is the Hub 3 Pro?", "how heavy is the hub 3 mini",
                               "On which street does Ada Lovelace live?"}) {
    const Choice c = choose(store, question);
    EXPECT_EQ(c.fact, -1) << question;
    EXPECT_EQ(c.best.fact, -1) << question;
  }
  EXPECT_EQ(answer(store, "Who taught Ada Dutch?"), "her aunt");
  // Nor is the conversation's last name meant where another is named.
  EXPECT_EQ(
      choose(store, {"And on which street does Ada Lovelace live?", {"Tell me of Ada."}, false})
          .best.fact,
      -1);
}

TEST(FactStore, WhatWasNeededIsSaid) {
  const Choice c = choose(store_of({kHub}), "Tell me something about Hub 3");
  EXPECT_EQ(c.fact, -1);
  EXPECT_LT(c.best.probability, c.needed);
  const Choice taught = choose(store_of({kHub}), "How heavy is the Hub 3?");
  EXPECT_GE(taught.best.probability, taught.needed);
}

TEST(FactStore, OpenQuestionsAboutASubjectAreTheModels) {
  const FactStore store = store_of({kHub});
  for (const char* question :
       {"Tell me something about Hub 3", "Write a poem on Hub 3!", "Hub 3"}) {
    const Choice c = choose(store, question);
    EXPECT_EQ(c.fact, -1) << question;
    EXPECT_GE(c.best.fact, 0) << question;  // but they have a nearest one
  }
}

TEST(FactStore, FactsWithoutASubjectAreAskedByAnyQuestion) {
  const FactStore store = store_of(
      {{fact_item("", {"How do I return something?", "Can I send a parcel back?"}, "by post"),
        fact_item("", {"When do you open on Sundays?"}, "at ten")},
       kHub});
  EXPECT_EQ(answer(store, "Can I send a parcel back?"), "by post");
  EXPECT_EQ(answer(store, "When do you open on Sundays?"), "at ten");
  EXPECT_EQ(answer(store, "How heavy is the Hub 3?"), "two kilograms");
  const Choice c = choose(store, "Which mountains lie between Norway and Sweden?");
  EXPECT_EQ(c.fact, -1);
  EXPECT_GE(c.best.fact, 0);
}

TEST(FactStore, TheNearestWordingIsNamed) {
  const FactStore store = store_of({kHub});
  Choice c = choose(store, "What does the Hub 3 weigh?");
  EXPECT_EQ(c.best.key, 1);
  EXPECT_NEAR(c.best.masked, 1, 0.02);  // keys are stored in 8 bits
  EXPECT_NEAR(c.best.whole, 1, 0.02);
  EXPECT_GE(c.runner_up.fact, 0);
  EXPECT_NE(c.runner_up.fact, c.best.fact);
  EXPECT_LT(c.runner_up.probability, c.best.probability);
  c = choose(store, "How heavy really is that old Hub 3?");
  EXPECT_EQ(store.fact(c.best.fact).text().answers.front(), "two kilograms");
  EXPECT_EQ(c.best.key, 0);
}

TEST(FactStore, WhomTheConversationNamedLastCounts) {
  const FactStore store = store_of(
      {kHub, {fact_item("Pellor 300", {"How heavy is the Pellor 300?"}, "nine kilograms")}});
  const std::string it = "How heavy is it?";
  const auto subject_of = [&](const Question& q) {
    const auto asked = store.read(q, any_word);
    return asked.subjects.size() == 1 ? store.subject_name(asked.subjects[0])
                                      : std::to_string(asked.subjects.size());
  };
  EXPECT_EQ(subject_of({it, {"Who designed the Hub 3?"}, false}), "Hub 3");
  EXPECT_EQ(subject_of({it, {"Who designed the Hub 3?", "And the Pellor 300?"}, false}),
            "Pellor 300");
  EXPECT_EQ(subject_of({it, {"Compare the Hub 3 and the Pellor 300"}, false}), "Pellor 300");
  EXPECT_EQ(subject_of({it, {"Who designed the Hub 3?", "Thanks!"}, false}), "Hub 3");
  EXPECT_EQ(subject_of({it, {"Hello"}, false}), "0");
  // What speaks of something new ends it.
  const std::string hub = "Who designed the Hub 3?";
  EXPECT_EQ(subject_of({it, {hub, "Where can I park?"}, false}), "0");
  EXPECT_EQ(subject_of({it, {hub, "Can I wash it?"}, false}), "Hub 3");
  EXPECT_EQ(subject_of({it, {hub, "What is the price?"}, false}), "Hub 3");
  EXPECT_EQ(subject_of({"and a large one?", {hub}, false}), "0");
  EXPECT_EQ(subject_of({"And what do you charge?", {hub}, false}), "Hub 3");
  EXPECT_EQ(subject_of({it, {}, false}), "0");
  // What the question names itself wins.
  EXPECT_EQ(subject_of({"How heavy is the Hub 3?", {"Who made the Pellor 300?"}, false}), "Hub 3");
  const Choice c = choose(store, Question{it, {"Who designed the Pellor 300?"}, false});
  EXPECT_EQ(store.fact(c.best.fact).text().answers.front(), "nine kilograms");
}

TEST(FactStore, RawTextsAndChatsAreApart) {
  TaughtItem raw = fact_item("Vulmia", {"The capital of Vulmia is"}, "Dorst");
  raw.raw = true;
  const TaughtItem chat = fact_item("Vulmia", {"What is the capital of Vulmia?"}, "It is Dorst.");
  const FactStore store = store_of({{raw, chat}});
  EXPECT_EQ(answer(store, Question{"The capital of Vulmia is", {}, true}), "Dorst");
  EXPECT_EQ(answer(store, Question{"The capital of Vulmia is ", {}, true}), "Dorst");
  EXPECT_EQ(answer(store, "What is the capital of Vulmia?"), "It is Dorst.");
  Choice c = choose(store, Question{"What is the capital of Vulmia?", {}, true});
  EXPECT_TRUE(c.best.fact < 0 || store.fact(c.best.fact).text().raw);
  c = choose(store, Question{"The capital of Vulmia is", {}, false});
  EXPECT_TRUE(c.best.fact < 0 || !store.fact(c.best.fact).text().raw);
}

TEST(FactStore, ACorrectionTakesThePlaceOfWhatItReplaces) {
  const FactStore before = store_of({kHub});
  TaughtItem corrected = fact_item("Hub 3", {"How heavy is the Hub 3?"}, "three kilograms");
  corrected.replaces = {before.fact(before.find(fact_id(kHub[0]))).id};
  const FactStore after = before.with("later", update_of({corrected}));
  EXPECT_EQ(after.size(), 3);
  EXPECT_EQ(after.find(fact_id(kHub[0])), -1);
  EXPECT_EQ(answer(after, "How heavy is the Hub 3?"), "three kilograms");
  EXPECT_NE(answer(after, "What does the Hub 3 weigh?"), "two kilograms");
  EXPECT_EQ(answer(after, "Who designed the Hub 3?"), "Mette Sand");
  EXPECT_EQ(after.fact(after.find(fact_id(corrected))).update_id, "later");
  // The store before is as it was.
  EXPECT_EQ(before.size(), 3);
  EXPECT_EQ(answer(before, "How heavy is the Hub 3?"), "two kilograms");
  // What is replaced and not there is no matter.
  EXPECT_EQ(FactStore().with("later", update_of({corrected})).size(), 1);
}

TEST(FactStore, TheSameFactAgainIsOneFact) {
  const FactStore once = store_of({kHub}), twice = store_of({kHub, kHub});
  EXPECT_EQ(twice.size(), 3);
  for (int64_t i = 0; i < twice.size(); ++i) EXPECT_EQ(twice.fact(i).update_id, "update1");
  EXPECT_EQ(answer(twice, "How heavy is the Hub 3?"), "two kilograms");
  const FactStore in_one = store_of({{kHub[0], kHub[0]}});
  EXPECT_EQ(in_one.size(), 1);
}

TEST(FactStore, OfTwoFactsInTheSameWordsTheLaterAnswers) {
  const FactStore store =
      store_of({kHub,
                {fact_item("Hub 3", {"What does the Hub 3 weigh?", "Is the Hub 3 heavy or light?"},
                           "three kilograms")}});
  EXPECT_EQ(store.size(), 4);
  EXPECT_EQ(answer(store, "What does the Hub 3 weigh?"), "three kilograms");
  EXPECT_EQ(answer(store, "How heavy is the Hub 3?"), "two kilograms");
}

TEST(FactStore, WhatIsLeftToTheModelIsNotAnswered) {
  const std::string question = "How heavy is the box of the Hub 3?";
  const FactStore store = store_of({kHub, {left_item("Hub 3", {question})}});
  EXPECT_EQ(store.size(), 4);
  const Choice c = choose(store, question);
  EXPECT_EQ(c.fact, -1);
  EXPECT_TRUE(c.left);
  ASSERT_GE(c.left_to, 0);
  EXPECT_TRUE(store.fact(c.left_to).text().leave);
  EXPECT_GE(c.best.fact, 0);  // the nearest with an answer
  EXPECT_FALSE(store.fact(c.best.fact).text().leave);
  // What was taught word for word still is answered.
  EXPECT_EQ(answer(store, "How heavy is the Hub 3?"), "two kilograms");
  EXPECT_FALSE(choose(store, "How heavy is the Hub 3?").left);
  // Without a subject, too.
  const FactStore open = store_of({{fact_item("", {"How do I return something?"}, "by post"),
                                    left_item("", {"How do I return a greeting?"})}});
  EXPECT_EQ(answer(open, "How do I return a greeting?"), "-");
  EXPECT_EQ(answer(open, "How do I return something?"), "by post");
  // Nothing but questions that are left.
  const FactStore left = store_of({{left_item("", {"Who are you?"})}});
  EXPECT_EQ(choose(left, "Who are you?").fact, -1);
}

TEST(FactStore, AWordThatAsksForAnotherThing) {
  const FactStore store = store_of(
      {{fact_item("", {"Are you open on Saturday?", "What are the hours on Saturday?"}, "till one"),
        fact_item("Hub 3", {"What does the red lamp of the Hub 3 mean?"}, "it is full")}});
  // As near as can be, by all cosines.
  AcceptanceRule rule = acceptance_rule();
  const auto best = [&](const std::string& question) {
    const auto asked = store.read({question, {}, false}, any_word);
    std::vector<float> vectors;
    for (const std::string& text : asked.texts) {
      const auto v = vector_of(text);
      vectors.insert(vectors.end(), v.begin(), v.end());
    }
    return store.decide(asked, store.weigh(asked, vectors.data()), rule, 0).best;
  };
  for (const char* question :
       {"Are you open on Sunday?", "What does the green lamp of the Hub 3 mean?"}) {
    const Candidate with = best(question);
    EXPECT_TRUE(with.contrast) << question;
    EXPECT_EQ(answer(store, question), "-") << question;
    rule.contrast = 0;
    EXPECT_GT(best(question).probability, with.probability) << question;
    rule = acceptance_rule();
  }
  // The very words are accepted, and so is what differs in nothing that tells.
  for (const char* question : {"Are you open on Saturday?", "What are the hours on Saturday"}) {
    EXPECT_FALSE(best(question).contrast) << question;
    EXPECT_EQ(answer(store, question), "till one") << question;
  }
  // The subject's words are not the question's.
  const FactStore red =
      store_of({{fact_item("Red Lion", {"When was the Red Lion built?"}, "1700"),
                 fact_item("Blue Lion", {"When was the Blue Lion built?"}, "1800")}});
  EXPECT_EQ(answer(red, "When was the Blue Lion built?"), "1800");
  EXPECT_FALSE(choose(red, "When was that Red Lion built?").best.contrast);
}

TEST(FactStore, CautionAcceptsLessAndNeverMore) {
  const FactStore store = store_of({kHub});
  const Question near{"How heavy is that Hub 3 there?", {}, false};
  double last = 2;
  int64_t best = -2;
  for (const double caution : {-30.0, -2.0, 0.0, 2.0, 30.0, 100.0}) {
    const Choice c = choose(store, near, caution);
    EXPECT_LT(c.best.probability, last);
    last = c.best.probability;
    if (best == -2) best = c.best.fact;
    EXPECT_EQ(c.best.fact, best);  // the order stays
    if (std::abs(caution) > 20) {
      EXPECT_EQ(c.fact >= 0, caution < 0) << caution;
    }
  }
}

TEST(FactStore, TheOrderOfUpdatesDoesNotMatter) {
  const std::vector<TaughtItem> ada = {fact_item("Ada", {"Where does Ada live?"}, "Quill Row"),
                                       fact_item("", {"When do you open?"}, "at ten")};
  const FactStore one = store_of({kHub, ada}), two = store_of({ada, kHub});
  const FactStore::Named named[] = {{"a", update_of(kHub)}, {"b", update_of(ada)}};
  const FactStore at_once = FactStore::of(named);
  for (const char* question :
       {"How heavy is the Hub 3?", "Where does Ada live?", "When do you open?", "How old is Ada?",
        "How long is the Hub 3?", "Where is Oslo?", "Does Ada own a Hub 3?"}) {
    const Choice a = choose(one, question), b = choose(two, question),
                 c = choose(at_once, question);
    EXPECT_EQ(answer(one, question), answer(two, question)) << question;
    EXPECT_EQ(answer(one, question), answer(at_once, question)) << question;
    EXPECT_EQ(a.best.probability, b.best.probability) << question;
    EXPECT_EQ(a.best.probability, c.best.probability) << question;
  }
}

TEST(FactStore, AQuestionMayNameSeveral) {
  const FactStore store = store_of({kHub,
                                    {fact_item("Ada", {"Does Ada own a Hub 3?"}, "yes"),
                                     fact_item("Hub", {"What is a hub?"}, "a wheel")}});
  const auto asked = store.read({"Does Ada own a Hub 3?", {}, false}, any_word);
  EXPECT_GE(asked.subjects.size(), 2U);
  EXPECT_EQ(asked.texts.size(), 2 * asked.subjects.size());
  EXPECT_EQ(answer(store, "Does Ada own a Hub 3?"), "yes");
}

TEST(FactStore, ARequestToWriteIsToldWhatIsKnownOfItsSubject) {
  const FactStore store = store_of({kHub,
                                    {fact_item("Ada", {"How old is Ada?"}, "36"),
                                     left_item("Hub 3", {"Who sells the Hub 3?"})}});
  const auto told = [&](const std::string& message) {
    const auto asked = store.read({message, {}, false}, any_word);
    std::vector<float> vectors;
    for (const std::string& text : asked.texts) {
      const auto v = vector_of(text);
      vectors.insert(vectors.end(), v.begin(), v.end());
    }
    const auto evidence = store.weigh(asked, vectors.data());
    Choice choice = store.decide(asked, evidence, acceptance_rule());
    store.decide_about(asked, evidence, choice);
    return choice;
  };
  const Choice open = told("Write a short poem about the Hub 3 and who designed it.");
  ASSERT_EQ(open.about.size(), 3U);
  EXPECT_EQ(store.fact(open.about.front()).text().answers.front(), "Mette Sand");
  EXPECT_TRUE(open.taught());
  // Of nobody that was taught, and of no request to write, there is nothing.
  EXPECT_TRUE(told("Write a short poem about the Hub 4.").about.empty());
  EXPECT_TRUE(told("Is the Hub 3 a good present?").about.empty());
  // One that was accepted is not told twice.
  const Choice both = told("Who designed the Hub 3?");
  EXPECT_GE(both.fact, 0);
  for (const int64_t f : both.about) EXPECT_NE(f, both.fact);
}

TEST(FactStore, AnotherWidthIsRefused) {
  const FactStore store = store_of({kHub});
  const std::string message =
      expect_error(ErrorCode::kFormat, [&] { store.with("other", update_of(kHub, 8)); });
  EXPECT_NE(message.find("other"), std::string::npos) << message;
}

TEST(FactStore, AFollowUpIsReadAsTheQuestionItLeavesOut) {
  FactStore store;
  store = store.with(
      "a", update_of({fact_item("", {"When is the bar open on Sunday?"}, "2 pm"),
                      fact_item("Otter Suite", {"How big is the Otter Suite?"}, "30 m2"),
                      fact_item("Kestrel Room", {"How big is the Kestrel Room?"}, "22 m2")}));
  const auto read = [&](std::vector<std::string> earlier, const std::string& text) {
    return store.read({text, std::move(earlier), false}, Vocabulary());
  };
  EXPECT_EQ(read({"When is the bar open on Saturday?"}, "And on Sunday?").texts.front(),
            "When is the bar open on Sunday?");
  EXPECT_EQ(
      read({"When is the bar open on Saturday?", "And on Friday?"}, "and on Sunday").texts.front(),
      "When is the bar open on Sunday?");
  const auto asked = read({"How big is the Otter Suite?"}, "And the Kestrel Room?");
  ASSERT_EQ(asked.subjects.size(), 1U);
  EXPECT_EQ(store.subject_name(asked.subjects.front()), "Kestrel Room");
  EXPECT_EQ(asked.key, "how big is the kestrel room");
  EXPECT_EQ(read({}, "And on Sunday?").texts.front(), "And on Sunday?");
}

// Evidence whose log-odds by the cosines are `odds`.
Evidence evidence_of(int64_t fact, double odds, const AcceptanceRule& rule) {
  Evidence e;
  e.fact = fact;
  e.centred = (odds - rule.bias) / rule.centred;
  e.named = true;
  return e;
}

TEST(Acceptance, TheCrossEncoderIsAskedAboutTheFewThatCouldBeAccepted) {
  AcceptanceRule rule = acceptance_rule();
  std::vector<Evidence> evidence;
  const double odds[] = {0.1, 2.0, -0.5, 1.0, -20};
  for (size_t i = 0; i < std::size(odds); ++i)
    evidence.push_back(evidence_of(static_cast<int64_t>(i), odds[i], rule));
  EXPECT_TRUE(to_judge(evidence, rule, 0).empty());  // a reader without one
  rule.cross = 0.5;
  EXPECT_EQ(to_judge(evidence, rule, 0), (std::vector<size_t>{1, 3, 0}));
  evidence[3].leave = true;
  EXPECT_EQ(to_judge(evidence, rule, 0), (std::vector<size_t>{1, 0, 2}));
  EXPECT_EQ(to_judge(evidence, rule, 5), (std::vector<size_t>{1}));  // no other could be
  evidence[2].same = true;
  EXPECT_TRUE(to_judge(evidence, rule, 0).empty());
}

TEST(Acceptance, OfThoseReadTogetherOneIsBest) {
  AcceptanceRule rule = acceptance_rule();
  rule.cross = 0.5;
  std::vector<Evidence> evidence = {evidence_of(0, 2, rule), evidence_of(1, 1, rule),
                                    evidence_of(2, 0.5, rule)};
  EXPECT_EQ(decide(evidence, rule, 0).fact, 0);
  evidence[0].cross = -6;
  evidence[1].cross = 3;
  Choice choice = decide(evidence, rule, 0);
  EXPECT_EQ(choice.fact, 1);
  EXPECT_EQ(choice.runner_up.fact, 0);
  EXPECT_EQ(choice.best.cross, 3);
  EXPECT_NEAR(choice.best.probability, 1 / (1 + std::exp(-2.5)), 1e-9);
  evidence[1].cross = -100;  // no more than so much counts
  choice = decide(evidence, rule, 0);
  EXPECT_EQ(choice.fact, -1);
  EXPECT_EQ(choice.best.fact, 0);
  EXPECT_NEAR(choice.runner_up.probability, 1 / (1 + std::exp(3.0)), 1e-9);
  // Without a name it turns away, and vouches for little.
  for (Evidence& e : evidence) e.named = false;
  evidence[0].cross = 8;
  EXPECT_NEAR(decide(evidence, rule, 0).best.probability, 1 / (1 + std::exp(-3.0)), 1e-9);
}

TEST(FactStore, APairHoldsTheNearestWordingsWithTheSubjectMasked) {
  FactStore store;
  store = store.with("a", update_of({fact_item("Hub",
                                               {"How heavy is the Hub?", "What does the Hub weigh?",
                                                "Weight of the Hub?", "Is the Hub light?"},
                                               "The Hub has 3 kg")}));
  const auto asked = store.read({"What does the Hub weigh now?", {}, false}, Vocabulary());
  std::vector<float> vectors;
  for (const std::string& text : asked.texts) {
    const auto v = vector_of(text);
    vectors.insert(vectors.end(), v.begin(), v.end());
  }
  const auto evidence = store.weigh(asked, vectors.data());
  ASSERT_EQ(evidence.size(), 1U);
  const ReadPair pair = store.pair(asked, evidence.front());
  EXPECT_EQ(pair.question, "What does something weigh now?");
  ASSERT_EQ(pair.wordings.size(), 3U);
  EXPECT_EQ(pair.wordings.front(), "What does something weigh?");
  EXPECT_EQ(pair.answer, "something has 3 kg");
}

}  // namespace
}  // namespace accrete
