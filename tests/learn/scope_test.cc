// Scoped updates: what is asked otherwise about their subjects is answered as by the base.
#include "memory/scope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "eval/probe.h"
#include "eval/score.h"
#include "learn/compact.h"
#include "learn/probe_watch.h"
#include "learn/teach.h"
#include "model/answer_pass.h"
#include "model/generate.h"
#include "model/prompt_tree.h"
#include "model/state_digest.h"
#include "tiny_model.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::as_dataset;
using testing::one_thread;

// Of the states that one taught prompt was asked in and that it is asked in now, which differ by
// rounding only.
constexpr double kSame = 1e-3;

TEST(ScopeFit, HalfWhitensTheFirstComponents) {
  at::manual_seed(3);
  const auto scales = at::tensor({9.0F, 4.0F, 1.0F, 0.25F});
  const auto h = at::randn({4000, 4}) * scales + 2;
  const Scope scope = fit_scope(h, 3);
  EXPECT_EQ(scope.width(), 3);
  const auto z = scope.states(h);
  const auto variance = z.var(0);
  // Standard deviations 9, 4 and 1 become 3, 2 and 1.
  const float expected[] = {9, 4, 1};
  for (int64_t c = 0; c < 3; ++c) EXPECT_NEAR(variance[c].item<float>(), expected[c], 0.6F) << c;
  EXPECT_NEAR(z.mean(0).abs().max().item<float>(), 0, 1e-3);
  EXPECT_TRUE(at::equal(fit_scope(h, 3).projection, scope.projection));
  // 0.55 of the median distance of two, which is sqrt(2 (9 + 4 + 1)) or a little less.
  EXPECT_GT(scope.radius, 0.55 * 3.5);
  EXPECT_LT(scope.radius, 0.55 * std::sqrt(28.0));
}

class Scoped : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::make_tiny_model(model(), 3);
    set_radius(kSame);
  }
  fs::path model() const { return folder_ / "model"; }
  void set_radius(double radius) const {
    const auto path = model() / "accrete" / "memory.json";
    auto json = nlohmann::json::parse(read_file(path));
    json["scope"]["radius"] = radius;
    write_file_atomically(path, json.dump());
  }
  static TeachOptions options(bool scoped = true) {
    TeachOptions o;
    o.raw = true;
    o.neighbours = 2;
    o.values.rate = 2;
    o.values.steps = 80;
    o.scoped = scoped;
    return o;
  }
  static Item fact(const std::string& subject, const std::string& answer,
                   const std::string& before = "So ") {
    Item item;
    item.subject = subject;
    item.prompts = {before + subject + " ", "or " + before + subject + " "};
    item.answers = {answer};
    return item;
  }
  std::string teach_these(const std::vector<Item>& items, bool scoped = true) const {
    return teach(model(), as_dataset(items), one_thread(), options(scoped), {}).update;
  }
  LanguageModel open(bool with_updates = true) const {
    OpenOptions o = one_thread();
    o.with_updates = with_updates;
    return LanguageModel::open(model(), o);
  }
  static at::Tensor ids(const std::string& text) {
    return at::tensor(std::vector<int64_t>(text.begin(), text.end()), at::kLong).unsqueeze(0);
  }
  // Last states of every token, as the model answers.
  static at::Tensor answers(const LanguageModel& m, const std::string& text) {
    const at::NoGradGuard no_grad;
    return AnswerPass(m).run({ids(text), {}, {}, {}},
                             at::arange(static_cast<int64_t>(text.size()), at::kLong));
  }
  // The same of one pass with what `options` let be heard.
  static at::Tensor one_pass(const LanguageModel& m, const std::string& text,
                             const SideOptions& options = {}) {
    const at::NoGradGuard no_grad;
    const FfnSide side = m.side(options);
    ForwardOptions forward;
    forward.side = &side;
    return m.net().run(m.net().embed(ids(text)), 0, m.net().config().blocks, forward)[0];
  }
  static double share_right(const LanguageModel& m, const std::vector<Item>& items) {
    ExampleOptions raw;
    raw.raw = true;
    return exact_rate(score_examples(m, make_examples(m, items, raw)));
  }

  testing::TemporaryFolder folder_;
};

TEST_F(Scoped, AnswersWhatItWasTaughtAndNothingElseAboutTheSubject) {
  const std::vector<Item> items = {fact("Olbert", "q"), fact("Maruna", "z")};
  const auto id = teach_these(items);
  const LanguageModel base = open(false), m = open();
  EXPECT_EQ(share_right(m, items), 1);
  EXPECT_LT(share_right(base, items), 1);
  // Other prompts about the same subject: heard, but out of scope, so they are the base's bits.
  int heard = 0;
  for (const std::string text : {"not Olbert at all", "But Maruna will go", "Olbert Olbert."}) {
    const auto plain = one_pass(base, text);
    heard += !at::equal(one_pass(m, text), plain);
    EXPECT_TRUE(at::equal(answers(m, text), plain)) << text;
  }
  EXPECT_GT(heard, 0);
  const Update update = Ledger::open(model(), Ledger::Mode::kRead).load(id);
  EXPECT_EQ(subjects_of(update), 2);
  // Two facts, two phrasings, each alone and behind a context, one label each.
  EXPECT_EQ(update.scope.subjects.size(), 8U);
  EXPECT_EQ(update.anchors.subjects.size() * static_cast<size_t>(update.anchors.width),
            update.anchors.queries.size());
}

TEST_F(Scoped, AWideScopeIsNone) {
  const std::vector<Item> items = {fact("Olbert", "q"), fact("Maruna", "z")};
  teach_these(items);
  set_radius(1e9);
  const LanguageModel m = open();
  for (const std::string text : {"So Olbert ", "not Olbert at all", "nothing of the kind"})
    EXPECT_TRUE(at::equal(answers(m, text), one_pass(m, text))) << text;
}

// What one subject is asked opens nothing for another.
TEST_F(Scoped, TheScopeIsThatOfTheSubjectThatWasHeard) {
  teach_these({fact("Olbert", "q", "So "), fact("Maruna", "z", "Yet ")});
  const LanguageModel m = open(), base = open(false);
  const Memory& memory = m.memory();
  const auto z = [&](const std::string& text) {
    const auto h = one_pass(base, text);
    return memory.scope.states(
        rms_norm(h.narrow(0, h.size(0) - 1, 1), m.net().final_norm(), m.net().config().norm_eps));
  };
  const auto in = [&](const std::string& text, const std::vector<int64_t>& subjects) -> bool {
    return memory.overlay.in_scope(z(text), {&subjects, 1}, kSame).at(0);
  };
  EXPECT_TRUE(in("So Olbert ", {0}));
  EXPECT_FALSE(in("So Olbert ", {1}));
  EXPECT_TRUE(in("So Olbert ", {0, 1}));
  EXPECT_FALSE(in("So Olbert ", {}));
  EXPECT_TRUE(in("Yet Maruna ", {1}));
  EXPECT_FALSE(in("Yet Maruna ", {0}));
}

TEST_F(Scoped, FactsAboutOneSubjectShareItsScope) {
  const std::vector<Item> items = {fact("Olbert", "q"), fact("Olbert", "j", "Yet ")};
  const auto id = teach_these(items);
  const Update update = Ledger::open(model(), Ledger::Mode::kRead).load(id);
  EXPECT_EQ(subjects_of(update), 1);
  EXPECT_EQ(update.scope.subjects.size(), 8U);
}

// Token by token with a cache, and several prompts at once, as in one pass.
TEST_F(Scoped, GenerationAnswersAsOnePassDoes) {
  teach_these({fact("Olbert", "q"), fact("Maruna", "z")});
  const LanguageModel m = open();
  const at::NoGradGuard no_grad;
  for (const double radius : {kSame, 2.0}) {
    set_radius(radius);
    const LanguageModel now = open();
    const std::string text = "well So Olbert q and not Maruna z of So Maruna ";
    const auto whole = answers(now, text);
    AnswerPass pass(now, /*cached=*/true);
    std::vector<at::Tensor> parts;
    for (size_t at = 0, step = 9; at < text.size(); at += step, step = 1) {
      const auto piece = text.substr(at, step);
      parts.push_back(pass.run({ids(piece), {}, {}, {}},
                               at::arange(static_cast<int64_t>(piece.size()), at::kLong)));
    }
    EXPECT_TRUE(at::allclose(at::cat(parts), whole, 1e-4, 1e-4)) << radius;
  }
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string text :
       {"shared words: So Olbert ", "shared words: not Olbert", "shared words: or So Maruna "})
    prompts.emplace_back(text.begin(), text.end());
  GenerateOptions options;
  options.max_tokens = 5;
  const auto together = generate(m, prompts, options);
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(generate(m, {&prompts[i], 1}, options)[0].tokens, together[i].tokens) << i;
    // Greedy tokens one by one, each from a pass over everything before it.
    auto so_far = prompts[i];
    for (const int32_t token : together[i].tokens) {
      const std::string text(so_far.begin(), so_far.end());
      const auto last = answers(m, text).narrow(0, static_cast<int64_t>(text.size()) - 1, 1);
      EXPECT_EQ(m.net().logits(last).argmax(1).item<int64_t>(), token) << i;
      so_far.push_back(token);
    }
  }
}

// Probes are scored above the address block only; the outcome is the same.
TEST_F(Scoped, WatchedProbesScoreAsProbesDo) {
  LanguageModel m = open();
  const auto known = testing::known_facts(m, 25, Rng(2));
  testing::add_probe(model(), "known", known, 0);
  const Probe probe = load_probes(Ledger::open(model(), Ledger::Mode::kRead)).front();
  Item other = known[3];
  other.prompts = {"So " + known[3].subject + " "};
  other.answers = {"!"};
  for (const double radius : {kSame, 1e9}) {
    set_radius(radius);
    const LanguageModel before = open();
    const Proposal proposal =
        propose(before, {fact("Olbert", "q"), other},
                load_background(model(), before.memory().keys), {}, options(), {});
    WatchedProbe watched(before, probe);
    EXPECT_DOUBLE_EQ(watched.score_now(), 1);
    const Update* all[] = {&proposal.update};
    const Overlay overlay = before.make_overlay(all);
    const auto touched = watched.touched(overlay, proposal.update);
    const double after = watched.score_with(touched, watched.states(overlay, touched));
    LanguageModel taught = open();
    taught.set_overlay({proposal.update});
    EXPECT_DOUBLE_EQ(after, probe_score(taught, probe)) << radius;
    // In a scope that is none the known fact falls with the new one.
    if (radius == kSame)
      EXPECT_EQ(after, 1);
    else
      EXPECT_LT(after, 1);
    const ProbeForecast f = forecast(watched, overlay, proposal.update, {}, {});
    EXPECT_NEAR(f.now + f.predicted, after, 1e-9);  // few are touched: all are tried
    ForecastOptions guess;
    guess.try_all_when_few = false;
    guess.exact_examples = 0;
    if (radius == kSame) {
      EXPECT_NEAR(forecast(watched, overlay, proposal.update, guess, {}).predicted, 0, 1e-6);
    }
  }
}

TEST_F(Scoped, StaysTheSameInEveryForm) {
  const std::vector<Item> items = {fact("Olbert", "q"), fact("Maruna", "z"), fact("Quist", "x")};
  const auto empty = open().state_digest();
  for (size_t i = 0; i < items.size(); ++i) teach_these({items[i]}, /*scoped=*/i != 1);
  const auto digest = open().state_digest();
  OpenOptions from_updates = one_thread();
  from_updates.from_updates = true;
  EXPECT_EQ(LanguageModel::open(model(), from_updates).state_digest(), digest);
  EXPECT_EQ(state_digest(open(false), Ledger::open(model(), Ledger::Mode::kRead)), digest);
  const std::string text = "So Olbert q, So Maruna z, not Quist and Maruna";
  const auto before = answers(open(), text);
  compact(model(), one_thread(), "test");
  EXPECT_EQ(open().state_digest(), digest);
  EXPECT_TRUE(at::equal(answers(open(), text), before));
  EXPECT_EQ(share_right(open(), items), 1);
  Ledger::open(model(), Ledger::Mode::kWrite).undo(1);
  EXPECT_TRUE(at::equal(answers(open(), text), before));
  Ledger::open(model(), Ledger::Mode::kWrite).undo(3);
  EXPECT_EQ(open().state_digest(), empty);
}

// The NLL of an example's labels by whole passes of the network.
double nll_by_passes(const LanguageModel& model, const Example& example) {
  const at::NoGradGuard no_grad;
  const Batch batch = make_batches({&example, 1}, 2048).front();
  const auto h = AnswerPass(model).run({batch.ids, batch.mask, {}, {}}, batch.positions);
  const auto p = at::log_softmax(model.net().logits(h).to(at::kDouble), 1);
  return -p.gather(1, batch.labels.unsqueeze(1)).sum().item<double>();
}

// Examples are passed as a tree, in two streams; one alone as any prompt is.
TEST_F(Scoped, ScoresOfManyAreThoseOfEachAlone) {
  teach_these({fact("Olbert", "q"), fact("Maruna", "z")});
  const LanguageModel m = open();
  std::vector<Item> items;
  for (const char* name : {"Olbert", "Maruna", "Tarmond"}) {
    Item item = fact(name, "q");
    for (const char* tail : {" is", " is very", " and Olbert ", " and Maruna are"})
      item.prompts.push_back(std::string("So ") + name + tail);
    items.push_back(item);
  }
  ExampleOptions raw;
  raw.raw = true;
  const auto examples = make_examples(m, items, raw);
  std::vector<StateRequest> requests;
  for (const Example& e : examples) requests.push_back(asked_states(e));
  ASSERT_LT(share_passed_once(requests), 0.7);
  const auto together = score_examples(m, examples);
  bool within = false, without = false;
  const LanguageModel base = open(false);
  for (size_t i = 0; i < examples.size(); ++i) {
    const double alone = nll_by_passes(m, examples[i]);
    EXPECT_NEAR(together[i].nll, alone, 1e-4) << i;
    (std::abs(alone - nll_by_passes(base, examples[i])) < 1e-6 ? without : within) = true;
  }
  EXPECT_TRUE(within && without);

  // What scoped updates do not change, kept from before there were any or from after.
  for (const LanguageModel* first : {&base, &m}) {
    at::Tensor silent;
    score_examples(*first, examples, {}, "score", &silent);
    ASSERT_TRUE(silent.defined());
    EXPECT_TRUE(at::allclose(silent, tree_states(base, requests, true, {}, "read"), 1e-4, 1e-4));
    const auto again = score_examples(m, examples, {}, "score", &silent);
    for (size_t i = 0; i < examples.size(); ++i)
      EXPECT_NEAR(again[i].nll, together[i].nll, 1e-4) << i;
  }
}

// The states of phrasings that were read before make the same scope.
TEST_F(Scoped, KnownStatesSavePasses) {
  const std::vector<Item> items = {fact("Olbert", "q"), fact("Maruna", "z")};
  const LanguageModel m = open();
  ExampleOptions raw;
  raw.raw = true;
  const auto examples = make_examples(m, items, raw);
  KnownStates known{examples, {}};
  score_examples(m, examples, {}, "score", &known.silent);
  const AccessLog log = load_background(model(), m.memory().keys);
  const auto states = [&](const KnownStates& k) {
    const UpdateScope scope = propose(m, items, log, {}, options(), {}, {}, {}, {}, k).update.scope;
    // By subject, in whatever order.
    std::multimap<int32_t, double> sums;
    for (size_t i = 0; i < scope.subjects.size(); ++i) {
      double sum = 0;
      for (int64_t w = 0; w < scope.width; ++w)
        sum += scope.states[i * static_cast<size_t>(scope.width) + static_cast<size_t>(w)];
      sums.emplace(scope.subjects[i], sum);
    }
    std::vector<double> out;
    for (int32_t s = 0; s < 2; ++s) {
      const auto [begin, end] = sums.equal_range(s);
      std::vector<double> own;
      for (auto it = begin; it != end; ++it) own.push_back(it->second);
      std::sort(own.begin(), own.end());
      out.insert(out.end(), own.begin(), own.end());
    }
    return out;
  };
  const auto fresh = states({}), saved = states(known);
  ASSERT_EQ(fresh.size(), saved.size());
  for (size_t i = 0; i < fresh.size(); ++i) EXPECT_NEAR(fresh[i], saved[i], 1e-3) << i;
}

TEST_F(Scoped, IsRefusedWhereItCannotBe) {
  const auto path = model() / "accrete" / "memory.json";
  auto json = nlohmann::json::parse(read_file(path));
  json.erase("scope");
  write_file_atomically(path, json.dump());
  testing::expect_error(ErrorCode::kUnsupported, [&] { teach_these({fact("Olbert", "q")}); });
  EXPECT_EQ(share_right(open(), {fact("Olbert", "q")}), 0);
}

}  // namespace
}  // namespace accrete
