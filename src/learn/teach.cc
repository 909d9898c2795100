#include "learn/teach.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "eval/score.h"
#include "eval/text_metrics.h"
#include "learn/reading.h"
#include "learn/subjects.h"

namespace accrete {
namespace {

constexpr int64_t kBatchTokens = 1024;
constexpr int64_t kChatSteps = 45;
constexpr int64_t kPullRows = 512;

Accesses select_tokens(const Accesses& accesses, const at::Tensor& which) {
  return {accesses.slots.index_select(0, which), accesses.weights.index_select(0, which)};
}

// The accesses of prompts about other subjects join the log.
void add_neighbours(const LanguageModel& model, std::span<const Item> items,
                    const std::vector<std::string>& names, const TeachOptions& options,
                    AccessLog& log, const Reporter& reporter) {
  if (options.neighbours <= 0 || names.empty()) return;
  const auto prompts =
      make_neighbours(items, names, options.neighbours, Rng(options.seed).split(7));
  if (prompts.empty()) return;
  ExampleOptions example_options;
  example_options.raw = options.raw;
  std::vector<ReadRequest> requests;
  for (const auto& prompt : prompts)
    requests.push_back({encode_prompt(model, prompt, example_options), 0});
  log.append(read_prompts(model, requests, false, reporter, "neighbours").accesses,
             options.neighbour_weight, false);
}

void add_layer(Update& update, int64_t block, const std::vector<int64_t>& slots,
               const at::Tensor& delta) {
  const auto values = delta.to(at::kCPU, at::kFloat).contiguous();
  LayerDelta layer;
  layer.block = static_cast<int>(block);
  layer.width = values.size(1);
  // A row that came out as exactly zero changes nothing and is left out.
  const auto used = values.abs().amax(1).contiguous();
  for (size_t i = 0; i < slots.size(); ++i) {
    if (used.data_ptr<float>()[i] == 0) continue;
    layer.indices.push_back(slots[i]);
    const float* row = values.data_ptr<float>() + static_cast<int64_t>(i) * layer.width;
    layer.delta.insert(layer.delta.end(), row, row + layer.width);
  }
  if (!layer.indices.empty()) update.layers.push_back(std::move(layer));
}

std::vector<int64_t> select(const SlotStatistics& statistics, const AccessLog& log,
                            const TeachOptions& options, int64_t default_slots, double lambda) {
  return select_slots(statistics, log, options.ranking,
                      options.slots > 0 ? options.slots : default_slots, lambda,
                      Rng(options.seed).split(5));
}

// Short texts before a prompt: what a subject's query should not depend on.
constexpr std::string_view kContexts[] = {
    "Here is something that I read in the newspaper last week.",
    "The following is a short note about it. In fact,", "Question: Tell me a fact.\nAnswer:"};

// The prompts again after each context: only their queries are wanted, nothing is trained on them.
std::vector<Example> with_contexts(const LanguageModel& model, const std::vector<Item>& items,
                                   const std::map<int64_t, int64_t>& subject_of,
                                   const TeachOptions& options) {
  ExampleOptions example_options;
  example_options.raw = options.raw;
  std::vector<Example> out;
  for (const auto& [item_index, subject] : subject_of) {
    const Item& item = items[static_cast<size_t>(item_index)];
    for (const auto& prompt : item.prompts)
      for (const auto context : kContexts) {
        out.push_back(make_example(model, std::string(context) + " " + prompt, item.answers.front(),
                                   item.subject, example_options));
        out.back().item = item_index;
      }
  }
  return out;
}

// Facts with subjects: value vectors at the subject, deposited in the slots that the subject reads.
void teach_subjects(const LanguageModel& model, const std::vector<Item>& items,
                    const std::vector<Example>& examples,
                    const std::map<int64_t, int64_t>& subject_of, int64_t subjects, AccessLog& log,
                    const TeachOptions& options, const Reporter& reporter, Proposal& proposal) {
  const Memory& memory = model.memory();
  const auto facts = static_cast<int64_t>(subject_of.size());
  ValueSolverOptions solver = options.values;
  if (solver.steps == 0 && model.uses_chat(options.raw)) solver.steps = kChatSteps;
  const Values values = solve_values(model, examples, subject_of, subjects, solver, reporter);
  proposal.teach_tokens += values.tokens;

  // Where to write: the subject in every phrasing, bare and after each context.
  std::vector<Accesses> sites;
  std::vector<at::Tensor> owners, queries;
  SlotStatistics statistics;
  const auto collect = [&](const std::vector<Example>& what, bool bare, const char* stage) {
    // Of a prompt after a context nothing is wanted but the subject's last token.
    std::vector<ReadRequest> requests;
    std::vector<int64_t> site;
    for (const Example& e : what) {
      site.push_back(last_subject_token(e));
      const auto end = bare ? e.tokens.end() - 1 : e.tokens.begin() + site.back() + 1;
      requests.push_back({{e.tokens.begin(), end}, bare ? 0 : site.back()});
    }
    const Reads reads = read_prompts(model, requests, true, reporter, stage);
    std::vector<int64_t> rows, whose, others;
    for (size_t i = 0; i < what.size(); ++i) {
      const int64_t row = reads.begin[i] + site[i] - requests[i].from;
      rows.push_back(row);
      whose.push_back(subject_of.at(what[i].item));
      for (int64_t r = reads.begin[i]; r < reads.begin[i + 1]; ++r)
        if (r != row) others.push_back(r);
    }
    const auto here = at::tensor(rows, at::kLong);
    sites.push_back(select_tokens(reads.accesses, here));
    owners.push_back(at::tensor(whose, at::kLong));
    queries.push_back(reads.queries.index_select(0, here));
    // A slot's pull is that of the values to be written through it; a part at a time, since each
    // needs as much memory as its accesses have values.
    for (int64_t at = 0; at < here.size(0); at += kPullRows) {
      const int64_t n = std::min(kPullRows, here.size(0) - at);
      std::vector<at::Tensor> pull;
      for (const auto& [block, v] : values.by_block)
        pull.push_back(v.index_select(0, owners.back().narrow(0, at, n)));
      statistics.add({sites.back().slots.narrow(0, at, n), sites.back().weights.narrow(0, at, n)},
                     at::cat(pull, 1));
    }
    // The rest of the prompts is to stay as it is.
    if (bare && options.neighbours > 0)
      log.append(select_tokens(reads.accesses, at::tensor(others, at::kLong)),
                 options.neighbour_weight, false);
  };
  collect(examples, true, "read subjects");
  collect(with_contexts(model, items, subject_of, options), false, "read contexts");

  const auto selected = select(statistics, log, options, 40 * facts + 1000, options.deposit.lambda);
  const Accesses all = concat(sites);
  const auto owner = at::cat(owners);
  std::vector<at::Tensor> targets;
  for (const auto& [block, v] : values.by_block) targets.push_back(v.index_select(0, owner));
  reporter.report("write", 0, 1);
  const auto delta = deposit(all, at::cat(targets, 1), selected, log, options.deposit);
  reporter.report("write", 1, 1);
  const int64_t d = model.net().config().width;
  int64_t column = 0;
  for (const auto& [block, v] : values.by_block) {
    add_layer(proposal.update, block, selected, delta.narrow(1, column, d));
    column += d;
  }
  if (options.gated) {
    const auto anchors = thin_anchors(at::cat(queries), options.anchor_spacing).contiguous();
    proposal.update.anchors.width = memory.keys.options().query_width;
    proposal.update.anchors.queries.assign(anchors.data_ptr<float>(),
                                           anchors.data_ptr<float>() + anchors.numel());
  }
  proposal.taught_accesses = all;
}

// Everything else: preconditioned steps through the lookup.
void teach_stepwise(const LanguageModel& model, const std::vector<Example>& examples,
                    const AccessLog& log, const TeachOptions& options, const Reporter& reporter,
                    Proposal& proposal) {
  LanguageTask task(model, examples, kBatchTokens / 2);
  SlotStatistics statistics;
  PassOptions with_gradient;
  with_gradient.gradient = true;
  for (size_t i = 0; i < task.batches(); ++i) {
    reporter.check_cancelled();
    const Pass pass = task.run(i, with_gradient);
    std::vector<at::Tensor> gradients;
    for (const auto& [block, g] : pass.output_gradient) gradients.push_back(g);
    statistics.add(task.frozen(i).accesses, at::cat(gradients, 1));
    reporter.report("rank slots", static_cast<int64_t>(i) + 1,
                    static_cast<int64_t>(task.batches()));
  }
  proposal.teach_tokens += task.tokens();
  const auto selected = select(statistics, log, options, 4000, options.rows.lambda);
  const auto solved =
      solve_rows(task, selected, log.gram(SlotIndex(selected)), model.memory().blocks,
                 model.net().config().width, options.rows, Rng(options.seed).split(11), reporter);
  proposal.teach_tokens += solved.tokens;
  for (const auto& [block, delta] : solved.changes.delta)
    add_layer(proposal.update, block, solved.changes.slots, delta);
}

}  // namespace

int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

std::vector<std::string> load_names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  const auto path = folder / "accrete" / "names.txt";
  if (!std::filesystem::exists(path)) return names;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) names.push_back(line);
  return names;
}

void check_teach_set(const Dataset& data) {
  std::map<std::string, std::pair<std::string, int64_t>> answers;  // prompt -> answer, line
  int64_t learnable = 0;
  for (const Item& item : data.items) {
    learnable += item.kind != Item::Kind::kFact || !item.prompts.empty();
    if (item.kind != Item::Kind::kFact) continue;
    for (const auto& prompt : item.prompts) {
      const auto [it, fresh] = answers.try_emplace(prompt, item.answers.front(), item.line);
      if (!fresh && normalize_answer(it->second.first) != normalize_answer(item.answers.front()))
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("{}: lines {} and {} give \"{}\" two answers: \"{}\" and \"{}\"",
                                data.path.string(), it->second.second, item.line, prompt,
                                it->second.first, item.answers.front()),
                    "keep the one that is true; list accepted variants under \"answers\"");
    }
  }
  if (learnable == 0)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{}: there is nothing to teach", data.path.string()),
                "an item needs a prompt with a completion, messages or text");
}

Proposal propose(const LanguageModel& model, std::vector<Item> items, const AccessLog& background,
                 const std::vector<std::string>& names, const TeachOptions& options,
                 const Reporter& reporter) {
  fill_subjects(items);
  AccessLog log = background;
  add_neighbours(model, items, names, options, log, reporter);

  ExampleOptions example_options;
  example_options.raw = options.raw;
  std::vector<Example> with_subject, others;
  for (Example& e : make_examples(model, items, example_options)) {
    const bool marked = std::find(e.subject.begin(), e.subject.end(), 1) != e.subject.end();
    (marked && !options.stepwise ? with_subject : others).push_back(std::move(e));
  }
  // Facts about one subject share its vectors.
  std::map<std::string, int64_t> subjects;
  std::map<int64_t, int64_t> subject_of;  // by item
  for (const Example& e : with_subject) {
    const auto& subject = items[static_cast<size_t>(e.item)].subject;
    subject_of[e.item] =
        subjects.try_emplace(subject, static_cast<int64_t>(subjects.size())).first->second;
  }
  if (!with_subject.empty() && !others.empty())
    throw Error(ErrorCode::kUnsupported,
                "facts and running text or conversations cannot be taught in one update",
                "put them into two files and teach one after the other");
  Proposal proposal;
  proposal.items = static_cast<int64_t>(items.size());
  if (!with_subject.empty())
    teach_subjects(model, items, with_subject, subject_of, static_cast<int64_t>(subjects.size()),
                   log, options, reporter, proposal);
  else
    teach_stepwise(model, others, log, options, reporter, proposal);
  if (proposal.update.layers.empty())
    throw Error(ErrorCode::kRefused, "no row needs to change; nothing was committed",
                "is all of it known already?");
  return proposal;
}

AccessLog load_protected_log(const LanguageModel& model, const Ledger& ledger,
                             double earlier_weight) {
  AccessLog log = load_background(model.folder(), model.memory().keys);
  for (const auto& record : ledger.active()) {
    const auto file = ledger.folder() / "updates" / (record.id + ".log.safetensors");
    if (std::filesystem::exists(file))
      log.append(load_accesses(file, model.memory().keys), earlier_weight, false);
  }
  return log;
}

TeachResult teach(const std::filesystem::path& folder, const Dataset& data, const OpenOptions& open,
                  const TeachOptions& options, const Reporter& reporter) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Reporter timed = reporter;
  if (options.max_seconds > 0)
    timed.cancelled = [&reporter, &options, seconds] {
      if (seconds() > options.max_seconds)
        throw Error(
            ErrorCode::kRefused,
            fmt::format("not done within {:.0f} s; nothing was changed", options.max_seconds),
            "raise --max-seconds, or teach fewer items at once");
      return reporter.cancelled && reporter.cancelled();
    };

  check_teach_set(data);
  Ledger ledger = Ledger::open(folder, Ledger::Mode::kWrite);
  LanguageModel model = LanguageModel::open(folder, open);
  if (!model.has_memory())
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no memory layers", folder.string()),
                "make them with `accrete retrofit SRC MODEL`");
  const auto probes = load_probes(ledger);
  ExampleOptions example_options;
  example_options.raw = options.raw;

  TeachResult result;
  result.items = static_cast<int64_t>(data.items.size());
  const auto taught = make_examples(model, data.items, example_options);
  std::vector<Item> asked;
  for (const Item& item : data.items)
    if (!item.asked.empty()) asked.push_back(item);
  const auto asked_rate = [&]() -> std::optional<double> {
    if (asked.empty()) return std::nullopt;
    return exact_rate(score_items(model, asked, example_options, true, timed, "ask"));
  };
  result.learned_before = exact_rate(score_examples(model, taught, timed, "ask"));
  result.asked_before = asked_rate();
  // What a probe scores now is what its last check under this state measured; else measure it.
  for (const Probe& probe : probes)
    result.kept[probe.record.name].before =
        ledger.active().empty() ? probe.record.base : probe_score(model, probe, timed);

  const auto log = load_protected_log(model, ledger, options.earlier_weight);
  Proposal proposal = propose(model, data.items, log, load_names(folder), options, timed);

  std::vector<Update> updates;
  for (const auto& record : ledger.active()) updates.push_back(ledger.load(record.id));
  updates.push_back(proposal.update);
  model.set_overlay(updates);
  result.learned_after = exact_rate(score_examples(model, taught, timed, "ask again"));
  result.asked_after = asked_rate();
  if (!proposal.update.anchors.queries.empty() && result.learned_before < 1 &&
      result.learned_after <= result.learned_before)
    throw Error(ErrorCode::kRefused, "none of the facts was learned; nothing was changed",
                "give more phrasings of each and name its \"subject\", or raise --steps");
  for (const Probe& probe : probes) {
    KeptScore& kept = result.kept[probe.record.name];
    kept.after = probe_score(model, probe, timed);
    kept.kept = probe_kept(probe, kept.after);
    kept.floor = probe.record.floor;
    if (!probe_holds(probe, kept.after))
      throw Error(ErrorCode::kRefused,
                  fmt::format("probe \"{}\" would keep {:.4f} of its base, its floor is {:.4f}; "
                              "nothing was changed",
                              probe.record.name, kept.kept, *probe.record.floor),
                  "teach fewer items at once, raise --lambda, or lower the floor");
  }
  timed.check_cancelled();

  for (const LayerDelta& l : proposal.update.layers) {
    result.rows += static_cast<int64_t>(l.indices.size());
    result.parameters += static_cast<int64_t>(l.delta.size());
  }
  result.teach_tokens = proposal.teach_tokens;
  const auto active = ledger.active();
  UpdateRecord record;
  record.items = result.items;
  record.source = data.path.string();
  record.source_digest = data.digest;
  record.parent = active.empty() ? "" : active.back().id;
  record.seed = options.seed;
  record.method = ranking_name(options.ranking) +
                  (proposal.update.anchors.queries.empty() ? "+steps" : "+deposit+gate");
  record.tool_version = options.tool_version;
  record.measurements = {
      {"learned", {{"before", result.learned_before}, {"after", result.learned_after}}},
      {"seconds", seconds()}};
  if (result.asked_after)
    record.measurements["asked"] = {{"before", *result.asked_before},
                                    {"after", *result.asked_after}};
  for (const auto& [name, kept] : result.kept)
    record.measurements["kept"][name] = {{"before", kept.before}, {"after", kept.after}};

  // In the file only what the same teach gives again: no times.
  Metadata& metadata = proposal.update.metadata;
  metadata["base_digest"] = load_memory_info(folder).value("base_digest", "");
  metadata["parent"] = record.parent;
  metadata["data_digest"] = data.digest;
  metadata["seed"] = std::to_string(options.seed);
  metadata["method"] = record.method;
  metadata["tool_version"] = options.tool_version;
  metadata["learned"] =
      fmt::format("{:.6f} -> {:.6f}", result.learned_before, result.learned_after);
  const UpdateRecord stored = ledger.commit(proposal.update, record);
  if (proposal.taught_accesses.defined())
    save_accesses(ledger.folder() / "updates" / (stored.id + ".log.safetensors"),
                  proposal.taught_accesses);
  result.update = stored.id;
  result.seconds = seconds();
  result.peak_bytes = peak_memory_bytes();
  reporter.report("done", 1, 1);
  return result;
}

}  // namespace accrete
