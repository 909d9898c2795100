// log and show: what was taught, from the ledger alone.
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "cli/cli.h"
#include "text/passages.h"
#include "workspace/history.h"
#include "workspace/json.h"

namespace accrete::cli {
namespace {

std::string to_text(const api::UpdateDetails::Lesson& lesson) {
  if (lesson.forgotten > 0)
    return accrete::format("\nforgets {} passages of {}\n", lesson.forgotten, lesson.document);
  if (!lesson.document.empty()) {
    std::string text = "\n" + lesson.document;
    if (!lesson.section.empty()) text += ", " + lesson.section;
    text += "\n";
    for (const auto& piece : lesson.prompts) text += "  " + piece_alone(piece) + "\n";
    return text;
  }
  std::string text = accrete::format("\nline {}", lesson.line);
  if (!lesson.subject.empty()) text += ", about " + lesson.subject;
  text += "\n";
  for (const auto& wording : lesson.prompts) text += "  asked as  " + wording + "\n";
  // The first answer was taught; the others count as right.
  for (size_t i = 0; i < lesson.answers.size(); ++i)
    text += accrete::format("  {}    {}{}\n", i == 0 ? "answer" : "    or", lesson.answers[i],
                            i == 0 && lesson.verbatim ? "  (verbatim)" : "");
  if (lesson.leave) text += "  left to the model\n";
  if (!lesson.excerpt.empty()) text += "  text      " + lesson.excerpt + " ...\n";
  return text;
}

// What an update did, of its method: "questions+value+documents", "forget", ...
std::string kind_of(const api::UpdateInfo& u) {
  if (u.method == "forget") return "forget";
  if (u.method == "merge") return "merge";
  if (u.method.starts_with("fold")) return "fold";
  return "teach";
}

std::string shown_value(const nlohmann::ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_number_float() ? accrete::format("{:.1f}", value.get<double>()) : value.dump();
}

// What was measured, one thing a line; what is no object of "before" and "after" in its own words.
std::string measured(const std::string& measurements) {
  const auto json = nlohmann::ordered_json::parse(measurements, nullptr, false);
  if (!json.is_object()) return {};
  std::string text;
  const auto line = [&](const std::string& name, const nlohmann::ordered_json& value) {
    const bool change = value.is_object() && value.contains("before") && value.contains("after") &&
                        value["before"].is_number() && value["after"].is_number();
    text += accrete::format(
        "{:<9}{}\n", text.empty() ? "measured" : "",
        change ? accrete::format("{} {} -> {}", name, percent(value["before"].get<double>()),
                                 percent(value["after"].get<double>()))
               : accrete::format("{} {}", name, shown_value(value)));
  };
  for (const auto& [name, value] : json.items()) {
    if (name == "kept" && value.is_object()) {
      for (const auto& [probe, kept] : value.items()) line("kept " + probe, kept);
    } else {
      line(name, value);
    }
  }
  return text;
}

std::string to_text(const api::UpdateDetails& details) {
  const api::UpdateInfo& u = details.update;
  std::string text =
      accrete::format("update {}{}, {}\n", u.id, u.tag.empty() ? "" : " (" + u.tag + ")",
                      u.active ? "active" : "undone");
  text += accrete::format("taught   {}, {} from {}\n", u.time,
                          u.items == 1 ? "1 item" : accrete::format("{} items", u.items), u.source);
  text += accrete::format("method   {}, seed {}\n", u.method, u.seed);
  text += "after    " + (u.parent.empty() ? "the base" : u.parent) + "\n";
  text += measured(u.measurements);
  for (const auto& lesson : details.taught) text += to_text(lesson);
  return text;
}

}  // namespace

void add_log(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, id;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand("log", "The updates of a model, oldest first");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete log my-model --json");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto updates = History(state->model, common.open.overlay).log();
      std::vector<std::vector<std::string>> rows = {
          {"UPDATE", "TIME", "WHAT", "ITEMS", "", "TAG", "SOURCE"}};
      for (const auto& u : updates)
        rows.push_back({u.id, u.time, kind_of(u), std::to_string(u.items),
                        u.active ? "active" : "undone", u.tag, u.source});
      common.print(to_json(updates), updates.empty() ? "nothing was taught yet\n" : table(rows));
      return 0;
    };
  });

  auto* show = app.add_subcommand(
      "show", "One update: where it came from, what was measured, what was taught");
  show->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  show->add_option("ID", state->id, "An update's id, its beginning, or a tag")->required();
  add_overlay(*show, common);
  add_common(*show, common, "accrete show my-model 3f2a");
  show->callback([state, &common, &run] {
    run = [state, &common] {
      const auto details = History(state->model, common.open.overlay).show(state->id);
      common.print(to_json(details), to_text(details));
      return 0;
    };
  });
}

}  // namespace accrete::cli
