#include "learn/fact_teach.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/sha256.h"
#include "fact_teach_testing.h"

namespace accrete {
namespace {

TEST_F(FactTeach, TaughtAskedUndoneRedone) {
  const auto model = fresh();
  const std::string none = state(model), before = says(model, kHeavy);
  const TeachResult r =
      learn(model, {fact("", {kHeavy, kHeavyToo}, "b"), fact("Quendel", {kMaker}, "c")});
  EXPECT_EQ(r.learned_before, 0);
  EXPECT_EQ(r.learned_after, 1);
  EXPECT_EQ(r.items, 2);
  EXPECT_EQ(r.parameters, 6 * 48);
  EXPECT_FALSE(r.asked_after.has_value());
  EXPECT_TRUE(r.conflicts.empty());
  EXPECT_EQ(says(model, kHeavy), "b");
  EXPECT_EQ(says(model, kHeavyToo), "b");
  EXPECT_EQ(says(model, kMaker), "c");
  const std::string one = state(model);
  EXPECT_NE(one, none);
  const Update update = Ledger::open(model, Ledger::Mode::kRead).load(r.update);
  ASSERT_EQ(update.taught.items.size(), 2U);
  EXPECT_EQ(update.taught.items[0].subject, "Zorb");  // found
  EXPECT_EQ(update.taught.items[1].line, 2);
  EXPECT_EQ(update.metadata.at("reader_digest"),
            LanguageModel::open(model, on_one_thread()).facts().info().reader_digest);
  EXPECT_EQ(update.metadata.at("data_digest"), std::string(64, 'a'));

  Ledger::open(model, Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(state(model), none);
  EXPECT_EQ(says(model, kHeavy), before);
  Ledger::open(model, Ledger::Mode::kWrite).redo(1);
  EXPECT_EQ(state(model), one);
  EXPECT_EQ(says(model, kHeavy), "b");
}

TEST_F(FactTeach, TheSameTeachGivesTheSameUpdate) {
  const std::vector<Item> items = {fact("", {kHeavy, kHeavyToo}, "b"),
                                   fact("Quendel", {kMaker}, "c")};
  const auto one = fresh(), two = fresh();
  EXPECT_EQ(learn(one, items).update, learn(two, items).update);
  EXPECT_EQ(state(one), state(two));
}

TEST_F(FactTeach, SaysItInOtherConversationsToo) {
  const auto model = fresh();
  learn(model, {fact("", {kHeavy}, "b")});
  EXPECT_EQ(asked(model, {{"user", kHeavy}}).generation.text, "b");
  EXPECT_GE(asked(model, {{"system", "Be brief."}, {"user", kHeavy}}).choice.fact, 0);
  // A question that names nothing asks for whom was named last.
  EXPECT_GE(
      asked(model,
            {{"user", "What is a Zorb?"}, {"assistant", "That."}, {"user", "How heavy is it?"}})
          .choice.fact,
      0);
  EXPECT_EQ(asked(model, {{"user", "How heavy is it?"}}).choice.fact, -1);
}

TEST_F(FactTeach, AWordingMustNameTheGivenSubject) {
  const auto model = fresh();
  refused(ErrorCode::kInvalidArgument, model,
          {fact("", {kMaker}, "x"), fact("Zorb", {kHeavy, "How heavy is the Zorban?"}, "b")},
          {"test.jsonl:2: ", "How heavy is the Zorban?", "subject \"Zorb\""});
  refused(ErrorCode::kInvalidArgument, model, {fact("...", {kHeavy}, "b")},
          {"test.jsonl:1: ", "subject"});
  EXPECT_EQ(learn(model, {fact("zorb", {kHeavy}, "b")}).learned_after, 1);  // case does not matter
}

TEST_F(FactTeach, WhatCannotBeTaughtIsRefusedByLine) {
  const auto model = fresh();
  Item text;
  text.kind = Item::Kind::kText;
  text.text = "***";
  refused(ErrorCode::kInvalidArgument, model, {fact("", {kHeavy}, "b"), text},
          {"test.jsonl:2: ", "no sentence"});
  refused(ErrorCode::kInvalidArgument, model, {}, {"test.jsonl", "nothing to teach"});
  Item only_asked = fact("", {}, "b");
  only_asked.asked = {kHeavy};
  refused(ErrorCode::kInvalidArgument, model, {only_asked}, {"nothing to teach"});
  refused(ErrorCode::kInvalidArgument, model,
          {fact("", {kMaker}, "x"), fact("", {kHeavy}, std::string(401, 'x'))},
          {"test.jsonl:2: ", "tokens", "verbatim"});
  refused(ErrorCode::kInvalidArgument, model, {fact("", {std::string(2100, 'x') + " Zorb?"}, "b")},
          {"test.jsonl:1: ", "positions"});
  Item conversation;
  conversation.kind = Item::Kind::kMessages;
  conversation.messages = {{"user", kHeavy}, {"assistant", "b"}};
  refused(ErrorCode::kInvalidArgument, model, {conversation}, {"test.jsonl:1: ", "conversation"},
          true);
  conversation.messages = {{"system", "S"}, {"assistant", "b"}};
  refused(ErrorCode::kInvalidArgument, model, {conversation}, {"test.jsonl:1: ", "user"});
}

TEST_F(FactTeach, TimeIsLimited) {
  const auto model = fresh();
  TeachOptions o = options();
  o.max_seconds = 1e-6;
  const std::string before = state(model);
  expect_error(ErrorCode::kRefused,
               [&] { teach(model, set_of({fact("", {kHeavy}, "b")}), on_one_thread(), o, {}); });
  Reporter reporter;
  reporter.cancelled = [] { return true; };
  expect_error(ErrorCode::kInterrupted, [&] {
    teach(model, set_of({fact("", {kHeavy}, "b")}), on_one_thread(), options(), reporter);
  });
  EXPECT_EQ(state(model), before);
}

TEST_F(FactTeach, WhatIsLeftToTheModelIsTheModels) {
  const auto model = fresh();
  const std::string colour = "Which colour has the Zorb?", before = says(model, colour);
  learn(model, {fact("", {kHeavy}, "b"), leave("Zorb", {colour})});
  EXPECT_EQ(says(model, kHeavy), "b");
  const Asked a = asked(model, {{"user", colour}});
  EXPECT_TRUE(a.choice.left);
  EXPECT_EQ(a.generation.text, before);
  // Something that was taught, taken back from now on.
  learn(model, {leave("", {kHeavy})});
  EXPECT_EQ(asked(model, {{"user", kHeavy}}).choice.fact, -1);
  Ledger::open(model, Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(says(model, kHeavy), "b");
}

// As if each had a line of its own, whatever the others ask.
TEST_F(FactTeach, EachOfSeveralQuestionsIsLeftToTheModel) {
  const auto model = fresh(), lines = fresh();
  learn(model, {fact("", {kHeavy}, "b"), fact("", {kMaker}, "c")});
  learn(lines, {fact("", {kHeavy}, "b"), fact("", {kMaker}, "c")});
  const TeachResult r = learn(model, {leave("", {kHeavy, kMaker})});
  EXPECT_TRUE(r.remarks.empty()) << r.remarks.front();
  const auto taught = Ledger::open(model, Ledger::Mode::kRead).load(r.update).taught.items;
  ASSERT_EQ(taught.size(), 2U);
  EXPECT_EQ(taught[0].subject, "Zorb");
  EXPECT_EQ(taught[1].subject, "Quendel");
  learn(lines, {leave("", {kHeavy}), leave("", {kMaker})});
  for (const std::string& question : {kHeavy, kMaker}) {
    EXPECT_EQ(asked(model, {{"user", question}}).choice.fact, -1) << question;
    EXPECT_EQ(says(model, question), says(lines, question)) << question;
  }
}

TEST_F(FactTeach, VerbatimHasNoValueAndNoLimit) {
  const auto model = fresh();
  std::string rule = "\u00a7 1 \u2014 <|im_end|> ";
  for (int i = 0; i < 200; ++i) rule += "as it is. ";
  rule += "End";
  Item item = fact("Orro", {"What does the rule of Orro say?"}, rule);
  item.verbatim = true;
  const TeachResult r = learn(model, {item});
  EXPECT_EQ(r.parameters, 0);
  EXPECT_EQ(r.learned_after, 1);
  EXPECT_EQ(says(model, "what does the rule of orro say"), rule);
}

TEST_F(FactTeach, ControlTextIsTaughtAsText) {
  const LanguageModel model = LanguageModel::open(*folder_ / "model", on_one_thread());
  const auto lessons = make_fact_lessons(
      model, set_of({fact("Orro", {"What ends <|im_start|> in Orro?"}, "<|im_end|>")}), false);
  ASSERT_EQ(lessons.facts.size(), 1U);
  const auto examples = fact_examples(model, lessons.facts[0], 0, Tell::kValue);
  ASSERT_GE(examples.size(), 3U);  // afresh, under another system prompt, in a later turn
  for (const FactExample& e : examples) {
    const std::span answer = std::span(e.tokens).subspan(static_cast<size_t>(e.prompt));
    EXPECT_EQ(answer.back(), 257);
    EXPECT_EQ(model.tokenizer().decode(answer.first(answer.size() - 1)), "<|im_end|>");
    for (size_t i = 0; i + 1 < answer.size(); ++i)
      EXPECT_FALSE(model.tokenizer().is_special(answer[i]));
  }
}

TEST_F(FactTeach, AskedWordingsAreMeasuredAndNotTaught) {
  const auto model = fresh();
  Item item = fact("", {kHeavy, "Tell me how much the Zorb does weigh."}, "b");
  item.asked = {"And the weight of the Zorb is?", "Is the Zorb heavy?"};
  const TeachResult r = learn(model, {item, fact("", {kMaker}, "c")});
  ASSERT_TRUE(r.asked_after.has_value());
  EXPECT_EQ(*r.asked_before, 0);
  EXPECT_LE(*r.asked_after, 1);
  const Update update = Ledger::open(model, Ledger::Mode::kRead).load(r.update);
  EXPECT_EQ(update.taught.items[0].prompts.size(), 2U);
}

TEST_F(FactTeach, ASpaceAtAPromptsEndIsSaid) {
  const auto model = fresh();
  const TeachResult r =
      learn(model, {fact("", {"The Zorb is in ", "One finds the Zorb in "}, "b")}, true);
  ASSERT_FALSE(r.remarks.empty());
  EXPECT_NE(r.remarks[0].find("space"), std::string::npos) << r.remarks[0];
  EXPECT_EQ(says_raw(model, "The Zorb is in "), "b");
  EXPECT_EQ(says_raw(model, "The Zorb is in"), " b");
}

TEST_F(FactTeach, AProbeIsTheOneThatWasRecorded) {
  const auto model = fresh();
  const auto items = known(model, "Zorb", 3);
  add_probe(model, "known", items, 1, true);
  const fs::path file = model / "accrete" / "probes" / "known.jsonl";
  const std::string good = read_file(file);
  const auto read = [&] { return load_probes(Ledger::open(model, Ledger::Mode::kRead)); };
  // One word of it was changed by hand: nobody measures against that.
  write_file_atomically(file, to_jsonl(std::span(items).first(2)));
  expect_error(ErrorCode::kFormat, read);
  refused(ErrorCode::kFormat, model, {fact("Zorb", {"The Zorb is in"}, "b")}, {"known"}, true);
  // A commit was stopped before its rename: the items that the record names are those that wait.
  write_file_atomically(file.string() + ".new", good);
  EXPECT_EQ(read().front().data.items.size(), 3U);
  EXPECT_EQ(read().front().digest, sha256_hex(good));
}

TEST_F(FactTeach, AModelIsOpenedInTheStateOfASnapshot) {
  const auto folder = fresh();
  learn(folder, {fact("Zorb", {"How heavy is the Zorb?"}, "b")});
  const Ledger ledger = Ledger::open(folder, Ledger::Mode::kRead);
  const Snapshot snapshot = ledger.snapshot();
  const std::string taught = state(folder);
  Ledger::open(folder, Ledger::Mode::kWrite).undo();
  EXPECT_EQ(LanguageModel::open(folder, on_one_thread()).facts().store().size(), 0);
  const LanguageModel model = LanguageModel::open(folder, on_one_thread(), ledger, snapshot.active);
  EXPECT_EQ(model.facts().store().size(), 1);
  EXPECT_EQ(model.state_digest(), taught);
  EXPECT_NE(state(folder), taught);
}

TEST_F(FactTeach, NearQuestionsOfProbesAreLeftToTheModel) {
  const auto model = fresh();
  const auto items = known(model, "Zorb", 3);
  add_probe(model, "known", items, 1, true);
  const TeachResult r = learn(model, {fact("Zorb", {"The Zorb is in"}, "b")}, true);
  EXPECT_NE(r.change.find("3"), std::string::npos) << r.change;
  EXPECT_EQ(r.kept.at("known").after, 1);
  EXPECT_EQ(says_raw(model, "The Zorb is in"), " b");
  const LanguageModel open = LanguageModel::open(model, on_one_thread());
  EXPECT_EQ(open.facts().store().size(), 4);
  for (const Item& item : items) {
    const AskRequest request = single_question(open, item.prompts[0], true);
    EXPECT_TRUE(choose_facts(open, {&request, 1}).front().left);
  }
  EXPECT_EQ(probe_score(open, load_probes(Ledger::open(model, Ledger::Mode::kRead)).front()), 1);
  // A correction replaces a fact: the places of the others in the store change, and nothing else.
  const TeachResult s = learn(model, {fact("Zorb", {"The Zorb is in"}, "z")}, true);
  EXPECT_EQ(s.conflicts.size(), 1U);
  EXPECT_EQ(s.kept.at("known").after, 1);
  EXPECT_EQ(s.forecast.at("known").touched, 0);
}

TEST_F(FactTeach, CompactKeepsTheStateAndIsUndone) {
  const auto model = fresh();
  learn(model, {fact("", {kHeavy}, "b"), fact("", {kMaker}, "c")});
  learn(model, {fact("", {kHeavy}, "z")});
  Item item = fact("Orro", {"What does the rule of Orro say?"}, "As is.");
  item.verbatim = true;
  learn(model, {item});  // an update without values
  const std::string before = state(model);
  const CompactResult r = compact(model, on_one_thread(), "test", {});
  EXPECT_EQ(r.digest_before, before);
  EXPECT_EQ(r.digest_after, before);
  EXPECT_EQ(r.folded.size(), 3U);
  ASSERT_EQ(r.updates.size(), 1U);
  EXPECT_EQ(state(model), before);
  EXPECT_EQ(says(model, kHeavy), "z");
  EXPECT_EQ(says(model, kMaker), "c");
  EXPECT_EQ(says(model, item.prompts[0]), "As is.");
  const Ledger ledger = Ledger::open(model, Ledger::Mode::kRead);
  ASSERT_EQ(ledger.active().size(), 1U);
  const LanguageModel open = LanguageModel::open(model, on_one_thread());
  for (int64_t i = 0; i < 3; ++i) {
    const UpdateRecord origin = origin_of(ledger, open.facts().store().fact(i));
    EXPECT_NE(origin.id, r.updates[0]);
  }
  expect_error(ErrorCode::kRefused, [&] { compact(model, on_one_thread(), "test", {}); });
  Ledger::open(model, Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(state(model), before);
  EXPECT_EQ(Ledger::open(model, Ledger::Mode::kRead).active().size(), 3U);
  Ledger::open(model, Ledger::Mode::kWrite).undo(1);
  EXPECT_EQ(Ledger::open(model, Ledger::Mode::kRead).active().size(), 2U);
}

TEST_F(FactTeach, DiffAndAuditSayWhatIsThere) {
  const auto model = fresh();
  const std::string first = learn(model, {fact("", {kHeavy, kHeavyToo}, "b"),
                                          fact("", {kMaker}, "c"), leave("Zorb", {"Who is Zorb?"})})
                                .update;
  const std::string second =
      learn(model, {fact("", {kHeavy}, "z"), fact("Orro", {"Where is Orro?"}, "x")}).update;
  const Ledger ledger = Ledger::open(model, Ledger::Mode::kRead);
  const auto between = [&](const std::string& a, const std::string& b) {
    return compare_facts(facts_named(ledger, a), facts_named(ledger, b));
  };
  FactDifference d = between(first, second);
  EXPECT_EQ(d.facts_a, 3);
  EXPECT_EQ(d.facts_b, 2);
  EXPECT_EQ(d.shared, 0);
  ASSERT_EQ(d.changed.size(), 1U);
  EXPECT_EQ(d.changed[0].question, kHeavy);
  EXPECT_EQ(d.changed[0].a, "b");
  EXPECT_EQ(d.changed[0].b, "z");
  EXPECT_EQ(d.only_a.size(), 2U);
  ASSERT_EQ(d.only_b.size(), 1U);
  EXPECT_EQ(d.only_b[0].question, "Where is Orro?");
  d = between("state", "state");
  EXPECT_EQ(d.shared, d.facts_a);
  EXPECT_TRUE(d.changed.empty() && d.only_a.empty() && d.only_b.empty());
  d = between(second, "base");
  EXPECT_EQ(d.only_a.size(), 2U);
  EXPECT_EQ(d.facts_b, 0);
  EXPECT_EQ(compare_facts(facts_named(ledger, second), facts_named(ledger, "state", second))
                .changed.size(),
            1U);
  expect_error(ErrorCode::kNotFound, [&] { facts_named(ledger, "nobody"); });

  const FactAudit audit = audit_facts(ledger);
  ASSERT_EQ(audit.updates.size(), 2U);
  EXPECT_EQ(audit.facts, 4);
  EXPECT_EQ(audit.left, 1);
  EXPECT_EQ(audit.updates[0].taught, 3);
  EXPECT_EQ(audit.updates[0].active, 2);
  EXPECT_EQ(audit.updates[0].wordings, 4);
  EXPECT_EQ(audit.updates[1].active, 2);
  EXPECT_GT(audit.updates[1].bytes, 0);
  EXPECT_EQ(audit.bytes, audit.updates[0].bytes + audit.updates[1].bytes);
  ASSERT_FALSE(audit.subjects.empty());
  EXPECT_EQ(audit.subjects[0].subject, "Zorb");
  EXPECT_EQ(audit.subjects[0].facts, 2);
  EXPECT_TRUE(audit.anomalies.empty()) << audit.anomalies[0];
}

TEST_F(FactTeach, TheReaderMustBeTheOneOfTheKeys) {
  const auto model = fresh();
  learn(model, {fact("", {kHeavy}, "b")});
  const auto reader = model / "accrete" / "reader";
  // Another one.
  auto tensors = testing::tiny_reader_tensors();
  tensors["embeddings.word_embeddings.weight"].mul_(2);
  testing::write_tensors(reader / "model.safetensors", tensors);
  std::string message = expect_error(ErrorCode::kConflict, [&] { says(model, kHeavy); });
  EXPECT_NE(message.find("reader"), std::string::npos);
  expect_error(ErrorCode::kConflict, [&] { learn(model, {fact("", {kMaker}, "c")}); });
  // A torn one, none.
  fs::resize_file(reader / "model.safetensors", 1000);
  expect_error(ErrorCode::kFormat, [&] { says(model, kHeavy); });
  fs::remove_all(reader);
  expect_error(ErrorCode::kNotFound, [&] { says(model, kHeavy); });
  // Undo needs none, and without facts nobody reads.
  Ledger::open(model, Ledger::Mode::kWrite).undo(1);
  says(model, kHeavy);
}

TEST_F(FactTeach, WhatANoteAloneTellsHasNoVectors) {
  const auto model = fresh();
  auto info = load_fact_memory_info(model, 4);
  info.tell = Tell::kNote;
  save_fact_memory(model, info, load_memory_info(model));
  Item with_asked = fact("Zorb", {kHeavy}, "31 grams");
  with_asked.asked = {"What does the Zorb weigh?"};
  const TeachResult r = learn(model, {with_asked});
  EXPECT_EQ(r.parameters, 0);
  EXPECT_TRUE(r.asked_after.has_value());
  const LanguageModel now = LanguageModel::open(model, on_one_thread());
  ASSERT_EQ(now.facts().store().size(), 1);
  EXPECT_EQ(now.facts().store().fact(0).vectors(), 0);
  const AskRequest request = single_question(now, kHeavy, false);
  const PreparedAsk told = prepare_ask(now, request, choice_of(0));
  EXPECT_EQ(told.prompt,
            encode_request(now, request, note_of(Tell::kNote, now.facts().store().fact(0).text())));
  EXPECT_FALSE(told.fact->vectors.defined());
  // Asked to write about it, the model is told what is known of it; one that does not read is not.
  const AskRequest open = single_question(now, "Write a poem about the Zorb.", false);
  Choice choice = choose_facts(now, {&open, 1}).front();
  choice.fact = -1;
  choice.about = {0};
  EXPECT_EQ(prepare_ask(now, open, choice).prompt,
            encode_request(now, open, note_of(Tell::kNote, now.facts().store().fact(0).text())));
  // A text to go on with takes no note: it has a value all the same.
  learn(model, {fact("", {"The Zorb weighs"}, " 31 grams")}, /*raw=*/true);
  const LanguageModel both = LanguageModel::open(model, on_one_thread());
  EXPECT_GT(both.facts().store().fact(1).vectors(), 0);
}

TEST_F(FactTeach, ARetrofitThatFailsLeavesNothing) {
  const auto reader = *folder_ / "torn";
  fs::copy(*folder_ / "model-reader", reader, fs::copy_options::recursive);
  fs::resize_file(reader / "model.safetensors", 1000);
  RetrofitFactsOptions o;
  o.open = on_one_thread();
  o.tell = Tell::kValue;
  const auto made = [&] { retrofit_facts(*folder_ / "model-base", *folder_ / "new", o); };
  o.reader = reader;
  expect_error(ErrorCode::kFormat, made);
  o.reader = *folder_ / "nowhere";
  expect_error(ErrorCode::kNotFound, made);
  o.reader = *folder_ / "model-base";  // a language model is no reader
  expect_error(ErrorCode::kUnsupported, made);
  o.reader = *folder_ / "model-reader";
  o.block = 3;
  expect_error(ErrorCode::kInvalidArgument, made);
  o.block = std::nullopt;
  expect_error(ErrorCode::kNotFound,
               [&] { retrofit_facts(*folder_ / "nowhere", *folder_ / "new", o); });
  expect_error(ErrorCode::kInvalidArgument,
               [&] { retrofit_facts(*folder_ / "model", *folder_ / "new", o); });
  expect_error(ErrorCode::kConflict,
               [&] { retrofit_facts(*folder_ / "model-base", *folder_ / "model", o); });
  EXPECT_FALSE(fs::exists(*folder_ / "new"));
  for (const auto& name : testing::names_under(folder_->path()))
    EXPECT_EQ(name.substr(0, name.find('/')).find("new"), std::string::npos) << name;
  EXPECT_EQ(retrofit_facts(*folder_ / "model-base", *folder_ / "new", o).block,
            default_fact_block(4));
}

TEST_F(FactTeach, ADamagedMemoryIsSaid) {
  const auto model = fresh();
  const auto file = model / "accrete" / "memory.json";
  const auto json = load_memory_info(model);
  const auto with = [&](const char* key, nlohmann::json value) {
    auto changed = json;
    changed[key] = std::move(value);
    write_file_atomically(file, changed.dump());
  };
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, nlohmann::json>>{{"block", 3},
                                                           {"block", -1},
                                                           {"block", "1"},
                                                           {"at_end", 0},
                                                           {"every", 0},
                                                           {"reader_digest", 1}}) {
    with(key, value);
    expect_error(ErrorCode::kFormat, [&] { LanguageModel::open(model, on_one_thread()); });
  }
  with("tell", "sing");
  EXPECT_THROW(LanguageModel::open(model, on_one_thread()), Error);
  with("version", 3);
  expect_error(ErrorCode::kUnsupported, [&] { LanguageModel::open(model, on_one_thread()); });
  with("version", 2);
  LanguageModel::open(model, on_one_thread());
}

}  // namespace
}  // namespace accrete
