// diff: two updates, or an update and the state, side by side.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "cli/cli.h"
#include "workspace/json.h"
#include "workspace/workspace.h"

namespace accrete::cli {
namespace {

std::string to_text(const api::DiffReport::Facts& d) {
  constexpr size_t kMost = 20;  // lines of a kind on a terminal
  std::string text = accrete::format("facts: {} and {}, {} in both\n", d.a, d.b, d.shared);
  const auto list = [&](const char* mark, const std::vector<api::DiffReport::Line>& lines) {
    for (size_t i = 0; i < std::min(kMost, lines.size()); ++i) {
      const auto& l = lines[i];
      text += accrete::format("{} {} {}\n", mark, l.question,
                              l.a.empty() || l.b.empty() ? l.a + l.b : l.a + " | " + l.b);
    }
    if (lines.size() > kMost)
      text += accrete::format("{} and {} more\n", mark, lines.size() - kMost);
  };
  list("~", d.changed);
  list("A", d.only_a);
  list("B", d.only_b);
  return text;
}

std::string to_text(const api::DiffReport::Rows& d) {
  std::vector<std::vector<std::string>> rows = {
      {"BLOCK", "ROWS A", "ROWS B", "SHARED", "NORM A", "NORM B", "NORM A-B"}};
  const auto add = [&](const std::string& name, const api::DiffReport::Block& x) {
    rows.push_back({name, std::to_string(x.rows_a), std::to_string(x.rows_b),
                    std::to_string(x.shared), accrete::format("{:.3f}", x.norm_a),
                    accrete::format("{:.3f}", x.norm_b),
                    accrete::format("{:.3f}", x.norm_difference)});
  };
  for (const auto& x : d.blocks) add(std::to_string(x.block), x);
  add("all", d.all);
  return table(rows) + accrete::format("cosine over the shared rows {:.3f}\n", d.cosine) +
         accrete::format("anchors: {} and {}; {} of A within the gate's radius {:g} of one of B\n",
                         d.anchors_a, d.anchors_b, d.anchors_near, d.radius);
}

}  // namespace

void add_diff(CLI::App& app, Common& common, Run& run) {
  struct State {
    std::string model, a, b;
  };
  auto state = std::make_shared<State>();
  auto* verb = app.add_subcommand(
      "diff", "What two updates or states share and where they differ: slots, norms, anchors");
  verb->add_option("MODEL", state->model, "A model folder")->type_name("FOLDER")->required();
  verb->add_option("A", state->a, "An update's id, its beginning or its tag; or base, or state")
      ->required();
  verb->add_option("B", state->b, "The same; left out: all other active updates together");
  add_overlay(*verb, common);
  add_common(*verb, common, "accrete diff my-model 3f2a prices-2025");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const auto r = Workspace::open(state->model, common.open).diff(state->a, state->b);
      common.print(to_json(r), "A  " + r.a + "\nB  " + r.b + "\n" +
                                   (r.facts ? to_text(*r.facts) : to_text(*r.rows)));
      return 0;
    };
  });
}

}  // namespace accrete::cli
