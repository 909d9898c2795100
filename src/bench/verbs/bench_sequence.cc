// accrete bench sequence: many updates in a row, and what is left of them all.
//
// The stream mixes small sets of facts, corrections of facts taught earlier, and short documents.
// Every update is a whole `teach` on a folder of the benchmark's own, so the ledger is the
// checkpoint: a run that was stopped goes on with the next update. Methods that have no updates
// (LoRA, full finetuning, the published sparse steps) change a model in memory, and begin anew.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "api/installation.h"
#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/sha256.h"
#include "bench/baselines/finetune.h"
#include "bench/forgetting_data.h"
#include "bench/forgetting_plan.h"
#include "bench/verbs/bench.h"
#include "cli/cli.h"
#include "learn/audit.h"
#include "learn/fact_inspect.h"
#include "learn/teach.h"
#include "measure/score.h"
#include "model/fact_memory.h"

namespace accrete::cli {
namespace {

namespace fs = std::filesystem;

struct BenchSequence {
  std::string model, work, split = "test", out, method = "interference", hyper = "{}";
  int64_t updates = 100, sample = 200, text_bytes = 8000;
  int64_t passes = 1;
  double max_seconds = 0, corrections = 0.15, documents = 0.1;
  double earlier_weight = TeachOptions().earlier_weight;

  bool by_ledger() const {
    try {
      (void)parse_ranking(method);
      return true;
    } catch (const Error&) {
      return false;
    }
  }
};

// The stream: a function of seed and number alone, but for what corrections need to know, which is
// what came before.
struct Stream {
  std::vector<Item> facts;         // not yet taught, in order
  std::vector<std::string> texts;  // documents
  std::map<size_t, Item> taught;   // by index into `facts`: as it stands now
  std::set<size_t> corrected;
  size_t next_fact = 0, next_text = 0;

  struct Step {
    std::string kind;
    std::vector<Item> items;
    std::vector<size_t> which;  // facts
  };

  static std::string relation(const Item& item) { return item.id.substr(0, item.id.find('-')); }

  Step step(const BenchSequence& state, Rng rng) {
    Step s;
    const double die = rng.uniform();
    const uint64_t size = 1 + rng.below(3);
    const bool no_facts = next_fact >= facts.size();
    if ((die < state.corrections || no_facts) && taught.size() >= 8) {
      s.kind = "correction";
      std::vector<size_t> all;
      for (const auto& [i, item] : taught) all.push_back(i);
      rng.shuffle(std::span(all));
      for (size_t k = 0; k < std::min<size_t>(size, all.size()); ++k) {
        Item item = taught.at(all[k]);
        // Another answer to the same kind of question.
        for (int attempt = 0; attempt < 200; ++attempt) {
          const Item& other = facts[rng.below(facts.size())];
          if (relation(other) != relation(item) || other.answers == item.answers) continue;
          item.answers = other.answers;
          break;
        }
        s.items.push_back(item);
        s.which.push_back(all[k]);
      }
    } else if (die < state.corrections + state.documents && next_text < texts.size()) {
      s.kind = "document";
      Item item;
      item.kind = Item::Kind::kText;
      item.text = texts[next_text++];
      s.items.push_back(item);
    } else {
      s.kind = "facts";
      for (uint64_t k = 0; k < size && next_fact < facts.size(); ++k) {
        s.items.push_back(facts[next_fact]);
        s.which.push_back(next_fact++);
      }
    }
    for (size_t i = 0; i < s.items.size(); ++i) s.items[i].line = static_cast<int64_t>(i) + 1;
    return s;
  }

  void done(const Step& s, const std::vector<int64_t>& dropped) {
    for (size_t k = 0; k < s.which.size(); ++k) {
      if (std::find(dropped.begin(), dropped.end(), s.items[k].line) != dropped.end()) continue;
      taught[s.which[k]] = s.items[k];
      if (s.kind == "correction") corrected.insert(s.which[k]);
    }
  }
};

// A model folder of the benchmark's own: the same files, an empty ledger.
void make_work_folder(const fs::path& model, const fs::path& work) {
  const fs::path temporary = work.string() + ".making";
  fs::remove_all(temporary);
  fs::create_directories(temporary / "accrete");
  const auto link = [](const fs::path& from, const fs::path& to) {
    std::error_code error;
    fs::create_hard_link(from, to, error);
    if (error) fs::copy_file(from, to);
  };
  for (const auto& entry : fs::directory_iterator(model))
    if (entry.is_regular_file()) link(entry.path(), temporary / entry.path().filename());
  for (const char* name : {"memory.json", "memory.safetensors", "background.safetensors",
                           "names.txt", "codes.safetensors"})
    if (fs::exists(model / "accrete" / name))
      link(model / "accrete" / name, temporary / "accrete" / name);
  if (fs::exists(model / "accrete" / "reader"))
    for (const auto& entry : fs::recursive_directory_iterator(model / "accrete" / "reader")) {
      const fs::path to = temporary / "accrete" / fs::relative(entry.path(), model / "accrete");
      fs::create_directories(to.parent_path());
      if (entry.is_regular_file()) link(entry.path(), to);
    }
  {
    const Ledger ledger = Ledger::create(temporary);
  }
  fs::rename(temporary, work);
}

struct Known {
  std::vector<Item> clozes, questions;
  std::vector<std::string> text;
  double clozes_before = 0, questions_before = 0, bits_before = 0;
};

double kept(const LanguageModel& model, const std::vector<Item>& items, const Reporter& reporter) {
  ExampleOptions raw;
  raw.raw = true;
  return exact_rate(score_items(model, items, raw, false, reporter, "known"));
}

nlohmann::ordered_json measure(const BenchSequence& state, const Common& common,
                               const Stream& stream, const Known& known, int64_t updates,
                               const LanguageModel& model, const Reporter& reporter) {
  std::vector<size_t> all;
  for (const auto& [i, item] : stream.taught) all.push_back(i);
  Rng(common.seed).split(71).shuffle(std::span(all));
  all.resize(std::min(all.size(), static_cast<size_t>(state.sample)));
  std::vector<Item> items, corrected;
  for (const size_t i : all) {
    items.push_back(stream.taught.at(i));
    if (stream.corrected.contains(i)) corrected.push_back(stream.taught.at(i));
  }
  ExampleOptions raw;
  raw.raw = true;
  const auto recall = [&](const std::vector<Item>& of, bool asked) {
    return exact_rate(score_items(model, of, raw, asked, reporter, "recall"));
  };
  nlohmann::ordered_json point = {{"updates", updates},
                                  {"facts", stream.taught.size()},
                                  {"sample", items.size()},
                                  {"recall", recall(items, false)},
                                  {"recall_untaught_wording", recall(items, true)}};
  point["corrected"] = corrected.size();
  if (!corrected.empty()) point["recall_corrected"] = recall(corrected, false);
  point["kept_clozes"] = kept(model, known.clozes, reporter) / known.clozes_before;
  point["kept_questions"] = kept(model, known.questions, reporter) / known.questions_before;
  point["bits_per_byte_change"] = bits_per_byte(model, known.text, reporter) - known.bits_before;
  return point;
}

// What the ledger and the files say after so many updates.
void measure_ledger(const BenchSequence& state, const LanguageModel& model,
                    nlohmann::ordered_json& point) {
  const Ledger ledger = Ledger::open(state.work, Ledger::Mode::kRead);
  if (model.has_facts()) {
    point["update_bytes"] = audit_facts(ledger).bytes;
    return;
  }
  const auto active = load_earlier(ledger);
  const AuditReport report = audit(active, model.memory().blocks, model.memory().keys.slots(), 0);
  point["blocks"] = nlohmann::ordered_json::array();
  for (const BlockUse& b : report.blocks)
    point["blocks"].push_back({{"block", b.block},
                               {"used", b.used},
                               {"slots", b.slots},
                               {"norm", b.norm},
                               {"largest_row", b.largest_row}});
  int64_t bytes = 0;
  for (const auto& e : active)
    bytes += static_cast<int64_t>(
        fs::file_size(ledger.folder() / "updates" / update_file_name(e.record.id)));
  point["update_bytes"] = bytes;
}

bool is_point(int64_t k) {
  for (const int64_t p : {1, 10, 20, 50, 100, 200, 500, 1000})
    if (k == p) return true;
  return false;
}

int bench_sequence(BenchSequence state, const Common& common) {
  // Running text is no fact: none is taught to a memory of facts.
  if (has_fact_memory(state.model)) state.documents = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto data = data_folder();
  const Reporter reporter = common.reporter();
  const bool by_ledger = state.by_ledger();
  if (!fs::exists(state.work)) make_work_folder(state.model, state.work);

  Stream stream;
  const std::string text = read_file(data / "text" / "wikitext2_test_sample.txt");
  // Documents come from behind the text that is measured.
  for (size_t at = static_cast<size_t>(state.text_bytes) + 2000; at + 1 < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end - at > 200) stream.texts.push_back(text.substr(at, std::min<size_t>(end - at, 400)));
    at = end + 1;
  }
  Known known;
  known.text = {text.substr(0, static_cast<size_t>(state.text_bytes))};

  nlohmann::ordered_json setup = {{"benchmark", "sequence"},
                                  {"split", state.split},
                                  {"seed", common.seed},
                                  {"method", state.method},
                                  {"sample", state.sample},
                                  {"corrections", state.corrections},
                                  {"documents", state.documents},
                                  {"text_bytes", state.text_bytes},
                                  {"hyper", nlohmann::ordered_json::parse(state.hyper)},
                                  {"passes", state.passes},
                                  {"earlier_weight", state.earlier_weight}};
  OpenOptions bare = open_options(common);
  bare.with_updates = false;
  LanguageModel base = LanguageModel::open(state.work, bare);
  TeachOptions options;
  options.raw = true;
  options.earlier_weight = state.earlier_weight;
  options.tool_version = kVersion;
  if (by_ledger && !base.has_facts()) options.ranking = parse_ranking(state.method);
  nlohmann::ordered_json points = nlohmann::ordered_json::array(),
                         steps = nlohmann::ordered_json::array(), before;
  const fs::path progress = fs::path(state.work) / "sequence.json";
  if (by_ledger && fs::exists(progress)) {
    const auto old = nlohmann::ordered_json::parse(read_file(progress), nullptr, false);
    if (!old.is_object() || old.value("setup", nlohmann::ordered_json()) != setup)
      throw Error(ErrorCode::kConflict, progress.string() + " is of another run of this benchmark",
                  "name another --work folder, or remove it");
    points = old["points"];
    steps = old["steps"];
    before = old["before"];
  }
  KnownSets sets = known_sets(base, data, state.split, reporter);
  stream.facts = std::move(sets.facts);
  Rng(common.seed).split(1).shuffle(std::span(stream.facts));
  known.clozes = std::move(sets.clozes);
  known.clozes.resize(std::min<size_t>(known.clozes.size(), 150));
  sets.candidates.resize(std::min<size_t>(sets.candidates.size(), 120));
  known.questions = discover(base, sets.candidates, sets.few_shot, true, reporter);
  for (Item& item : known.questions) item.answers.resize(1);  // the one that the model gives
  if (before.is_null())
    before = {{"clozes", kept(base, known.clozes, reporter)},
              {"questions", kept(base, known.questions, reporter)},
              {"bits_per_byte", bits_per_byte(base, known.text, reporter)}};
  known.clozes_before = before["clozes"];
  known.questions_before = before["questions"];
  known.bits_before = before["bits_per_byte"];
  LearnerParts parts;
  std::unique_ptr<Learner> learner;
  if (!by_ledger) {
    parts.background = load_background(state.work, base.memory().keys);
    parts.names = load_names(state.work);
    parts.replay = background_examples(base, read_corpus(data / "background.txt.zst"), 64, 1000,
                                       Rng(0).split(41));
    learner = make_learner(base, state.method, setup["hyper"], parts, common.seed);
  }
  const auto result = [&] {
    return nlohmann::ordered_json{
        {"setup", setup}, {"before", before}, {"points", points}, {"steps", steps}};
  };
  const auto save = [&] {
    write_file_atomically(progress, result().dump(1) + "\n");
    if (!state.out.empty()) write_file_atomically(state.out, result().dump(1) + "\n");
  };
  const auto source_of = [](int64_t k) { return accrete::format("sequence/{}", k); };

  for (int64_t k = 0; k < state.updates; ++k) {
    Stream::Step step = stream.step(state, Rng(common.seed).split(1000 + static_cast<uint64_t>(k)));
    if (k < static_cast<int64_t>(steps.size())) {  // done before
      const auto& s = steps[static_cast<size_t>(k)];
      if (!s.contains("refused")) stream.done(step, s["dropped"].get<std::vector<int64_t>>());
      continue;
    }
    const double passed =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (state.max_seconds > 0 && passed > state.max_seconds) break;
    nlohmann::ordered_json s = {
        {"update", k + 1}, {"kind", step.kind}, {"items", step.items.size()}};
    Dataset set;
    set.path = source_of(k);
    set.items = step.items;
    set.digest = sha256_hex(to_jsonl(step.items));
    // Committed, but killed before it was noted.
    const auto updates = by_ledger ? Ledger::open(state.work, Ledger::Mode::kRead).updates()
                                   : std::vector<UpdateRecord>();
    if (learner) {
      const auto begin = std::chrono::steady_clock::now();
      learner->learn(step.items, state.passes, reporter);
      s["seconds"] =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      s["peak_bytes"] = peak_memory_bytes();
      s["dropped"] = std::vector<int64_t>();
      stream.done(step, {});
    } else if (!updates.empty() && updates.back().source == source_of(k)) {
      s["id"] = updates.back().id;
      s["seconds"] = updates.back().measurements.value("seconds", 0.0);
      s["rows"] = updates.back().rows;
      std::set<int64_t> learned;
      for (const auto& item :
           Ledger::open(state.work, Ledger::Mode::kRead).load(updates.back().id).taught.items)
        learned.insert(item.line);
      std::vector<int64_t> dropped;
      for (const Item& item : step.items)
        if (!learned.contains(item.line)) dropped.push_back(item.line);
      s["dropped"] = dropped;
      stream.done(step, dropped);
    } else {
      options.seed = common.seed + static_cast<uint64_t>(k);
      try {
        const TeachResult r = teach(state.work, set, open_options(common), options, reporter);
        s["id"] = r.update;
        s["seconds"] = r.seconds;
        s["rows"] = r.rows;
        s["learned"] = r.learned_after;
        s["conflicts"] = r.conflicts.size();
        s["companions"] = r.companions;
        s["peak_bytes"] = r.peak_bytes;
        s["dropped"] = r.dropped_lines;
        stream.done(step, r.dropped_lines);
      } catch (const Error& e) {
        if (e.code() != ErrorCode::kRefused) throw;
        s["refused"] = e.what();
      }
    }
    steps.push_back(s);
    save();
    if (!common.quiet) std::fprintf(stderr, "%s\n", s.dump().c_str());
    if (is_point(k + 1) || k + 1 == state.updates) {
      if (learner) {
        points.push_back(measure(state, common, stream, known, k + 1, base, reporter));
      } else {
        const auto begin = std::chrono::steady_clock::now();
        const LanguageModel model = LanguageModel::open(state.work, open_options(common));
        const double open_seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        points.push_back(measure(state, common, stream, known, k + 1, model, reporter));
        points.back()["open_seconds"] = open_seconds;
        measure_ledger(state, model, points.back());
      }
      save();
      if (!common.quiet) std::fprintf(stderr, "%s\n", points.back().dump().c_str());
    }
  }
  const auto json = result();
  if (!state.out.empty()) write_file_atomically(state.out, json.dump(1) + "\n");
  std::vector<std::vector<std::string>> rows = {
      {"UPDATES", "FACTS", "RECALL", "OTHER WORDING", "CORRECTED", "CLOZES", "QUESTIONS", "BITS"}};
  for (const auto& p : points)
    rows.push_back({std::to_string(p["updates"].get<int64_t>()),
                    std::to_string(p["facts"].get<int64_t>()), percent(p["recall"]),
                    percent(p["recall_untaught_wording"]),
                    p.contains("recall_corrected") ? percent(p["recall_corrected"]) : "-",
                    percent(p["kept_clozes"]), percent(p["kept_questions"]),
                    accrete::format("{:+.5f}", p["bits_per_byte_change"].get<double>())});
  common.print(json, table(rows));
  return 0;
}

}  // namespace

void add_bench_sequence(CLI::App& bench, Common& common, Run& run) {
  auto state = std::make_shared<BenchSequence>();
  auto* verb = bench.add_subcommand(
      "sequence", "Many updates in a row: facts, corrections, documents; what is left of them all");
  verb->add_option("MODEL", state->model, "A model folder made by retrofit; it is not changed")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--work", state->work, "Folder to teach in; a run goes on where it stopped")
      ->type_name("FOLDER")
      ->required();
  verb->add_option("--updates", state->updates, "How many updates")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--method", state->method,
                   "How each update is learned: a ranking of slots, or a method of `bench "
                   "forgetting` (lora, full-adamw, tfidf-published, ...)")
      ->type_name("METHOD")
      ->capture_default_str();
  verb->add_option("--hyper", state->hyper, "That method's numbers, as JSON")
      ->type_name("JSON")
      ->capture_default_str();
  verb->add_option("--passes", state->passes, "That method's passes over each update")
      ->check(above_zero())
      ->capture_default_str();
  verb->add_option("--earlier-weight", state->earlier_weight,
                   "What earlier updates were taught with counts so often against the background")
      ->type_name("X")
      ->check(zero_or_above())
      ->capture_default_str();
  verb->add_option("--split", state->split, "The facts: dev is to tune on, test to report")
      ->check(CLI::IsMember({"dev", "test"}))
      ->capture_default_str();
  verb->add_option("--out", state->out, "Write the JSON to this file as well")->type_name("FILE");
  verb->add_option("--max-seconds", state->max_seconds, "Begin no update after this; 0: no limit")
      ->type_name("SECONDS")
      ->check(zero_or_above())
      ->capture_default_str();
  add_common(*verb, common,
             "accrete bench sequence my-model --work /tmp/sequence --updates 100 --out seq.json");
  verb->callback([state, &common, &run] {
    run = [state, &common] { return bench_sequence(*state, common); };
  });
}

}  // namespace accrete::cli
