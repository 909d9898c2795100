#include "bench/forgetting_data.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/rng.h"

namespace accrete {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr size_t kNativeClozes = 300;  // and as many neighbours

// What a native model was trained on, every second fact a split: 300 in the first phrasing, 300
// others in the second, and all in one that it was not trained on.
void read_native(const fs::path& data, const std::string& name, ForgettingSplit& split) {
  const auto all = read_dataset(data / "native" / "known_facts.jsonl").items;
  for (size_t i = name == "test" ? 1 : 0; i < all.size(); i += 2) {
    Item item = all[i];
    auto prompts = std::move(item.prompts);
    item.prompts = std::move(item.asked);
    item.asked.clear();
    if (!item.prompts.empty()) split.questions.push_back(item);
    auto& to = split.kept.clozes.size() < kNativeClozes ? split.kept.clozes : split.kept.neighbours;
    if (prompts.size() < 2 || to.size() >= kNativeClozes) continue;
    item.prompts = {prompts[&to == &split.kept.clozes ? 0 : 1]};
    to.push_back(std::move(item));
  }
}

// A question has one wording; it is taught in three forms and asked in a fourth.
void reword(Item& question) {
  const std::string q = question.prompts.front();
  question.prompts = {q, "Quiz: " + q + "\nThe answer is:", q + " It is"};
  question.asked = {q};  // behind demonstrations
}

// It knows the wordings that it was trained on, and no other: one of them is held back to ask in.
void hold_wording_back(std::vector<Item>& facts) {
  for (Item& fact : facts) {
    if (fact.prompts.size() < 2) continue;
    fact.asked = {fact.prompts.front()};
    fact.prompts.erase(fact.prompts.begin());
  }
}

std::vector<Item> with_ids(const std::vector<Item>& items, const OrderedJson& ids) {
  const auto wanted = ids.get<std::set<std::string>>();
  std::vector<Item> out;
  for (const Item& item : items)
    if (wanted.contains(item.id)) out.push_back(item);
  return out;
}

}  // namespace

ForgettingSplit read_split(const fs::path& data, const std::string& name,
                           const ForgettingProfile& profile, bool native) {
  ForgettingSplit split;
  const auto limit = [&](std::vector<Item>& items) {
    if (const auto n = static_cast<size_t>(profile.known_limit); n > 0 && items.size() > n)
      items.resize(n);
  };
  const auto file = name + ".jsonl";
  switch (profile.teach) {
    case TeachKind::kFacts:
      split.taught = read_dataset(data / "facts" / file).items;
      break;
    case TeachKind::kQuestions:
      split.taught = read_dataset(data / "questions" / file).items;
      for (Item& item : split.taught) reword(item);
      break;
    case TeachKind::kDocuments:
      split.taught = read_dataset(data / "documents" / file).items;
      split.about = read_dataset(data / "documents" / (name + "_questions.jsonl")).items;
      break;
  }
  if (native) {
    read_native(data, name, split);
    hold_wording_back(split.taught);
  } else {
    split.questions = read_dataset(data / "known" / ("questions_" + file)).items;
    for (Item& item : read_dataset(data / "known" / ("clozes_" + file)).items)
      (item.id.starts_with("known-P") ? split.kept.neighbours : split.kept.clozes)
          .push_back(std::move(item));
    split.kept.few_shot = make_few_shot(read_dataset(data / "known" / "fewshot.jsonl").items);
  }
  limit(split.questions);
  limit(split.kept.neighbours);
  limit(split.kept.clozes);
  const bool test = name == "test";
  split.kept.text =
      read_file(data / "text" / "wikitext2_test_sample.txt")
          .substr(0, static_cast<size_t>(test ? profile.text_bytes : profile.tuning_text_bytes));
  if (profile.abilities && test) split.kept.abilities = read_abilities(data / "abilities");
  return split;
}

OrderedJson find_known(const LanguageModel& model, const ForgettingSplit& split,
                       const ForgettingProfile& profile, const Reporter& reporter) {
  const FewShot* few_shot = split.kept.few_shot ? &*split.kept.few_shot : nullptr;
  enum class Which { kRight, kWrong, kAll };
  const auto ids = [&](const std::vector<Item>& items, const FewShot* shown, Which which) {
    const auto scores = answer_items(model, items, shown, which == Which::kWrong, reporter);
    OrderedJson out = OrderedJson::array();
    for (size_t i = 0; i < scores.size(); ++i)
      if (which == Which::kAll || scores[i].exact == (which == Which::kRight))
        out.push_back(items[i].id);
    return out;
  };
  OrderedJson known;
  known["questions"] =
      ids(split.questions, few_shot, profile.unknown_questions ? Which::kAll : Which::kRight);
  // data/known holds no other sentences than those that the retrofitted model completes.
  if (few_shot == nullptr) {
    known["clozes"] = ids(split.kept.clozes, nullptr, Which::kRight);
    known["neighbours"] = ids(split.kept.neighbours, nullptr, Which::kRight);
  }
  if (profile.teach == TeachKind::kQuestions)
    known["new"] = ids(split.taught, few_shot, Which::kWrong);
  return known;
}

void select_known(ForgettingSplit& split, const OrderedJson& known) {
  const auto keep = [&](std::vector<Item>& from, const std::vector<Item>& of, const char* key) {
    if (known.contains(key)) from = with_ids(of, known.at(key));
  };
  keep(split.kept.questions, split.questions, "questions");
  keep(split.kept.clozes, split.kept.clozes, "clozes");
  keep(split.kept.neighbours, split.kept.neighbours, "neighbours");
  keep(split.taught, split.taught, "new");
}

NewSet draw_new(const ForgettingSplit& split, const ForgettingProfile& profile, int64_t seed) {
  NewSet out;
  out.items = split.taught;
  Rng(static_cast<uint64_t>(seed)).split(1).shuffle(std::span(out.items));
  if (const auto n = static_cast<size_t>(profile.facts); out.items.size() > n) out.items.resize(n);
  std::set<std::string> ids;
  for (const Item& item : out.items) ids.insert(item.id);
  for (const Item& item : split.about)
    if (ids.contains(item.id.substr(0, item.id.rfind('/')))) out.about.push_back(item);
  if (profile.teach != TeachKind::kFacts) out.few_shot = split.kept.few_shot;
  return out;
}

KnownSets known_sets(const LanguageModel& model, const fs::path& data, const std::string& name,
                     const Reporter& reporter) {
  KnownSets out;
  const auto file = name + ".jsonl";
  out.facts = read_dataset(data / "facts" / file).items;
  if (model.net().config().memory) {
    hold_wording_back(out.facts);
    ForgettingSplit split;
    read_native(data, name, split);
    auto clozes = std::move(split.kept.clozes);
    std::move(split.kept.neighbours.begin(), split.kept.neighbours.end(),
              std::back_inserter(clozes));
    out.clozes = discover(model, clozes, std::nullopt, true, reporter);
    out.candidates = std::move(split.questions);
  } else {
    out.clozes = read_dataset(data / "known" / ("clozes_" + file)).items;
    out.candidates = read_dataset(data / "known" / ("questions_" + file)).items;
    out.few_shot = make_few_shot(read_dataset(data / "known" / "fewshot.jsonl").items);
  }
  return out;
}

}  // namespace accrete
