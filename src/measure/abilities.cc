#include "measure/abilities.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/strict_json.h"

namespace accrete {
namespace {

using Json = nlohmann::json;
using Metric = Ability::Metric;

AbilityItem parse_ability_item(const Json& line, Metric& metric) {
  AbilityItem item;
  item.prompt = line.at("prompt").get<std::string>();
  if (line.contains("choices")) {
    metric = Metric::kAccuracy;
    item.choices = line.at("choices").get<std::vector<std::string>>();
    item.right = line.at("right").get<int64_t>();
  } else {
    metric = line.contains("solution") ? Metric::kNatsPerToken : Metric::kExact;
    item.choices = {line.at(metric == Metric::kExact ? "answer" : "solution").get<std::string>()};
  }
  return item;
}

Ability read_ability(const std::filesystem::path& path) {
  Ability ability;
  ability.name = path.stem().string();
  std::istringstream in(read_file(path));
  int64_t number = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (text.empty()) continue;
    Metric metric = ability.metric;
    try {
      ability.items.push_back(
          parse_ability_item(parse_json(text, path.string(), {}, number), metric));
    } catch (const Json::exception& e) {
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}:{}: {}", path.string(), number, json_error_text(e.what())),
                  "give prompt and choices with right, answer or solution");
    }
    const auto refuse = [&](const char* what) {
      return Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", path.string(), number, what));
    };
    const AbilityItem& item = ability.items.back();
    const auto n = static_cast<int64_t>(item.choices.size());
    if (metric == Metric::kAccuracy && (n < 2 || item.right < 0 || item.right >= n))
      throw refuse("\"right\" must be the index of one of several \"choices\"");
    if (ability.items.size() == 1) ability.metric = metric;
    if (metric != ability.metric) throw refuse("another kind of line than the first");
  }
  if (ability.items.empty())
    throw Error(ErrorCode::kFormat, accrete::format("{} is empty", path.string()));
  return ability;
}

}  // namespace

std::string Ability::key() const {
  return name + (metric == Metric::kNatsPerToken ? "_nats" : "_accuracy");
}

std::vector<Ability> read_abilities(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    throw Error(ErrorCode::kNotFound, accrete::format("there is no folder {}", folder.string()));
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Ability> abilities;
  for (const auto& file : files) abilities.push_back(read_ability(file));
  return abilities;
}

std::optional<Ability> read_choices(const std::filesystem::path& file) {
  if (file.extension() != ".jsonl") return std::nullopt;
  std::istringstream in(read_file(file));
  std::string first;
  while (std::getline(in, first) && first.find_first_not_of(" \t\r") == std::string::npos) continue;
  const auto json = Json::parse(first, nullptr, false);
  if (!json.is_object() || !json.contains("choices")) return std::nullopt;
  return read_ability(file);
}

std::vector<Score> choice_scores(const LanguageModel& model, const Ability& ability,
                                 const Reporter& reporter) {
  ExampleOptions raw;
  raw.raw = true;
  std::vector<Example> examples;
  for (const AbilityItem& item : ability.items)
    for (const auto& choice : item.choices)
      examples.push_back(make_example(model, item.prompt, choice, "", raw));
  return score_examples(model, examples, reporter, ability.name);
}

int64_t likeliest(std::span<const Score> scores) {
  return std::min_element(scores.begin(), scores.end(),
                          [](const Score& a, const Score& b) { return a.nll < b.nll; }) -
         scores.begin();
}

double ability_score(const LanguageModel& model, const Ability& ability, const Reporter& reporter) {
  const auto scores = choice_scores(model, ability, reporter);
  double nats = 0, tokens = 0, right = 0;
  size_t at = 0;
  for (const AbilityItem& item : ability.items) {
    const auto own = std::span(scores).subspan(at, item.choices.size());
    at += own.size();
    if (ability.metric == Metric::kExact)
      right += own.front().exact ? 1 : 0;
    else
      right += likeliest(own) == item.right ? 1 : 0;
    nats += own.front().nll;
    tokens += static_cast<double>(own.front().labels);
  }
  if (ability.metric == Metric::kNatsPerToken) return nats / tokens;
  return right / static_cast<double>(ability.items.size());
}

}  // namespace accrete
