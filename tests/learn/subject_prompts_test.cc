// What is kept of prompts up to their subjects is what passing them whole gives, whatever updates
// come.
#include "learn/subject_prompts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "../base/testing.h"
#include "../model/tiny_model.h"
#include "learn/value_solver.h"

namespace accrete {
namespace {

class SubjectPromptsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new testing::TemporaryFolder();
    testing::write_tiny_memory_model(*folder_ / "model");
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override {
    model_ = open();
    ExampleOptions raw;
    raw.raw = true;
    std::vector<Item> items;
    for (const char* name : {"Ada Lunt", "Bo Karr", "Z"}) {
      Item item;
      item.kind = Item::Kind::kFact;
      const std::string n = name;
      // Some begin with the subject, of one token in one case; some share a beginning.
      item.prompts = {n + " was born in", "The birthplace of " + n + " is",
                      "The birthplace of " + n, "People know that " + n + " came from"};
      item.answers = {std::string("R") + name[0] + "m"};
      item.subject = name;
      items.push_back(item);
    }
    examples_ = make_examples(model_, items, raw);
    for (const Example& e : examples_) requests_.push_back(asked_states(e));
  }
  // Rows in every third slot; heard everywhere, or near `anchors` [m, w].
  Update some_update(uint64_t seed, const at::Tensor& anchors = {}, bool text = false) const {
    const auto& memory = model_.memory();
    Update update;
    Rng rng(seed);
    for (const int64_t block : memory.blocks) {
      LayerDelta layer;
      layer.block = static_cast<int>(block);
      layer.width = memory.keys.width();
      for (int64_t slot = 0; slot < memory.keys.slots(); slot += 3) {
        layer.indices.push_back(slot);
        for (int64_t i = 0; i < layer.width; ++i) layer.delta.push_back(2 * rng.normal());
      }
      update.layers.push_back(std::move(layer));
    }
    if (!anchors.defined()) return update;
    update.anchors.width = anchors.size(1);
    update.anchors.text = text;
    const auto rows = anchors.contiguous();
    update.anchors.queries.assign(rows.const_data_ptr<float>(),
                                  rows.const_data_ptr<float>() + rows.numel());
    return update;
  }
  // The query of example `i` at its site, or `back` tokens before it.
  at::Tensor query(const SubjectPrompts& prompts, size_t i, int64_t back = 0) const {
    const Reads reads = prompts.reads();
    return reads.queries.narrow(0, reads.begin[i] + prompts.site(i) - back, 1);
  }
  // Both of all requests; returns how far they are from those without any update.
  double compare(const SubjectPrompts& prompts) const {
    const auto whole = tree_states(model_, requests_, {}, "ask");
    const auto kept = prompts.states({}, "ask");
    EXPECT_TRUE(at::allclose(kept, whole, 1e-3, 1e-4)) << (kept - whole).abs().max().item<float>();
    return (kept - base_states()).abs().max().item<double>();
  }
  at::Tensor base_states() const { return tree_states(open(), requests_, {}, "ask"); }
  static LanguageModel open() {
    OpenOptions options;
    options.threads = 1;
    return LanguageModel::open(*folder_ / "model", options);
  }

  static testing::TemporaryFolder* folder_;
  LanguageModel model_;
  std::vector<Example> examples_;
  std::vector<StateRequest> requests_;
};
testing::TemporaryFolder* SubjectPromptsTest::folder_ = nullptr;

TEST_F(SubjectPromptsTest, ReadWhatWholePromptsRead) {
  const SubjectPrompts prompts(model_, examples_, 1 << 20, {}, "read");
  std::vector<ReadRequest> requests;
  int64_t tokens = 0;
  for (const Example& e : examples_) {
    requests.push_back({{e.tokens.begin(), e.tokens.end() - 1}, 0});
    tokens += last_subject_token(e);
  }
  EXPECT_LT(prompts.tokens_before(), 3 * tokens / 4);  // shared ones once
  const Reads whole = read_prompts(model_, requests, true, {}, "read"), kept = prompts.reads();
  EXPECT_EQ(kept.begin, whole.begin);
  EXPECT_TRUE(at::equal(kept.accesses.slots, whole.accesses.slots));
  EXPECT_TRUE(at::allclose(kept.accesses.weights, whole.accesses.weights, 1e-4, 1e-5));
  EXPECT_TRUE(at::allclose(kept.queries, whole.queries, 1e-3, 1e-4));
  const auto sites = prompts.site_states();
  EXPECT_EQ(sites.size(0), static_cast<int64_t>(examples_.size()));
}

TEST_F(SubjectPromptsTest, AnswerAsWholePassesDoWhateverIsUpdated) {
  const SubjectPrompts prompts(model_, examples_, 1 << 20, {}, "read");
  EXPECT_EQ(compare(prompts), 0);
  struct Case {
    const char* name;
    Update update;
    bool heard;
  };
  const at::Tensor far = at::full({1, model_.memory().keys.options().query_width}, 1e3F);
  const Case cases[] = {
      {"heard everywhere", some_update(1), true},
      {"near one subject", some_update(2, query(prompts, 1)), true},
      {"near a token before one", some_update(3, query(prompts, 1, 4)), true},
      {"near a token of a text", some_update(4, query(prompts, 5, 2), true), true},
      {"nowhere", some_update(5, far), false},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const Overlay before = model_.memory().overlay;
    model_.use_overlay(model_.overlay_with(c.update));
    EXPECT_EQ(compare(prompts) > 1e-2, c.heard);
    EXPECT_FALSE(prompts.are_of(examples_, model_.memory().overlay));
    model_.use_overlay(before);
    EXPECT_TRUE(prompts.are_of(examples_, model_.memory().overlay));
  }
}

// The same where updates were there before, and others come.
TEST_F(SubjectPromptsTest, GoOnFromWhatWasThere) {
  const SubjectPrompts first(model_, examples_, 1 << 20, {}, "read");
  for (const bool everywhere : {true, false}) {
    model_.set_overlay({});
    model_.add_update(everywhere ? some_update(1) : some_update(2, query(first, 1, 3)));
    const SubjectPrompts prompts(model_, examples_, 1 << 20, {}, "read");
    EXPECT_GT(compare(prompts), 1e-2);
    const Overlay before = model_.memory().overlay;
    for (const int64_t back : {0, 4}) {
      model_.use_overlay(before.with_trial(some_update(8, query(prompts, 5, back))));
      compare(prompts);
      model_.use_overlay(before);
    }
  }
}

TEST_F(SubjectPromptsTest, KeysOnDiskAreTheSame) {
  const SubjectPrompts prompts(model_, examples_, 1 << 20, {}, "read");
  const SubjectPrompts on_disk(model_, examples_, 0, {}, "read");
  EXPECT_TRUE(at::equal(prompts.states({}, "ask"), on_disk.states({}, "ask")));
}

TEST_F(SubjectPromptsTest, ApplyToPromptsWithSubjectsOnly) {
  EXPECT_TRUE(SubjectPrompts::apply(model_, examples_));
  EXPECT_FALSE(SubjectPrompts::apply(model_, {}));
  const SubjectPrompts prompts(model_, examples_, 1 << 20, {}, "read");
  auto others = examples_;
  others.back().tokens.back() ^= 1;
  EXPECT_FALSE(prompts.are_of(others, model_.memory().overlay));
  others.back().subject.assign(others.back().subject.size(), 0);
  EXPECT_FALSE(SubjectPrompts::apply(model_, others));
  testing::expect_error(ErrorCode::kInternal,
                        [&] { SubjectPrompts(model_, others, 1 << 20, {}, "read"); });
}

}  // namespace
}  // namespace accrete
