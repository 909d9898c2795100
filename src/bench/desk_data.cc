#include "bench/desk_data.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "base/rng.h"
#include "io/strict_json.h"
#include "text/wording.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kCorrected = 9;
constexpr size_t kAboutFacts = 200;  // questions about the subjects of many facts

std::vector<json> read_lines(const fs::path& path) {
  const std::string text = read_text(path);
  std::vector<json> out;
  int64_t line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    ++line;
    if (end > at)
      out.push_back(
          parse_json(std::string_view(text).substr(at, end - at), path.string(), {}, line));
    at = end + 1;
  }
  return out;
}

std::vector<std::string> strings(const fs::path& path, const char* key) {
  std::vector<std::string> out;
  for (const json& line : read_lines(path)) {
    if (!line.is_object() || !line.contains(key) || !line.at(key).is_string())
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: a line has no \"{}\"", path.string(), key));
    out.push_back(line.at(key).get<std::string>());
  }
  return out;
}

void number(std::vector<Item>& items) {
  for (size_t i = 0; i < items.size(); ++i) items[i].line = static_cast<int64_t>(i) + 1;
}

std::string replaced(std::string text, std::string_view slot, const std::string& by) {
  for (size_t at = text.find(slot); at != std::string::npos; at = text.find(slot, at + by.size()))
    text.replace(at, slot.size(), by);
  return text;
}

// Wordings of a relation's template for a subject; what is optional in it is left away.
std::string filled(std::string text, const std::string& subject) {
  text = replaced(std::move(text), "[X]", subject);
  for (size_t at = text.find('['); at != std::string::npos; at = text.find('[')) {
    const size_t end = text.find(']', at);
    if (end == std::string::npos) break;
    text.erase(at, end - at + 1);
  }
  return text;
}

// Relations of which a person can be the subject.
constexpr const char* kOfPersons[] = {"P19", "P20", "P27", "P101", "P106", "P108", "P937", "P1412"};

std::string relation_of(const Item& item) {
  return item.id.substr(0, item.id.find('-'));
}

// Names that nobody has: the first word of one, the last of another. Those of the two splits have
// none in common.
class InventedNames {
 public:
  InventedNames(const fs::path& file, bool test, Rng rng) : rng_(rng), test_(test) {
    const std::string text = read_text(file);
    std::set<std::string> first, last;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string name = text.substr(at, end - at);
      at = end + 1;
      used_.insert(name_key(name));
      const size_t a = name.find(' '), b = name.rfind(' ');
      if (a == std::string::npos) continue;
      first.insert(name.substr(0, a));
      last.insert(name.substr(b + 1));
    }
    first_.assign(first.begin(), first.end());
    last_.assign(last.begin(), last.end());
  }
  void taken(const std::string& name) { used_.insert(name_key(name)); }
  std::string next() {
    for (;;) {
      const size_t a = rng_.below(first_.size()), b = rng_.below(last_.size());
      if (((a + b) % 2 == 1) != test_) continue;
      std::string name = first_[a] + " " + last_[b];
      if (used_.insert(name_key(name)).second) return name;
    }
  }

 private:
  Rng rng_;
  bool test_;
  std::set<std::string> used_;
  std::vector<std::string> first_, last_;
};

}  // namespace

const std::vector<std::string>& desk_sections() {
  static const std::vector<std::string> names = {
      "thing12",   "thing36",    "things144", "shop", "clinc5", "clinc10",  "facts100",
      "facts1000", "facts10000", "raw200",    "long", "use",    "messages", "corrections"};
  return names;
}

DeskData::DeskData(fs::path data, std::string split)
    : unrelated(strings(data / "desk" / "unrelated.jsonl", "question")),
      systems(strings(data / "desk" / "systems.jsonl", "system")),
      data_(std::move(data)),
      split_(std::move(split)),
      open_(strings(data_ / "desk" / "open.jsonl", "request")) {
  const fs::path path = data_ / "desk" / "conversations.jsonl";
  for (const json& line : read_lines(path)) {
    std::vector<Message> messages;
    try {
      for (const json& m : line.at("messages"))
        messages.push_back({m.at("role").get<std::string>(), m.at("content").get<std::string>()});
    } catch (const json::exception& e) {
      throw Error(ErrorCode::kFormat, accrete::format("{}: {}", path.string(), e.what()));
    }
    conversations.push_back(std::move(messages));
  }
}

DeskSet DeskData::section(const std::string& name, uint64_t seed, int64_t most_uses) const {
  DeskSet out;
  if (name == "thing12") {
    out = things(1, 12, seed);
  } else if (name == "thing36") {
    out = things(1, 36, seed);
  } else if (name == "things144") {
    out = things(4, 36, seed);
  } else if (name == "corrections") {
    out = things(1, 36, seed);
    // The new answers are those of facts that were left out: of the same thing, and never the old.
    const auto all = by_thing();
    std::set<std::string> ids;
    for (const Item& item : out.taught) ids.insert(item.id);
    std::set<std::string> said;
    for (const Item& item : out.taught) said.insert(item.answers.front());
    for (const auto& thing : all)
      for (const Item& item : thing)
        if (thing.front().subject == out.taught.front().subject && !ids.contains(item.id) &&
            out.correct.size() < kCorrected && said.insert(item.answers.front()).second)
          out.correct.push_back(item.answers.front());
  } else if (name == "shop") {
    out = shop();
  } else if (name == "messages") {
    out = messages();
  } else if (name == "clinc5") {
    out = clinc(5, seed);
  } else if (name == "clinc10") {
    out = clinc(10, seed);
  } else if (name == "facts100") {
    out = distinct(100, false, seed);
  } else if (name == "facts1000") {
    out = distinct(1000, false, seed);
  } else if (name == "facts10000") {
    out = distinct(10000, false, seed);
  } else if (name == "raw200") {
    out = distinct(200, true, seed);
  } else if (name == "long") {
    out = long_answers();
  } else if (name == "use") {
    out = uses(seed, most_uses);
  } else {
    throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no section \"{}\"", name),
                accrete::format("use of: {}", accrete::joined(desk_sections(), ", ")));
  }
  out.section = name;
  number(out.taught);
  return out;
}

std::vector<std::vector<Item>> DeskData::by_thing() const {
  std::vector<std::vector<Item>> out;
  std::map<std::string, size_t> at;
  for (Item& item : read_dataset(data_ / "desk" / ("things_" + split_ + ".jsonl")).items) {
    const auto [it, fresh] = at.try_emplace(item.subject, out.size());
    if (fresh) out.emplace_back();
    out[it->second].push_back(std::move(item));
  }
  return out;
}

void DeskData::add_open(DeskSet& set, std::vector<std::string> names) const {
  for (const std::string& name : names)
    for (const std::string& request : open_) set.open.push_back(replaced(request, "{}", name));
}

DeskSet DeskData::things(int64_t things, int64_t facts, uint64_t seed) const {
  DeskSet out;
  auto all = by_thing();
  const auto n = static_cast<int64_t>(all.size());
  std::set<std::string> names;
  for (int64_t t = 0; t < std::min(things, n); ++t) {
    auto& thing = all[(seed + static_cast<uint64_t>(t)) % all.size()];
    Rng(seed).split(10 + static_cast<uint64_t>(t)).shuffle(std::span(thing));
    names.insert(thing.front().subject);
    for (size_t i = 0; i < thing.size(); ++i) {
      Item& item = thing[i];
      if (static_cast<int64_t>(i) < facts) {
        out.taught.push_back(item);
        continue;
      }
      out.left.insert(out.left.end(), item.prompts.begin(), item.prompts.end());
      out.left.insert(out.left.end(), item.asked.begin(), item.asked.end());
    }
  }
  for (const json& line : read_lines(data_ / "desk" / ("twins_" + split_ + ".jsonl")))
    if (names.contains(line.value("of", std::string())))
      out.twins.push_back(line.value("question", std::string()));
  add_open(out, {names.begin(), names.end()});
  return out;
}

DeskSet DeskData::shop() const {
  DeskSet out;
  out.taught = read_dataset(data_ / "desk" / ("shop_" + split_ + ".jsonl")).items;
  out.left = strings(data_ / "desk" / ("shop_left_" + split_ + ".jsonl"), "question");
  return out;
}

// Everything of the shop and of all things is taught at once.
DeskSet DeskData::messages() const {
  DeskSet out;
  out.taught = read_dataset(data_ / "desk" / ("shop_" + split_ + ".jsonl")).items;
  for (auto& thing : by_thing())
    for (Item& item : thing) out.taught.push_back(std::move(item));
  std::map<std::string, size_t> at;
  for (size_t i = 0; i < out.taught.size(); ++i) {
    out.taught[i].asked.clear();
    at[out.taught[i].id] = i;
  }
  const fs::path path = data_ / "desk" / ("messages_" + split_ + ".jsonl");
  for (const json& line : read_lines(path)) {
    const std::string text = line.at("message").get<std::string>();
    out.kinds[text] = line.at("kind").get<std::string>();
    if (line.at("fact").is_null()) {
      out.left.push_back(text);
      continue;
    }
    const auto fact = at.find(line.at("fact").get<std::string>());
    if (fact == at.end())
      throw Error(ErrorCode::kFormat, path.string() + " asks for a fact that is not taught", text);
    out.taught[fact->second].asked.push_back(text);
  }
  return out;
}

DeskSet DeskData::clinc(size_t wordings, uint64_t seed) const {
  DeskSet out;
  const fs::path desk = data_ / "desk";
  const bool test = split_ == "test";
  std::map<std::string, size_t> at;
  const auto texts = [&](const char* file, const auto& add) {
    for (const json& line : read_lines(desk / file))
      add(line.at("intent").get<std::string>(), line.at("q").get<std::string>());
  };
  for (const json& line : read_lines(desk / "clinc_answers.jsonl")) {
    Item item;
    item.id = line.at("intent").get<std::string>();
    item.answers = {line.at("answer").get<std::string>()};
    at[item.id] = out.taught.size();
    out.taught.push_back(std::move(item));
  }
  // The first seed teaches the first requests of the file, the others others. Two intents never
  // share one.
  std::map<std::string, std::vector<std::string>> requests;
  texts("clinc_train.jsonl", [&](const std::string& intent, const std::string& text) {
    requests[intent].push_back(text);
  });
  std::set<std::string> taken;
  for (Item& item : out.taught) {
    auto& own = requests[item.id];
    if (seed > 0) Rng(seed).split(40).split(at[item.id]).shuffle(std::span(own));
    for (const std::string& text : own)
      if (item.prompts.size() < wordings && taken.insert(name_key(text)).second)
        item.prompts.push_back(text);
  }
  texts(test ? "clinc_test.jsonl" : "clinc_val.jsonl",
        [&](const std::string& intent, const std::string& text) {
          if (const auto it = at.find(intent); it != at.end())
            out.taught[it->second].asked.push_back(text);
        });
  out.left = strings(desk / (test ? "clinc_oos_test.jsonl" : "clinc_oos_val.jsonl"), "q");
  return out;
}

DeskSet DeskData::distinct(size_t facts, bool raw, uint64_t seed) const {
  DeskSet out;
  out.raw = raw;
  const fs::path folder = data_ / "facts";
  auto all = read_dataset(folder / (split_ + (raw ? ".jsonl" : "_questions.jsonl"))).items;
  const json templates = read_json_object(folder / "templates.json");
  const auto wordings = [&](const std::string& relation, bool asked, const std::string& subject) {
    std::vector<std::string> texts;
    const std::string key = std::string(asked ? "asked" : "taught") + (raw ? "" : "_questions");
    for (const json& text : templates.at(relation).at(key))
      texts.push_back(filled(text.get<std::string>(), subject));
    return texts;
  };
  std::map<std::string, std::vector<std::string>> answers;
  for (const Item& item : all) answers[relation_of(item)].push_back(item.answers.front());

  Rng rng = Rng(seed).split(50);
  rng.shuffle(std::span(all));
  InventedNames names(data_ / "names.txt", split_ == "test", Rng(seed).split(51));
  std::set<std::string> subjects;
  for (const Item& item : all) names.taken(item.subject);
  for (Item& item : all)
    if (out.taught.size() < facts && subjects.insert(name_key(item.subject)).second)
      out.taught.push_back(std::move(item));
  while (out.taught.size() < facts) {
    const std::string relation = kOfPersons[rng.below(std::size(kOfPersons))];
    const auto& some = answers.at(relation);
    Item item;
    item.subject = names.next();
    item.id = relation + "-" + item.subject;
    item.prompts = wordings(relation, false, item.subject);
    item.asked = wordings(relation, true, item.subject);
    item.answers = {some[rng.below(some.size())]};
    out.taught.push_back(std::move(item));
  }
  if (!raw)
    for (Item& item : out.taught) {
      item.prompts.resize(std::min<size_t>(item.prompts.size(), 2));
      item.asked.resize(std::min<size_t>(item.asked.size(), 1));
    }
  // Another relation of the same subjects, and the same of others.
  std::vector<std::string> relations;
  for (const auto& [relation, texts] : templates.items()) relations.push_back(relation);
  for (size_t i = 0; i < std::min(kAboutFacts, out.taught.size()); ++i) {
    const Item& item = out.taught[i];
    std::string other = relation_of(item);
    while (other == relation_of(item)) other = relations[rng.below(relations.size())];
    out.left.push_back(wordings(other, false, item.subject).front());
    out.twins.push_back(wordings(relation_of(item), true, names.next()).front());
  }
  std::vector<std::string> some;
  for (size_t i = 0; i < std::min<size_t>(4, out.taught.size()); ++i)
    some.push_back(out.taught[i].subject);
  if (!raw) add_open(out, some);
  return out;
}

DeskSet DeskData::long_answers() const {
  DeskSet out;
  out.taught = read_dataset(data_ / "desk" / ("long_" + split_ + ".jsonl")).items;
  std::set<std::string> names;
  for (const Item& item : out.taught)
    if (!item.subject.empty()) names.insert(item.subject);
  add_open(out, {names.begin(), names.end()});
  return out;
}

DeskSet DeskData::uses(uint64_t seed, int64_t most) const {
  DeskSet out;
  const fs::path path = data_ / "desk" / ("use_" + split_ + ".jsonl");
  int64_t line = 0;
  for (const json& one : read_lines(path)) out.use.push_back(parse_use(one, path.string(), ++line));
  out.use = desk_sample(out.use, most, Rng(seed).split(21));
  std::set<std::string> ids;
  for (const UseItem& one : out.use) ids.insert(one.facts.begin(), one.facts.end());
  for (auto& thing : by_thing())
    for (Item& item : thing)
      if (ids.contains(item.id)) out.taught.push_back(std::move(item));
  return out;
}

}  // namespace accrete
