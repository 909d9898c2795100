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
#include "learn/subjects.h"

namespace accrete {
namespace {

constexpr int64_t kBatchTokens = 1024;

// Runs frozen passes over `examples` and hands each token's accesses to `take`.
using TakeAccesses = std::function<void(const Batch&, const Pass&)>;
void for_each_pass(LanguageTask& task, const Reporter& reporter, const char* stage,
                   const std::function<PassOptions(size_t)>& options, const TakeAccesses& take) {
  for (size_t i = 0; i < task.batches(); ++i) {
    reporter.check_cancelled();
    const Pass pass = task.run(i, nullptr, options(i));
    take(task.batch(i), pass);
    reporter.report(stage, static_cast<int64_t>(i) + 1, static_cast<int64_t>(task.batches()));
  }
}

Accesses select_tokens(const Accesses& accesses, const at::Tensor& which) {
  return {accesses.slots.index_select(0, which), accesses.weights.index_select(0, which)};
}

at::Tensor true_indices(const at::Tensor& mask) {
  return mask.reshape({-1}).nonzero().view({-1});
}

// The accesses of prompts about other subjects join the log.
void add_neighbours(const LanguageModel& model, std::span<const Item> items,
                    const std::vector<std::string>& names, const TeachOptions& options,
                    AccessLogs& logs, const Reporter& reporter) {
  if (options.neighbours <= 0 || names.empty()) return;
  const auto prompts =
      make_neighbours(items, names, options.neighbours, Rng(options.seed).split(7));
  if (prompts.empty()) return;
  ExampleOptions example_options;
  example_options.raw = options.raw;
  std::vector<Example> examples;
  for (const auto& prompt : prompts) {
    Example e;
    e.tokens = encode_prompt(model, prompt, example_options);
    e.tokens.push_back(0);  // a batch never feeds the last token
    e.label.assign(e.tokens.size(), 0);
    e.label.back() = 1;
    e.subject.assign(e.tokens.size(), 0);
    examples.push_back(std::move(e));
  }
  // Only the blocks up to the highest memory layer are needed.
  const c10::InferenceMode inference;
  const int64_t top = model.memory().rbegin()->first + 1;
  const auto batches = make_batches(examples, 2 * kBatchTokens);
  int64_t done = 0;
  for (const Batch& batch : batches) {
    reporter.check_cancelled();
    const auto where = true_indices(batch.mask);
    const FfnSide existing = model.side(batch.mask);
    const FfnSide side = [&](int64_t block, const at::Tensor& x) -> at::Tensor {
      const auto it = model.memory().find(block);
      if (it == model.memory().end()) return {};
      const auto flat = x.reshape({-1, x.size(-1)}).index_select(0, where);
      logs.at(block).append(it->second.keys.lookup(flat), options.neighbour_weight, false);
      return existing(block, x);
    };
    ForwardOptions forward;
    forward.side = &side;
    const auto& net = model.net();
    net.run(net.embed(batch.ids.to(net.device())), 0, top, forward);
    reporter.report("neighbours", ++done, static_cast<int64_t>(batches.size()));
  }
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

// Facts with subjects: value vectors, then one deposit per layer, lowest first.
void teach_subjects(const LanguageModel& model, const std::vector<Example>& examples, int64_t facts,
                    AccessLogs& logs, const TeachOptions& options, const Reporter& reporter,
                    Proposal& proposal) {
  const Values values = solve_values(model, examples, facts, options.values, reporter);
  proposal.teach_tokens += values.tokens;

  // With the values in place: what the sites read, with which gradient, and what the rest of the
  // prompts read.
  LanguageTask task(model, examples, kBatchTokens);
  std::map<int64_t, std::vector<Accesses>> site_parts;
  std::map<int64_t, std::vector<at::Tensor>> target_parts;
  std::map<int64_t, SlotStatistics> statistics;
  std::vector<at::Tensor> sites;
  for (size_t i = 0; i < task.batches(); ++i) sites.push_back(write_sites(task.batch(i), examples));
  size_t batch_index = 0;
  for_each_pass(
      task, reporter, "read accesses",
      [&](size_t i) {
        PassOptions o;
        o.values = &values.by_block;
        o.sites = sites[i];
        return o;
      },
      [&](const Batch& batch, const Pass& pass) {
        const auto flat = sites[batch_index].view({-1});
        const auto at_site = (flat >= 0).nonzero().view({-1});
        const auto elsewhere = true_indices(batch.mask.reshape({-1}).logical_and(flat < 0));
        const auto fact = flat.index_select(0, at_site).to(at::kLong);
        for (const auto& [block, accesses] : pass.accesses) {
          const Accesses at_sites = select_tokens(accesses, at_site);
          const auto target = values.by_block.at(block).index_select(0, fact);
          // The pull of a slot is that of the values that are to be written through it.
          statistics[block].add(at_sites, target);
          site_parts[block].push_back(at_sites);
          target_parts[block].push_back(target);
          if (options.neighbours > 0)
            logs.at(block).append(select_tokens(accesses, elsewhere), options.neighbour_weight,
                                  false);
        }
        ++batch_index;
      });

  for (const auto& [block, layer] : model.memory()) {
    reporter.check_cancelled();
    const int64_t most = options.slots > 0 ? options.slots : 8000;
    const auto selected =
        select_slots(statistics.at(block), logs.at(block), options.ranking, most,
                     options.deposit.lambda, Rng(options.seed).split(static_cast<uint64_t>(block)));
    const SlotIndex index(selected);
    const Accesses all = concat(site_parts.at(block));
    const auto delta = deposit(all, at::cat(target_parts.at(block)), index,
                               logs.at(block).gram(index), options.deposit);
    add_layer(proposal.update, block, selected, delta);
    proposal.taught_accesses[block] = all;
  }
}

// Everything else: preconditioned steps through the lookup.
void teach_stepwise(const LanguageModel& model, const std::vector<Example>& examples,
                    const AccessLogs& logs, const TeachOptions& options, const Reporter& reporter,
                    Proposal& proposal) {
  LanguageTask task(model, examples, kBatchTokens / 2);
  std::map<int64_t, SlotStatistics> statistics;
  for_each_pass(
      task, reporter, "rank slots",
      [](size_t) {
        PassOptions o;
        o.gradient = true;
        return o;
      },
      [&](const Batch& batch, const Pass& pass) {
        proposal.teach_tokens += batch.mask.sum().item<int64_t>();
        for (const auto& [block, accesses] : pass.accesses)
          statistics[block].add(accesses, pass.output_gradient.at(block));
      });
  std::map<int64_t, std::vector<int64_t>> selected;
  std::map<int64_t, at::Tensor> gram;
  for (const auto& [block, layer] : model.memory()) {
    const int64_t most = options.slots > 0 ? options.slots : 4000;
    selected[block] =
        select_slots(statistics.at(block), logs.at(block), options.ranking, most,
                     options.rows.lambda, Rng(options.seed).split(static_cast<uint64_t>(block)));
    gram[block] = logs.at(block).gram(SlotIndex(selected[block]));
  }
  const auto solved = solve_rows(task, selected, gram, model.net().config().width, options.rows,
                                 Rng(options.seed).split(11), reporter);
  proposal.teach_tokens += solved.tokens;
  for (const auto& [block, change] : solved.changes)
    add_layer(proposal.update, block, change.slots, change.delta);
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

Proposal propose(const LanguageModel& model, std::vector<Item> items, const AccessLogs& background,
                 const std::vector<std::string>& names, const TeachOptions& options,
                 const Reporter& reporter) {
  Proposal proposal;
  proposal.items = static_cast<int64_t>(items.size());
  fill_subjects(items);
  AccessLogs logs = background;
  add_neighbours(model, items, names, options, logs, reporter);

  ExampleOptions example_options;
  example_options.raw = options.raw;
  std::vector<Example> with_subject, others;
  for (Example& e : make_examples(model, items, example_options)) {
    const bool marked = std::find(e.subject.begin(), e.subject.end(), 1) != e.subject.end();
    (marked && !options.stepwise ? with_subject : others).push_back(std::move(e));
  }
  // Number the facts of the closed path from 0.
  std::map<int64_t, int64_t> number;
  for (Example& e : with_subject)
    e.item = number.try_emplace(e.item, static_cast<int64_t>(number.size())).first->second;
  if (!with_subject.empty())
    teach_subjects(model, with_subject, static_cast<int64_t>(number.size()), logs, options,
                   reporter, proposal);
  if (!others.empty()) {
    Proposal second;
    teach_stepwise(model, others, logs, options, reporter, second);
    proposal.teach_tokens += second.teach_tokens;
    if (proposal.update.layers.empty()) {
      proposal.update = std::move(second.update);
    } else {
      // Both kinds in one set: the rows add up.
      std::map<int, SparseRows> sum;
      for (const Update* u : {&proposal.update, &second.update})
        for (const LayerDelta& l : u->layers)
          sum[l.block] = sum[l.block].plus(
              l.indices,
              at::from_blob(const_cast<float*>(l.delta.data()),
                            {static_cast<int64_t>(l.indices.size()), l.width}, at::kFloat));
      Update both;
      for (const auto& [block, rows] : sum) add_layer(both, block, rows.slots, rows.values);
      proposal.update = std::move(both);
    }
  }
  if (proposal.update.layers.empty())
    throw Error(ErrorCode::kRefused, "no row needs to change; nothing was committed",
                "is all of it known already?");
  return proposal;
}

AccessLogs load_protected_log(const LanguageModel& model, const Ledger& ledger,
                              double earlier_weight) {
  AccessLogs logs = load_background(model.folder(), model.memory());
  for (const auto& record : ledger.active()) {
    const auto file = ledger.folder() / "updates" / (record.id + ".log.safetensors");
    if (!std::filesystem::exists(file)) continue;
    append_update_log(file, model.memory(), earlier_weight, logs);
  }
  return logs;
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
  record.method = ranking_name(options.ranking) + (options.stepwise ? "+steps" : "+deposit");
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
  metadata["format"] = "accrete-update-1";
  metadata["base_digest"] = load_memory_info(folder).value("base_digest", "");
  metadata["parent"] = record.parent;
  metadata["data_digest"] = data.digest;
  metadata["seed"] = std::to_string(options.seed);
  metadata["method"] = record.method;
  metadata["tool_version"] = options.tool_version;
  metadata["learned"] =
      fmt::format("{:.6f} -> {:.6f}", result.learned_before, result.learned_after);
  const UpdateRecord stored = ledger.commit(proposal.update, record);
  if (!proposal.taught_accesses.empty())
    save_update_log(ledger.folder() / "updates" / (stored.id + ".log.safetensors"),
                    proposal.taught_accesses);
  result.update = stored.id;
  result.seconds = seconds();
  result.peak_bytes = peak_memory_bytes();
  reporter.report("done", 1, 1);
  return result;
}

}  // namespace accrete
