// diff: two updates, or an update and the state, side by side.
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "cli/cli.h"
#include "learn/fact_inspect.h"
#include "ledger/combine.h"
#include "ledger/ledger.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"

namespace accrete::cli {
namespace {

// A side of a diff: an update by id, beginning of an id or tag; `base`: nothing; `state`: the sum
// of the active updates, without `except`.
Update side_of(const Ledger& ledger, const std::string& name, const std::string& except = {}) {
  if (name == "base") return {};
  if (name != "state") return ledger.load(name);
  std::vector<Update> updates;
  for (const auto& record : ledger.active())
    if (record.id != except) updates.push_back(ledger.load(record.id));
  return sum_updates(updates);
}

std::string full_name(const Ledger& ledger, const std::string& name) {
  return name == "base" || name == "state" ? name : ledger.find(name).id;
}

void print_difference(const Common& common, const std::string& a, const std::string& b,
                      const FactDifference& d) {
  constexpr size_t kMost = 20;  // lines of a kind on a terminal
  std::string text = accrete::format("A  {}\nB  {}\nfacts: {} and {}, {} in both\n", a, b,
                                     d.facts_a, d.facts_b, d.shared);
  nlohmann::ordered_json json = {
      {"a", a}, {"b", b}, {"facts", {d.facts_a, d.facts_b}}, {"shared", d.shared}};
  const auto list = [&](const char* key, const char* mark,
                        const std::vector<FactDifference::Line>& lines) {
    json[key] = nlohmann::ordered_json::array();
    for (size_t i = 0; i < lines.size(); ++i) {
      const auto& l = lines[i];
      nlohmann::ordered_json one = {{"question", l.question}};
      if (!l.a.empty()) one["a"] = l.a;
      if (!l.b.empty()) one["b"] = l.b;
      json[key].push_back(one);
      if (i == kMost) text += accrete::format("{} and {} more\n", mark, lines.size() - kMost);
      if (i >= kMost) continue;
      text += accrete::format("{} {} {}\n", mark, l.question,
                              l.a.empty() || l.b.empty() ? l.a + l.b : l.a + " | " + l.b);
    }
  };
  list("changed", "~", d.changed);
  list("only_a", "A", d.only_a);
  list("only_b", "B", d.only_b);
  common.print(json, text);
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
  add_common(*verb, common, "accrete diff my-model 3f2a prices-2025");
  verb->callback([state, &common, &run] {
    run = [state, &common] {
      const Ledger ledger = Ledger::open(state->model, Ledger::Mode::kRead);
      const std::string a_name = full_name(ledger, state->a);
      const bool others = state->b.empty();
      const std::string b_name = others ? "others" : full_name(ledger, state->b);
      if (has_fact_memory(state->model)) {
        print_difference(
            common, a_name, b_name,
            compare_facts(facts_named(ledger, a_name), others ? facts_named(ledger, "state", a_name)
                                                              : facts_named(ledger, b_name)));
        return 0;
      }
      const Update a = side_of(ledger, a_name);
      const Update b = others ? side_of(ledger, "state", a_name) : side_of(ledger, b_name);
      const double near = load_memory_info(state->model).at("gate").value("radius", 0.0);
      const UpdateDifference d = compare_updates(a, b, near);
      nlohmann::ordered_json blocks = nlohmann::ordered_json::array();
      std::vector<std::vector<std::string>> rows = {
          {"BLOCK", "ROWS A", "ROWS B", "SHARED", "NORM A", "NORM B", "NORM A-B"}};
      for (const BlockDifference& x : d.blocks) {
        blocks.push_back({{"block", x.block},
                          {"rows", {x.rows_a, x.rows_b}},
                          {"shared", x.shared},
                          {"norm", {x.norm_a, x.norm_b}},
                          {"norm_difference", x.norm_difference}});
        rows.push_back({std::to_string(x.block), std::to_string(x.rows_a), std::to_string(x.rows_b),
                        std::to_string(x.shared), accrete::format("{:.3f}", x.norm_a),
                        accrete::format("{:.3f}", x.norm_b),
                        accrete::format("{:.3f}", x.norm_difference)});
      }
      rows.push_back({"all", std::to_string(d.rows_a()), std::to_string(d.rows_b()),
                      std::to_string(d.shared()), accrete::format("{:.3f}", d.norm_a()),
                      accrete::format("{:.3f}", d.norm_b()),
                      accrete::format("{:.3f}", d.norm_difference())});
      const std::string text =
          "A  " + a_name + "\nB  " + b_name + "\n" + table(rows) +
          accrete::format("cosine over the shared rows {:.3f}\n", d.shared_cosine()) +
          accrete::format("anchors: {} and {}; {} of A within the gate's radius {:g} of one of B\n",
                          d.anchors_a, d.anchors_b, d.anchors_near, near);
      common.print({{"a", a_name},
                    {"b", b_name},
                    {"rows", {d.rows_a(), d.rows_b()}},
                    {"shared", d.shared()},
                    {"norm", {d.norm_a(), d.norm_b()}},
                    {"norm_difference", d.norm_difference()},
                    {"cosine", d.shared_cosine()},
                    {"anchors", {d.anchors_a, d.anchors_b}},
                    {"anchors_near", d.anchors_near},
                    {"blocks", blocks}},
                   text);
      return 0;
    };
  });
}

}  // namespace accrete::cli
