#include "bench/desk.h"

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "bench/desk_corrections.h"
#include "model/fact_memory.h"

namespace accrete {
namespace {

using OrderedJson = nlohmann::ordered_json;
namespace fs = std::filesystem;

// What a grid tries, and what is used without one: to be the best of the grid on 36 facts about one
// thing of the dev half (--profile full --split dev --only thing36 --methods lora,full).
constexpr double kLoraRates[] = {3e-4, 5e-4, 1e-3, 2e-3};
constexpr double kFullRates[] = {1e-5, 3e-5, 1e-4};
constexpr int64_t kEpochs[] = {6, 12};
constexpr double kLoraRate = 1e-3, kFullRate = 3e-5;
constexpr int64_t kDefaultEpochs = 12;

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// What a setting is chosen by.
double said(const OrderedJson& row) {
  if (row.contains("use")) return row.at("use").at("in_form").get<double>();
  return row.value("untaught", -1.0);
}

// The setting of the best row of that section, seed and method.
std::optional<OrderedJson> best_setting(const OrderedJson& rows, const std::string& section,
                                        uint64_t seed, const std::string& method) {
  std::optional<OrderedJson> out;
  double most = -2;
  for (const OrderedJson& row : rows) {
    if (row.at("section") != section || row.at("seed") != seed || row.at("method") != method)
      continue;
    if (const double s = said(row); s > most) {
      most = s;
      out = row.at("setting");
    }
  }
  return out;
}

// Everything of a run.
class Desk {
 public:
  Desk(const LanguageModel& model, const DeskOptions& options, const Reporter& reporter)
      : model_(model),
        options_(options),
        reporter_(reporter),
        data_(options.data, options.split),
        base_(model_) {
    (void)model_.facts();  // throws where there is none
    model_.use_facts(model_.facts().with(FactStore()));
    const DeskLimits& l = options.profile.limits;
    const FactMemoryInfo& info = model_.facts().info();
    setup_ = {{"benchmark", "desk"},
              {"split", options.split},
              {"profile", options.profile.name},
              {"model", model_.base_digest()},
              {"reader", info.reader_digest},
              {"tell", tell_name(info.tell)},
              {"block", info.sites.block},
              {"caution", info.caution},
              {"limits",
               {{"taught", l.taught},
                {"untaught", l.untaught},
                {"variants", l.variants},
                {"unchanged", l.unchanged},
                {"use", l.use},
                {"use_tokens", l.use_tokens},
                {"few_tokens", l.few_tokens}}}};
    if (options.work.empty() || !fs::exists(options.work)) return;
    const OrderedJson old =
        OrderedJson::parse(read_file(options.work), nullptr, /*allow_exceptions=*/false);
    if (!old.is_object() || old.value("setup", OrderedJson()) != setup_ || !old.contains("rows"))
      throw Error(ErrorCode::kConflict,
                  options.work.string() + " is of another run of this benchmark",
                  "name another --work file, or remove it");
    rows_ = old.at("rows");
  }

  OrderedJson run() {
    const auto parts = plan();
    const int64_t seeds = options_.seeds > 0 ? options_.seeds : options_.profile.seeds;
    for (int64_t s = 0; s < seeds; ++s)
      for (const auto& part : parts)
        if (part.seeds == 0 || s < part.seeds)
          run_section(part, options_.first_seed + static_cast<uint64_t>(s));
    return result();
  }

 private:
  OrderedJson result() const { return {{"benchmark", "desk"}, {"setup", setup_}, {"rows", rows_}}; }

  std::vector<DeskProfile::Part> plan() const {
    for (const std::string& name : options_.sections)
      if (!has(desk_sections(), name))
        throw Error(ErrorCode::kInvalidArgument,
                    accrete::format("there is no section \"{}\"", name),
                    accrete::format("use of: {}", accrete::joined(desk_sections(), ", ")));
    std::vector<std::string> methods;
    for (const std::string& name : options_.methods) {
      if (name == "context") {
        methods.insert(methods.end(), {"context1", "context3"});
        continue;
      }
      if (!has(desk_methods(), name))
        throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no method \"{}\"", name),
                    accrete::format("use of: {}", accrete::joined(desk_methods(), ", ")));
      methods.push_back(name);
    }
    std::vector<DeskProfile::Part> out;
    for (const std::string& section : desk_sections()) {
      const auto& parts = options_.profile.parts;
      const auto it = std::find_if(parts.begin(), parts.end(),
                                   [&](const auto& part) { return part.section == section; });
      if (options_.sections.empty() ? it == parts.end() : !has(options_.sections, section))
        continue;
      DeskProfile::Part part{section, {"accrete", "lookup"}, 0};
      if (it != parts.end()) part = *it;
      if (!methods.empty()) part.methods = methods;
      if (section == "corrections") part.methods = {"accrete"};
      out.push_back(std::move(part));
    }
    return out;
  }

  bool done(const std::string& section, uint64_t seed, const std::string& method,
            const OrderedJson& setting) const {
    return std::any_of(rows_.begin(), rows_.end(), [&](const OrderedJson& row) {
      return row.at("section") == section && row.at("seed") == seed && row.at("method") == method &&
             row.at("setting") == setting;
    });
  }

  void add(const std::string& section, uint64_t seed, const std::string& method,
           const OrderedJson& setting, const OrderedJson& measured) {
    OrderedJson row = {
        {"section", section}, {"seed", seed}, {"method", method}, {"setting", setting}};
    row.update(measured);
    rows_.push_back(std::move(row));
    if (!options_.work.empty()) write_file_atomically(options_.work, result().dump(1) + "\n");
  }

  static OrderedJson setting_of(double rate, int64_t epochs) {
    return {{"rate", rate}, {"epochs", epochs}};
  }

  // By training run: its rate, and after how many epochs it is measured.
  std::vector<std::pair<double, std::vector<int64_t>>> trainings(const std::string& section,
                                                                 const std::string& method,
                                                                 uint64_t seed) const {
    const bool lora = method == "lora";
    if (!options_.profile.grid) return {{lora ? kLoraRate : kFullRate, {kDefaultEpochs}}};
    if (seed != options_.first_seed)
      if (const auto best = best_setting(rows_, section, options_.first_seed, method))
        return {{best->at("rate").get<double>(), {best->at("epochs").get<int64_t>()}}};
    std::vector<std::pair<double, std::vector<int64_t>>> out;
    const auto rates =
        lora ? std::span<const double>(kLoraRates) : std::span<const double>(kFullRates);
    for (const double rate : rates) out.push_back({rate, {std::begin(kEpochs), std::end(kEpochs)}});
    return out;
  }

  void run_section(const DeskProfile::Part& part, uint64_t seed) {
    std::optional<DeskSet> set;
    std::map<std::string, DeskChoice> choices;
    const auto parts = [&] {
      if (!set) set = data_.section(part.section, seed, options_.profile.limits.use);
      return DeskParts{model_, *set, base_, choices, seed};
    };
    for (const std::string& method : part.methods) {
      if (is_finetuning(method)) {
        for (const auto& [rate, epochs] : trainings(part.section, method, seed))
          run_finetuning(part.section, method, seed, rate, epochs, parts);
        continue;
      }
      if (done(part.section, seed, method, OrderedJson::object())) continue;
      tell(part.section, seed, method, "");
      if (part.section == "corrections") {
        add(part.section, seed, method, OrderedJson::object(),
            measure_corrections(model_, options_.open, parts().set, reporter_));
        continue;
      }
      teach_desk_method(method, {}, {}, parts(), reporter_, [&](DeskMethod& taught, int64_t) {
        add(part.section, seed, method, OrderedJson::object(),
            measure_desk(taught, parts(), data_, options_.profile.limits, reporter_));
      });
    }
  }

  template <typename Parts>
  void run_finetuning(const std::string& section, const std::string& method, uint64_t seed,
                      double rate, const std::vector<int64_t>& epochs, const Parts& parts) {
    std::vector<int64_t> missing;
    for (const int64_t n : epochs)
      if (!done(section, seed, method, setting_of(rate, n))) missing.push_back(n);
    if (missing.empty()) return;
    tell(section, seed, method, accrete::format(" at {}", rate));
    try {
      teach_desk_method(
          method, {{"rate", rate}}, missing, parts(), reporter_,
          [&](DeskMethod& taught, int64_t n) {
            add(section, seed, method, setting_of(rate, n),
                measure_desk(taught, parts(), data_, options_.profile.limits, reporter_));
          });
    } catch (const Error& e) {
      if (e.code() != ErrorCode::kRefused) throw;
      for (const int64_t n : missing)
        if (!done(section, seed, method, setting_of(rate, n)))
          add(section, seed, method, setting_of(rate, n), {{"diverged", true}});
    }
  }

  void tell(const std::string& section, uint64_t seed, const std::string& method,
            const std::string& more) const {
    reporter_.report("desk", static_cast<int64_t>(rows_.size()), 0,
                     accrete::format("{}, seed {}, {}{}", section, seed, method, more));
  }

  LanguageModel model_;
  const DeskOptions& options_;
  const Reporter& reporter_;
  DeskData data_;
  BaseAnswers base_;
  OrderedJson setup_, rows_ = OrderedJson::array();
};

}  // namespace

DeskProfile desk_profile(const std::string& name) {
  using Names = std::vector<std::string>;
  DeskProfile out;
  out.name = name;
  const Names both = {"accrete", "lookup"};
  if (name == "quick") {
    out.limits = {.taught = 36,
                  .untaught = 120,
                  .variants = 24,
                  .unchanged = 20,
                  .use = 40,
                  .use_tokens = 96,
                  .few_tokens = 24};
    out.parts = {{"thing12", both, 0}, {"shop", both, 0}};
  } else if (name == "rates") {
    out.grid = true;
    out.limits = {.taught = 12,
                  .untaught = 72,
                  .variants = 1,
                  .unchanged = 12,
                  .use = 1,
                  .use_tokens = 16,
                  .few_tokens = 24};
    out.parts = {{"thing12", {"lora", "full"}, 0}, {"thing36", {"lora", "full"}, 0}};
  } else if (name == "hour") {
    out.limits = {.taught = 108,
                  .untaught = 200,
                  .variants = 60,
                  .unchanged = 60,
                  .use = 120,
                  .use_tokens = 96,
                  .few_tokens = 32};
    out.parts = {{"thing12", both, 0},
                 {"thing36", {"accrete", "lookup", "context1", "context3", "lora"}, 0},
                 {"shop", both, 0},
                 {"clinc5", both, 0},
                 {"facts1000", both, 0},
                 {"raw200", both, 0},
                 {"long", both, 0},
                 {"use", both, 0},
                 {"corrections", {"accrete"}, 0}};
  } else if (name == "full") {
    out.seeds = 3;
    out.grid = true;
    const Names all = {"accrete", "lookup", "context1", "context3", "lora", "full"};
    const Names told = {"accrete",  "value",    "note", "both", "lookup",
                        "context1", "context3", "lora", "full"};
    out.parts = {{"thing12", all, 0},
                 {"thing36", told, 0},
                 {"things144", all, 0},
                 {"shop", all, 0},
                 {"clinc5", all, 0},
                 {"clinc10", all, 0},
                 {"facts100", both, 1},
                 {"facts1000", both, 1},
                 {"facts10000", both, 1},
                 {"raw200", all, 0},
                 {"long", all, 0},
                 {"use", told, 0},
                 {"corrections", {"accrete"}, 0}};
  } else {
    throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no profile \"{}\"", name),
                "use quick, rates, hour or full");
  }
  return out;
}

OrderedJson run_desk(const LanguageModel& model, const DeskOptions& options,
                     const Reporter& reporter) {
  return Desk(model, options, reporter).run();
}

std::vector<OrderedJson> desk_means(const OrderedJson& rows) {
  struct Group {
    OrderedJson first;
    std::vector<const OrderedJson*> rows;
  };
  std::vector<Group> groups;
  for (const OrderedJson& row : rows) {
    const auto it = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return g.first.at("section") == row.at("section") && g.first.at("method") == row.at("method");
    });
    Group& group = it == groups.end() ? groups.emplace_back(Group{row, {}}) : *it;
    group.rows.push_back(&row);
  }
  std::vector<OrderedJson> out;
  for (const Group& group : groups) {
    const auto best = best_setting(rows, group.first.at("section"), group.first.at("seed"),
                                   group.first.at("method"));
    std::vector<const OrderedJson*> some;
    for (const OrderedJson* row : group.rows)
      if (!best || row->at("setting") == *best) some.push_back(row);
    // Numbers become means over the rows that have them; the rest is the first row's.
    const std::function<OrderedJson(const std::vector<const OrderedJson*>&)> mean =
        [&](const std::vector<const OrderedJson*>& of) -> OrderedJson {
      const OrderedJson& first = *of.front();
      if (first.is_number()) {
        double sum = 0;
        for (const OrderedJson* one : of) sum += one->get<double>();
        return sum / static_cast<double>(of.size());
      }
      if (!first.is_object()) return first;
      OrderedJson object = OrderedJson::object();
      for (const auto& [key, value] : first.items()) {
        std::vector<const OrderedJson*> inner;
        for (const OrderedJson* one : of)
          if (one->is_object() && one->contains(key) &&
              one->at(key).type() != OrderedJson::value_t::null)
            inner.push_back(&one->at(key));
        object[key] = key == "setting" || key == "curve" || key == "seed" ? value : mean(inner);
      }
      return object;
    };
    OrderedJson row = mean(some);
    row["seeds"] = some.size();
    out.push_back(std::move(row));
  }
  std::stable_sort(out.begin(), out.end(), [](const OrderedJson& a, const OrderedJson& b) {
    const auto at = [](const OrderedJson& row) {
      const auto& names = desk_sections();
      return std::find(names.begin(), names.end(), row.at("section").get<std::string>()) -
             names.begin();
    };
    return at(a) < at(b);
  });
  return out;
}

}  // namespace accrete
