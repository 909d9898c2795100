// The state file in use: models open and learn with it as they do without it, bit for bit.
#include <gtest/gtest.h>

#include "learn/teach.h"
#include "ledger/state_file.h"
#include "measure/score.h"
#include "model/state_digest.h"
#include "tiny_model.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

class State : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::make_tiny_model(model(), 3);
    Rng rng(5);
    for (int u = 0; u < 4; ++u) teach_next(rng);
  }
  fs::path model() const { return folder_ / "model"; }
  fs::path state_file() const { return model() / "accrete" / kStateFile; }

  static TeachOptions options() {
    TeachOptions o;
    o.raw = true;
    o.neighbours = 2;
    o.values.rate = 2;
    o.values.steps = 60;
    o.rows.epochs = 2;
    return o;
  }
  static std::vector<Item> items(int number, Rng& rng) {
    Item item;
    if (number % 4 == 2) {
      item.kind = Item::Kind::kText;
      for (int i = 0; i < 20; ++i) item.text += testing::random_word(rng) + " ";
    } else {
      item.subject = testing::random_word(rng) + testing::random_word(rng);
      item.prompts = {item.subject + " ", "So " + item.subject + " "};
      item.answers = {std::string(1, testing::kLetters[rng.below(testing::kLetters.size())])};
    }
    return {item};
  }
  std::string teach_next(Rng& rng) {
    return teach(model(), testing::as_dataset(items(taught_++, rng)), testing::one_thread(),
                 options(), {})
        .update;
  }
  std::string digest(bool from_updates) const {
    OpenOptions open = testing::one_thread();
    open.from_updates = from_updates;
    const auto digest = LanguageModel::open(model(), open).state_digest();
    if (from_updates) {
      open.with_updates = false;
      EXPECT_EQ(state_digest(LanguageModel::open(model(), open),
                             Ledger::open(model(), Ledger::Mode::kRead)),
                digest);
    }
    return digest;
  }
  bool has_state() const {
    const Ledger ledger = Ledger::open(model(), Ledger::Mode::kRead);
    std::vector<std::string> ids;
    for (const auto& r : ledger.active()) ids.push_back(r.id);
    return StateFile::open(ledger.folder(), ids).has_value();
  }

  testing::TemporaryFolder folder_;
  int taught_ = 0;
};

TEST_F(State, IsTheSameFromTheFileAndFromTheUpdates) {
  ASSERT_TRUE(has_state());
  const auto four = digest(true);
  EXPECT_EQ(digest(false), four);
  Ledger::open(model(), Ledger::Mode::kWrite).undo(2);
  ASSERT_TRUE(has_state());  // a beginning of the file
  EXPECT_EQ(digest(false), digest(true));
  EXPECT_NE(digest(false), four);
  Ledger::open(model(), Ledger::Mode::kWrite).redo(2);
  EXPECT_EQ(digest(false), four);
}

TEST_F(State, ATeachLearnsTheSameWithoutTheFileAndWritesItAnew) {
  Rng rng(9), again(9);
  const auto first = teach_next(rng);
  const auto second = teach_next(rng);
  Ledger::open(model(), Ledger::Mode::kWrite).undo(2);
  fs::remove(state_file());
  taught_ -= 2;
  EXPECT_EQ(teach_next(again), first);
  EXPECT_TRUE(has_state());
  EXPECT_EQ(teach_next(again), second);
  EXPECT_EQ(digest(false), digest(true));
}

TEST_F(State, AnUpdateInTheMiddleThatGoesIsFollowed) {
  {
    Ledger ledger = Ledger::open(model(), Ledger::Mode::kWrite);
    ledger.set_active(ledger.active()[1].id, false);
  }
  EXPECT_EQ(digest(false), digest(true));
  Rng rng(9);
  teach_next(rng);
  EXPECT_TRUE(has_state());
  EXPECT_EQ(digest(false), digest(true));
}

TEST_F(State, AFolderThatCannotHoldItIsNoFailure) {
  fs::remove(state_file());
  fs::create_directory(state_file());  // nothing can be renamed over a folder
  Rng rng(9);
  const auto id = teach_next(rng);
  EXPECT_EQ(Ledger::open(model(), Ledger::Mode::kRead).active().back().id, id);
  EXPECT_FALSE(has_state());
  EXPECT_EQ(digest(false), digest(true));
}

// What is tried is what will be there.
TEST_F(State, AnUpdateOnTrialReadsAsItWillInTheSum) {
  LanguageModel m = LanguageModel::open(model(), testing::one_thread());
  const Ledger ledger = Ledger::open(model(), Ledger::Mode::kRead);
  const auto active = ledger.active();
  std::vector<Update> updates;
  for (const auto& r : active) updates.push_back(ledger.load(r.id));
  const Update last = updates.back();
  updates.pop_back();
  m.set_overlay(updates);
  const Overlay tried = m.overlay_with(last);
  m.add_update(last);
  const Memory& memory = m.memory();
  at::manual_seed(1);
  const auto x = at::randn({40, memory.keys.width()});
  const Accesses accesses = memory.keys.lookup(x);
  // The part on trial speaks at every other token, each other part somewhere.
  const Reach reach = reach_of(last);
  const Gates gates{
      at::stack({at::arange(40).remainder(memory.overlay.anchors.parts).mul(2),
                 at::where(at::arange(40).remainder(2) == 0, tried.last_part(reach), int64_t{-1})},
                1),
      at::rand({40, 2})};
  for (const int64_t block : memory.blocks) {
    const auto a = tried.read(block, accesses, gates);
    const auto b = memory.overlay.read(block, accesses, gates);
    ASSERT_EQ(a.defined(), b.defined());
    if (a.defined()) {
      EXPECT_TRUE(at::allclose(a, b, 1e-4, 1e-4)) << block;
    }
  }
  for (const Reach kind : {Reach::kSubjects, Reach::kText}) {
    const PartAnchors &a = tried.anchors_of(kind), &b = memory.overlay.anchors_of(kind);
    EXPECT_EQ(a.parts, b.parts);
    EXPECT_TRUE(at::equal(a.queries.joined(), b.queries.joined()));
    EXPECT_TRUE(at::equal(a.part, b.part));
  }
  testing::expect_error(ErrorCode::kInternal, [&] {
    m.use_overlay(tried);
    m.overlay_with(last);
  });
}

// Slots are looked up only where something speaks; what is read is what all lookups would give.
TEST_F(State, APassReadsWhatIsHeardAndNothingElse) {
  const LanguageModel m = LanguageModel::open(model(), testing::one_thread());
  const Memory& memory = m.memory();
  ASSERT_FALSE(memory.overlay.open_rows());
  // Inputs of the address block at taught prompts and at words of no meaning.
  std::vector<std::string> prompts;
  const Ledger ledger = Ledger::open(model(), Ledger::Mode::kRead);
  for (const auto& record : ledger.active())
    for (const TaughtItem& item : ledger.load(record.id).taught.items)
      prompts.insert(prompts.end(), item.prompts.begin(), item.prompts.end());
  Rng rng(17);
  for (int i = 0; i < 20; ++i) prompts.push_back(testing::random_word(rng));
  std::vector<at::Tensor> inputs;
  const FfnSide look = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
    if (block == memory.address_block) inputs.push_back(x.reshape({-1, x.size(-1)}));
    return {};
  };
  ForwardOptions forward;
  forward.side = &look;
  for (const auto& prompt : prompts) {
    const std::vector<int64_t> ids(prompt.begin(), prompt.end());
    m.net().forward(at::tensor(ids, at::kLong).unsqueeze(0), forward);
  }
  const auto x = at::cat(inputs);
  const int64_t T = x.size(0);
  const auto mask = at::arange(T).remainder(5) != 0;  // every fifth is padding
  for (const bool padded : {false, true}) {
    const Accesses accesses = memory.keys.lookup(x, padded ? mask : at::Tensor());
    const Gates gates = memory.overlay.gates(memory.gate, memory.keys.queries(x));
    auto silent = (gates.part < 0).all(1);
    if (padded) silent.logical_or_(mask.logical_not());
    ASSERT_TRUE(silent.any().item<bool>());
    ASSERT_FALSE(silent.all().item<bool>());
    const FfnSide side = m.side({padded ? mask : at::Tensor()});
    for (const int64_t block : memory.blocks) {
      const auto got = side(block, x.unsqueeze(0)), want = memory.read(block, accesses, gates);
      ASSERT_TRUE(got.defined() && want.defined());
      EXPECT_TRUE(at::allclose(got[0], want, 1e-4, 1e-5)) << block;
      EXPECT_GT(got.abs().max().item<float>(), 0);
      EXPECT_EQ(got[0].index_select(0, silent.nonzero().view({-1})).abs().sum().item<float>(), 0);
    }
  }
}

// Running text: elsewhere nothing moves, and the text is learned.
TEST_F(State, ATextSpeaksAtItsOwnTokensOnly) {
  Ledger::open(model(), Ledger::Mode::kWrite).undo(4);
  const LanguageModel before = LanguageModel::open(model(), testing::one_thread());
  Rng rng(13);
  taught_ = 2;
  const auto text = items(2, rng).front();
  taught_ = 2;
  Rng again(13);
  const auto id = teach_next(again);
  const Update update = Ledger::open(model(), Ledger::Mode::kRead).load(id);
  EXPECT_EQ(reach_of(update), Reach::kText);
  const LanguageModel after = LanguageModel::open(model(), testing::one_thread());
  const std::vector<std::string> own = {text.text};
  EXPECT_LT(bits_per_byte(after, own), bits_per_byte(before, own));
  // Prompts none of whose tokens comes near: the same bits. In so small a space there are few.
  const Memory& memory = after.memory();
  int silent = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string prompt = testing::random_word(rng);
    std::vector<int64_t> ids(prompt.begin(), prompt.end());
    const auto tokens = at::tensor(ids, at::kLong).unsqueeze(0);
    Gates gates;
    const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
      if (block == memory.address_block)
        gates = memory.overlay.gates(memory.gate, memory.keys.queries(x.reshape({-1, x.size(-1)})));
      return {};
    };
    ForwardOptions look;
    look.side = &side;
    const auto plain = before.net().forward(tokens, look);
    if (gates.part.size(1) > 0) continue;
    ++silent;
    const FfnSide real = after.side();
    ForwardOptions with;
    with.side = &real;
    EXPECT_TRUE(at::equal(after.net().forward(tokens, with), plain)) << prompt;
  }
  EXPECT_GT(silent, 0);
}

// The first token of a prompt is an outlier that all prompts share: an anchor there opens the gate
// for its own token only.
TEST_F(State, FirstTokensOfPromptsDoNotOpenTheGate) {
  const LanguageModel m = LanguageModel::open(model(), testing::one_thread());
  const Memory& memory = m.memory();
  ExampleOptions raw;
  raw.raw = true;
  int shut = 0, open = 0;
  const Ledger ledger = Ledger::open(model(), Ledger::Mode::kRead);
  for (const auto& record : ledger.active()) {
    const Update update = ledger.load(record.id);
    if (reach_of(update) != Reach::kSubjects) continue;
    const auto anchors =
        at::from_blob(const_cast<float*>(update.anchors.queries.data()),
                      {static_cast<int64_t>(update.anchors.queries.size()) / update.anchors.width,
                       update.anchors.width},
                      at::kFloat);
    for (const TaughtItem& item : update.taught.items)
      for (const auto& prompt : item.prompts) {
        const auto ids = encode_prompt(m, prompt, raw);
        const std::vector<int64_t> tokens(ids.begin(), ids.end());
        at::Tensor gate;
        const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
          if (block == memory.address_block)
            gate = memory.gate(memory.keys.queries(x.reshape({-1, x.size(-1)})), anchors);
          return {};
        };
        ForwardOptions look;
        look.side = &side;
        m.net().forward(at::tensor(tokens, at::kLong).unsqueeze(0), look);
        shut += gate[0].item<float>() == 0;
        open += gate.max().item<float>() > 0;
      }
  }
  EXPECT_EQ(shut, 6);
  EXPECT_EQ(open, 6);  // at the subject
}

}  // namespace
}  // namespace accrete
