// Updates of facts: as they are written they are read, and nothing else is.
#include "ledger/facts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/file.h"
#include "facts_testing.h"
#include "ledger/ledger.h"
#include "ledger_testing.h"

namespace accrete {
namespace {

using testing::expect_error;
using testing::fact_item;
using testing::facts_update;
using testing::left_item;
using testing::TemporaryFolder;

// Every kind of item.
Update of_all_kinds(uint64_t seed = 1) {
  std::vector<TaughtItem> items = {
      fact_item("Hub 3", {"How heavy is the Hub 3?", "What does the Hub 3 weigh?"}, "2 kg"),
      fact_item("", {"How do I return something?"}, "By post, within 30 days."),
      fact_item("Orro", {"What does the licence of Orro say?"}, "As is.\n\"No\" warranty. \u2603"),
      left_item("Hub 3", {"Tell me about the Hub 3.", "What is the Hub 3?"})};
  items[1].answers.push_back("By post");
  items[1].raw = true;
  items[2].verbatim = true;
  items[3].replaces = {"0123456789abcdef", "fedcba9876543210"};
  return facts_update(seed, items);
}

bool same_facts(const Update& a, const Update& b) {
  return a.facts == b.facts && a.taught == b.taught && a.metadata == b.metadata &&
         a.layers.empty() && b.layers.empty();
}

TEST(Facts, RoundTrip) {
  const TemporaryFolder folder(TemporaryFolder::Place::kMemory);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const Update update = of_all_kinds(seed);
    const std::string id = write_update(folder.path(), update);
    const auto file = folder / update_file_name(id);
    EXPECT_TRUE(same_facts(read_update(file, id), update));
    EXPECT_EQ(rows_of(update), 3 + 4 + 6);  // vectors, keys
    EXPECT_EQ(write_update(folder.path(), read_update(file)), id);
    EXPECT_EQ(reach_of(update), reach_of(read_update(file)));
  }
  EXPECT_EQ(testing::names_under(folder.path()).size(), 8U);
}

TEST(Facts, WithoutAnyValue) {
  const TemporaryFolder folder;
  std::vector<TaughtItem> items = {left_item("", {"Who are you?"}),
                                   fact_item("", {"What is the rule?"}, "None.")};
  items[1].verbatim = true;
  const Update update = facts_update(3, items);
  const std::string id = write_update(folder.path(), update);
  Update read = read_update(folder / update_file_name(id));
  read.facts.width = update.facts.width;  // nothing has it
  EXPECT_TRUE(same_facts(read, update));
}

TEST(Facts, AnyChangeChangesTheId) {
  const TemporaryFolder folder;
  std::set<std::string> ids = {write_update(folder.path(), of_all_kinds())};
  const auto differs = [&](auto&& change) {
    Update update = of_all_kinds();
    change(update);
    EXPECT_TRUE(ids.insert(write_update(folder.path(), update)).second);
  };
  differs([](Update& u) { u.facts.values[3] ^= 1; });
  differs([](Update& u) { u.facts.whole[0] ^= 1; });
  differs([](Update& u) { u.facts.masked[0] ^= 1; });
  differs([](Update& u) { u.facts.answers[0] ^= 1; });
  differs([](Update& u) { u.facts.scales[0] *= 2; });
  differs([](Update& u) { u.facts.answer_scales[1] *= 2; });
  differs([](Update& u) { std::swap(u.facts.vectors[0], u.facts.vectors[1]); });
  differs([](Update& u) { u.taught.items[0].subject = "Hub 4"; });
  differs([](Update& u) { u.taught.items[0].raw = true; });
  differs([](Update& u) { u.taught.items[2].verbatim = false; });
  differs([](Update& u) { u.taught.items[3].replaces.pop_back(); });
}

TEST(Facts, FormatIsPinned) {
  const TemporaryFolder folder;
  const std::string id = write_update(folder.path(), of_all_kinds());
  const SafetensorsFile file = SafetensorsFile::open(folder / update_file_name(id));
  std::set<std::string> names;
  for (const TensorView& tensor : file.tensors()) names.insert(tensor.name);
  EXPECT_EQ(names, (std::set<std::string>{"facts.answer_scales", "facts.answers", "facts.masked",
                                          "facts.scales", "facts.values", "facts.vectors",
                                          "facts.whole", "taught.items"}));
}

TEST(Facts, RefusesToWriteNonsense) {
  const TemporaryFolder folder;
  const auto refused = [&](const char* what, auto&& change) {
    Update update = of_all_kinds();
    change(update);
    SCOPED_TRACE(what);
    expect_error(ErrorCode::kInvalidArgument, [&] { write_update(folder.path(), update); });
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  refused("rows of layers too", [](Update& u) { u.layers = testing::make_update(2).layers; });
  refused("no facts", [](Update& u) { u.facts = {}; });
  refused("no counts", [](Update& u) { u.facts.vectors.clear(); });
  refused("a count too few", [](Update& u) { u.facts.vectors.pop_back(); });
  refused("a negative count", [](Update& u) { u.facts.vectors[0] = -1; });
  refused("another count", [](Update& u) { ++u.facts.vectors[0]; });
  refused("an item too many", [](Update& u) { u.taught.items.push_back(u.taught.items[0]); });
  refused("no texts", [](Update& u) { u.taught.items.clear(); });
  refused("a fact without wordings", [](Update& u) { u.taught.items[0].prompts.clear(); });
  refused("a wording without keys", [](Update& u) { u.taught.items[0].prompts.emplace_back("?"); });
  refused("no answer", [](Update& u) { u.taught.items[0].answers.clear(); });
  refused("left with an answer", [](Update& u) { u.taught.items[3].answers = {"x"}; });
  refused("a value too few", [](Update& u) { u.facts.values.pop_back(); });
  refused("another width", [](Update& u) { u.facts.width = 6; });
  refused("no width", [](Update& u) { u.facts.width = 0; });
  refused("a value that is infinite", [](Update& u) { u.facts.values[0] = 0x7F80; });
  refused("a value that is no number", [](Update& u) { u.facts.values[0] = 0xFFC1; });
  refused("no width of keys", [](Update& u) { u.facts.key_width = 0; });
  refused("another width of keys", [](Update& u) { ++u.facts.key_width; });
  refused("a whole key too few", [](Update& u) { u.facts.whole.resize(u.facts.whole.size() - 7); });
  refused("a masked key too few", [](Update& u) { u.facts.masked.pop_back(); });
  refused("an odd scale", [](Update& u) { u.facts.scales.push_back(1); });
  refused("scales of one more",
          [](Update& u) { u.facts.scales.insert(u.facts.scales.end(), {1, 1}); });
  refused("a scale of 0", [](Update& u) { u.facts.scales[1] = 0; });
  refused("a scale that is no number", [](Update& u) { u.facts.answer_scales[1] = kNan; });
  refused("an answer's key too few", [](Update& u) { u.facts.answers.pop_back(); });
  refused("an answer's scale too few", [](Update& u) { u.facts.answer_scales.pop_back(); });
  refused("a text that is no text", [](Update& u) { u.taught.items[0].prompts[0] = "\xff"; });
  refused("an id that is no text", [](Update& u) { u.taught.items[3].replaces[0] = "\xff"; });
  EXPECT_TRUE(testing::names_under(folder.path()).empty());
}

TEST(Facts, RefusesToReadNonsense) {
  const TemporaryFolder folder;
  const std::string id = write_update(folder.path(), of_all_kinds());
  const SafetensorsFile good = SafetensorsFile::open(folder / update_file_name(id));
  const auto doctored = [&](auto&& change) {
    std::vector<TensorView> tensors = good.tensors();
    Metadata metadata = good.metadata();
    change(tensors);
    write_safetensors(folder / "bad.safetensors", tensors, metadata);
    expect_error(ErrorCode::kFormat, [&] { read_update(folder / "bad.safetensors"); });
  };
  for (size_t i = 0; i < good.tensors().size(); ++i) {
    SCOPED_TRACE(good.tensors()[i].name);
    doctored([&](auto& t) { t.erase(t.begin() + static_cast<ptrdiff_t>(i)); });
    doctored([&](auto& t) { t[i].name += "2"; });
    doctored([&](auto& t) {  // one row less
      if (t[i].shape[0] < 2) return t.clear();
      const size_t row = t[i].bytes.size() / static_cast<size_t>(t[i].shape[0]);
      --t[i].shape[0];
      t[i].bytes = t[i].bytes.first(t[i].bytes.size() - row);
    });
    doctored([&](auto& t) {  // another type of the same size
      const DType is = t[i].dtype;
      t[i].dtype = is == DType::kF32    ? DType::kI32
                   : is == DType::kI32  ? DType::kF32
                   : is == DType::kBF16 ? DType::kF16
                   : is == DType::kI8   ? DType::kU8
                                        : DType::kI8;
    });
    doctored([&](auto& t) {
      t[i].shape = {1, 1, static_cast<int64_t>(t[i].shape[0])},
      t[i].bytes = t[i].bytes.first(
          t[i].bytes.size() /
          static_cast<size_t>(good.tensors()[i].shape.size() < 2 ? 1 : good.tensors()[i].shape[1]));
    });
  }
  // Rows of a layer beside the facts.
  const std::vector<int64_t> indices = {1};
  const std::vector<float> delta = {1};
  doctored([&](auto& t) {
    t.push_back({"3.indices", DType::kI64, {1}, std::as_bytes(std::span(indices))});
    t.push_back({"3.delta", DType::kF32, {1, 1}, std::as_bytes(std::span(delta))});
  });
}

TEST(Facts, EveryFlippedByteIsNoticed) {
  const TemporaryFolder folder(TemporaryFolder::Place::kMemory);
  const std::string id = write_update(folder.path(), of_all_kinds());
  const std::string good = read_file(folder / update_file_name(id));
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ (1 << (at % 8)));
    const auto bytes = std::as_bytes(std::span(bad));
    expect_error(ErrorCode::kFormat, [&] { parse_update(bytes, "u", id); });
    try {  // without the id nothing worse than a refusal or another update
      parse_update(bytes, "u");
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == ErrorCode::kFormat || e.code() == ErrorCode::kUnsupported)
          << e.what();
    }
  }
  for (const size_t size : {size_t{0}, size_t{7}, good.size() / 2, good.size() - 1})
    expect_error(ErrorCode::kFormat,
                 [&] { parse_update(std::as_bytes(std::span(good).first(size)), "u", id); });
}

TEST(Facts, AnOutlineHasTheFacts) {
  const Update update = of_all_kinds();
  const std::string bytes = outline_bytes(update);
  const Update outline = parse_outline(std::as_bytes(std::span(bytes)), "o");
  EXPECT_EQ(outline.facts, update.facts);
  EXPECT_EQ(outline.taught, update.taught);
}

TEST(Facts, TheLedgerKeepsThem) {
  const TemporaryFolder folder;
  Ledger::create(folder.path());
  Ledger ledger = Ledger::open(folder.path(), Ledger::Mode::kWrite);
  const Update update = of_all_kinds();
  const UpdateRecord record = ledger.commit(update, testing::make_record(1));
  EXPECT_EQ(record.rows, rows_of(update));
  EXPECT_TRUE(same_facts(ledger.load(record.id), update));
  ledger.undo(1);
  EXPECT_TRUE(ledger.active().empty());
  ledger.redo(1);
  EXPECT_EQ(ledger.active().size(), 1U);
}

TEST(Facts, TaughtItemsAreStrict) {
  const Update update = of_all_kinds();
  const std::string text = taught_items_to_text(update.taught.items);
  EXPECT_EQ(taught_items_from_text(text, "t"), update.taught.items);
  EXPECT_EQ(text.find("\"leave\": false"), std::string::npos);
  for (const char* bad : {R"({"line": 1, "prompts": ["a"], "answers": ["b"], "verbatim": 1})",
                          R"({"line": 1, "prompts": ["a"], "leave": true, "answers": ["b"]})",
                          R"({"line": 1, "prompts": ["a"], "leave": "yes"})",
                          R"({"line": 1, "leave": true, "answers": ["b"]})",
                          R"({"line": 1, "prompts": ["a"], "answers": ["b"], "replaces": "c"})",
                          R"({"line": 1, "prompts": ["a"], "answers": ["b"], "replaces": [1]})",
                          R"({"line": 1, "prompts": ["a"]})"})
    expect_error(ErrorCode::kFormat, [&] { taught_items_from_text(std::string(bad) + "\n", "t"); });
}

TEST(Facts, AFactIsNamedByItsWordsAndAnswer) {
  const TaughtItem item = fact_item("Hub", {"a", "b"}, "c");
  TaughtItem same_fact = item;
  same_fact.line = 99;
  same_fact.replaces = {"0123456789abcdef"};
  EXPECT_EQ(fact_id(item), fact_id(same_fact));
  EXPECT_TRUE(is_update_id(fact_id(item)));
  std::set<std::string> ids = {fact_id(item)};
  const auto differs = [&](auto&& change) {
    TaughtItem other = item;
    change(other);
    EXPECT_TRUE(ids.insert(fact_id(other)).second);
  };
  differs([](TaughtItem& i) { i.subject = "Hub 3"; });
  differs([](TaughtItem& i) { i.prompts = {"a"}; });
  differs([](TaughtItem& i) { i.prompts = {"ab"}; });
  differs([](TaughtItem& i) { i.prompts = {"a", "b", "c"}, i.answers = {}; });
  differs([](TaughtItem& i) { i.answers = {"d"}; });
  differs([](TaughtItem& i) { i.raw = true; });
  differs([](TaughtItem& i) { i.verbatim = true; });
  differs([](TaughtItem& i) { i.leave = true; });
}

TEST(Facts, AKeyComesBackWithinHalfAStep) {
  Rng rng(5);
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<float> key(48);
    for (float& x : key) x = static_cast<float>(rng.normal());
    if (trial == 0) key.assign(48, 0.0F);
    std::vector<int8_t> out(48);
    const float scale = quantize_key(key.data(), 48, out.data());
    ASSERT_GT(scale, 0);
    for (size_t i = 0; i < key.size(); ++i)
      EXPECT_LE(std::abs(key[i] - scale * static_cast<float>(out[i])), 0.5001F * scale);
  }
}

}  // namespace
}  // namespace accrete
