#include "learn/propose.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "base/pages.h"
#include "learn/lessons.h"
#include "learn/reading.h"
#include "learn/sites.h"
#include "learn/subject_prompts.h"
#include "learn/subjects.h"
#include "model/weight_pages.h"

namespace accrete {
namespace {

constexpr int64_t kTaskTokens = 1024;
constexpr int64_t kChatSteps = 45;
constexpr int64_t kPullRows = 512;
constexpr int64_t kManySlots = 4096;  // their Gram matrix takes 64 MiB

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

void set_anchors(Update& update, const at::Tensor& queries) {
  const auto anchors = queries.contiguous();
  update.anchors.width = anchors.size(1);
  update.anchors.queries.assign(anchors.data_ptr<float>(),
                                anchors.data_ptr<float>() + anchors.numel());
}

std::vector<int64_t> select_rows(const SlotStatistics& statistics, const AccessLog& log,
                                 const TeachOptions& options, int64_t default_slots,
                                 double lambda) {
  return select_slots(statistics, log, options.ranking,
                      options.slots > 0 ? options.slots : default_slots, lambda,
                      Rng(options.seed).split(5));
}

// What a deposit needs, kept so that variants of it cost one solve.
struct DepositInputs {
  AccessLog log;
  std::vector<int64_t> selected;
  Accesses sites;
  at::Tensor item;     // [n] int64: the item a site belongs to; companions count from items on
  at::Tensor values;   // [subjects, blocks x d]
  at::Tensor queries;  // [n, query_width]
  std::vector<int64_t> blocks;
  int64_t items = 0, companions = 0;
  Gate gate;
  at::Device device = at::kCPU;  // where the model computes
  double anchor_spacing = 0;
  std::vector<int64_t> subject;  // of each item, companions too
};

Update deposit_variant(const DepositInputs& in, const Taught& taught, const TeachOptions& options,
                       const Variant& variant) {
  std::vector<int64_t> rows, owners;
  const auto* whose = in.item.data_ptr<int64_t>();
  for (int64_t j = 0; j < in.item.size(0); ++j)
    if (!std::binary_search(variant.dropped.begin(), variant.dropped.end(), whose[j]))
      rows.push_back(j);
  std::vector<int64_t> place(static_cast<size_t>(in.items + in.companions), -1);
  Update update;
  for (int64_t i = 0; i < in.items; ++i)
    if (!std::binary_search(variant.dropped.begin(), variant.dropped.end(), i)) {
      place[static_cast<size_t>(i)] = static_cast<int64_t>(update.taught.items.size());
      update.taught.items.push_back(taught.items[static_cast<size_t>(i)]);
    }
  if (rows.empty() || update.taught.items.empty())
    throw Error(ErrorCode::kInvalidArgument, "every item is dropped: there is nothing to write");
  const auto keep = at::tensor(rows, at::kLong);
  const Accesses sites = select_tokens(in.sites, keep);
  DepositOptions how = options.deposit;
  how.lambda *= variant.lambda_factor;
  how.device = in.device;
  Targets targets{in.values, {}};
  for (const int64_t j : rows) targets.of.push_back(in.subject[static_cast<size_t>(whose[j])]);
  auto delta = deposit(sites, targets, in.selected, in.log, how);
  if (variant.scale != 1) delta = delta * variant.scale;
  const int64_t d = delta.size(1) / static_cast<int64_t>(in.blocks.size());
  for (size_t b = 0; b < in.blocks.size(); ++b)
    add_layer(update, in.blocks[b], in.selected, delta.narrow(1, static_cast<int64_t>(b) * d, d));
  if (options.gated)
    set_anchors(update, thin_anchors(in.gate, in.queries.index_select(0, keep), in.anchor_spacing));
  // What is written for companions is protected by the update that taught them.
  std::vector<int64_t> own;
  for (size_t j = 0; j < rows.size(); ++j)
    if (const int64_t p = place[static_cast<size_t>(whose[rows[j]])]; p >= 0) {
      own.push_back(static_cast<int64_t>(j));
      owners.push_back(p);
    }
  if (!own.empty())
    set_taught_accesses(update.taught, select_tokens(sites, at::tensor(own, at::kLong)),
                        at::tensor(owners, at::kLong));
  return update;
}

TaughtItem taught_item(const Item& item, bool raw) {
  TaughtItem out;
  out.line = item.line;
  out.raw = raw;
  switch (item.kind) {
    case Item::Kind::kFact:
      out.prompts = item.prompts;
      out.answers = item.answers;
      out.subject = item.subject;
      if (item.prompts.empty()) out.answers.clear();  // only asked: nothing was taught
      break;
    case Item::Kind::kMessages:
      for (const Message& m : item.messages) out.excerpt += m.content + "\n";
      out.excerpt = excerpt_of(out.excerpt);
      break;
    case Item::Kind::kText:
      out.excerpt = excerpt_of(item.text);
      break;
  }
  return out;
}

// Facts with subjects: value vectors at the subject, deposited in the slots that the subject reads.
void teach_subjects(const LanguageModel& model, const Lessons& lessons,
                    const std::vector<Example>& examples,
                    const std::map<int64_t, int64_t>& subject_of, int64_t subjects, AccessLog log,
                    const TeachOptions& options, const SubjectPrompts* prompts,
                    const Reporter& reporter, const Protect& protect, Proposal& proposal) {
  const auto facts = static_cast<int64_t>(subject_of.size());
  if (prompts != nullptr && !prompts->are_of(examples, model.memory().overlay)) prompts = nullptr;
  Sites sites = read_sites(model, lessons, examples, options.gated, reporter, prompts);
  if (options.neighbours > 0) log.append(sites.others, options.neighbour_weight, false);
  if (protect) protect(log, options.gated ? Speaks{Reach::kSubjects, sites.queries} : Speaks());

  // Beside the new anchors earlier updates may be heard less: what is solved is solved as it will
  // be.
  std::optional<LanguageModel> beside;
  const Memory& memory = model.memory();
  const auto near_earlier = [&] {
    const auto near = memory.overlay.anchors.near(memory.gate, sites.queries);
    return std::any_of(near.begin(), near.end(), [](const auto& some) { return !some.empty(); });
  };
  if (options.gated && memory.overlay.anchors.parts > 0 && near_earlier()) {
    beside.emplace(model);
    beside->use_overlay(memory.overlay.with_anchors(sites.queries));
  }
  ValueSolverOptions solver = options.values;
  if (solver.steps == 0 && model.uses_chat(options.raw)) solver.steps = kChatSteps;
  const Values values = solve_values(beside ? *beside : model, examples, subject_of, subjects,
                                     solver, reporter, beside ? nullptr : prompts);
  proposal.teach_tokens += values.tokens;
  return_free_memory();  // the solver's, before the Gram matrix

  reporter.report("rank slots", 0, 1);
  std::vector<int64_t> owners;
  for (const int64_t item : sites.item) owners.push_back(subject_of.at(item));
  const auto owner = at::tensor(owners, at::kLong);
  std::vector<at::Tensor> of_blocks;
  for (const auto& [block, v] : values.by_block) of_blocks.push_back(v);
  const auto all_values = at::cat(of_blocks, 1);
  // A slot's pull is that of the values to be written through it; a part at a time, since each
  // needs as much memory as its accesses have values.
  SlotStatistics statistics;
  for (int64_t at = 0; at < owner.size(0); at += kPullRows) {
    const int64_t n = std::min(kPullRows, owner.size(0) - at);
    statistics.add({sites.accesses.slots.narrow(0, at, n), sites.accesses.weights.narrow(0, at, n)},
                   all_values.index_select(0, owner.narrow(0, at, n)));
  }

  auto inputs = std::make_shared<DepositInputs>();
  inputs->selected =
      select_rows(statistics, log, options, 40 * facts + 1000, options.deposit.lambda);
  reporter.report("rank slots", 1, 1);
  inputs->log = std::move(log);
  inputs->sites = sites.accesses;
  inputs->item = at::tensor(sites.item, at::kLong);
  inputs->values = all_values;
  inputs->queries = sites.queries;
  for (const auto& [block, v] : values.by_block) inputs->blocks.push_back(block);
  inputs->items = lessons.own;
  inputs->companions = static_cast<int64_t>(lessons.items.size()) - lessons.own;
  inputs->gate = memory.gate;
  inputs->device = model.net().device();
  inputs->anchor_spacing = options.anchor_spacing * memory.gate.radius / 6;
  for (size_t i = 0; i < lessons.items.size(); ++i) {
    const auto it = subject_of.find(static_cast<int64_t>(i));
    inputs->subject.push_back(it == subject_of.end() ? -1 : it->second);
  }
  return_free_memory();  // copies of weights, before the Gram matrix
  for (int64_t i = 0; i < lessons.own; ++i)
    proposal.item_queries.push_back(
        inputs->queries.index_select(0, (inputs->item == i).nonzero().view({-1})));
  reporter.report("write", 0, 1);
  if (static_cast<int64_t>(inputs->selected.size()) > kManySlots) forget_weights(model.net());
  const Taught taught = proposal.update.taught;
  proposal.deposit_again = [inputs, taught, options](const Variant& variant) {
    return deposit_variant(*inputs, taught, options, variant);
  };
  proposal.update = proposal.deposit_again({});
  return_free_memory();
  reporter.report("write", 1, 1);
}

// Of at most `most` tokens that were trained on, evenly spread: what later updates should spare.
constexpr int64_t kMostProtected = 2048;

// Where running text may speak: at its own tokens, but for those whose slots the background reads
// most, which are every text's.
RowGate text_gate(LanguageTask& task, const AccessLog& log, const Memory& memory,
                  const TeachOptions& options) {
  const auto diagonal = log.diagonal();
  const SlotIndex read(diagonal.slots);
  const auto g = at::cat({at::tensor(diagonal.values, at::kFloat), at::zeros({1}, at::kFloat)});
  const auto unread = static_cast<int64_t>(diagonal.values.size());
  std::vector<at::Tensor> queries, common, first;
  for (size_t i = 0; i < task.batches(); ++i) {
    const LanguageTask::Frozen& frozen = task.frozen(i);
    const int64_t T = task.batch(i).ids.size(1);
    first.push_back(
        frozen.queries.index_select(0, at::arange(0, task.batch(i).ids.numel(), T, at::kLong)));
    const auto real = task.batch(i).mask.reshape({-1}).nonzero().view({-1});
    const auto slots = frozen.accesses.slots.index_select(0, real);
    const auto weights = frozen.accesses.weights.index_select(0, real);
    const auto rows = read.rows(slots).to(at::kLong);
    const auto own = g.index_select(0, at::where(rows < 0, unread, rows).view({-1}));
    common.push_back((weights.square() * own.view(weights.sizes())).sum(1));
    queries.push_back(frozen.queries.index_select(0, real));
  }
  auto all = at::cat(queries), how_common = at::cat(common);
  // Not at its first token: that says no more than how many a text begins.
  const auto elsewhere = memory.gate.first_at.defined()
                             ? memory.gate.first(all).logical_not()
                             : clear_of_first(all, at::cat(first), memory.gate);
  if (const auto clear = elsewhere.nonzero().view({-1}); clear.size(0) > 0) {
    all = all.index_select(0, clear);
    how_common = how_common.index_select(0, clear);
  }
  const auto n = std::max<int64_t>(
      1, static_cast<int64_t>(options.text_share * static_cast<double>(all.size(0))));
  const auto rare = how_common.argsort().narrow(0, 0, std::min(n, all.size(0)));
  RowGate gate;
  gate.anchors = thin_anchors(memory.gate, all.index_select(0, std::get<0>(rare.sort())),
                              options.anchor_spacing * memory.gate.radius / 6)
                     .contiguous();
  for (size_t i = 0; i < task.batches(); ++i)
    gate.of_batch.push_back(memory.gate(task.frozen(i).queries, gate.anchors));
  return gate;
}

// Everything else: preconditioned steps through the lookup.
void teach_stepwise(const LanguageModel& model, const std::vector<Example>& examples, AccessLog log,
                    const TeachOptions& options, const Reporter& reporter, const Protect& protect,
                    Anchors* anchors, Proposal& proposal) {
  LanguageTask task(model, examples, kTaskTokens / 2);
  SlotStatistics statistics;
  PassOptions with_gradient;
  with_gradient.gradient = true;
  std::vector<Accesses> read;
  std::vector<int64_t> owner;
  for (size_t i = 0; i < task.batches(); ++i) {
    reporter.check_cancelled();
    const Pass pass = task.run(i, with_gradient);
    std::vector<at::Tensor> gradients;
    for (const auto& [block, g] : pass.output_gradient) gradients.push_back(g);
    const Batch& batch = task.batch(i);
    statistics.add(task.frozen(i).accesses, at::cat(gradients, 1));
    read.push_back(select_tokens(task.frozen(i).accesses, batch.positions));
    for (int64_t l = 0; l < batch.owner.size(0); ++l) {
      const auto b = static_cast<size_t>(batch.owner.data_ptr<int64_t>()[l]);
      owner.push_back(examples[static_cast<size_t>(batch.examples[b])].item);
    }
    reporter.report("rank slots", static_cast<int64_t>(i) + 1,
                    static_cast<int64_t>(task.batches()));
  }
  proposal.teach_tokens += task.tokens();
  RowGate gate;
  if (options.gated && options.text_share < 1) gate = text_gate(task, log, model.memory(), options);
  if (protect) protect(log, gate.anchors.defined() ? Speaks{Reach::kText, gate.anchors} : Speaks());
  const auto selected = select_rows(statistics, log, options, 4000, options.rows.lambda);
  const auto solved = solve_rows(task, selected, log.gram(SlotIndex(selected)),
                                 model.memory().blocks, model.net().config().width, options.rows,
                                 Rng(options.seed).split(11), reporter, anchors);
  proposal.teach_tokens += solved.tokens;
  proposal.stopped = solved.stopped;
  proposal.check_seconds = solved.check_seconds;
  proposal.step_seconds = solved.seconds;
  for (const auto& [block, delta] : solved.changes.delta)
    add_layer(proposal.update, block, solved.changes.slots, delta);
  if (gate.anchors.defined()) {
    set_anchors(proposal.update, gate.anchors);
    proposal.update.anchors.text = true;
  }

  const auto tokens = static_cast<int64_t>(owner.size());
  std::vector<int64_t> kept, whose;
  for (int64_t k = 0; k < std::min(tokens, kMostProtected); ++k) {
    kept.push_back(k * tokens / std::min(tokens, kMostProtected));
    whose.push_back(owner[static_cast<size_t>(kept.back())]);
  }
  set_taught_accesses(proposal.update.taught,
                      select_tokens(concat(read), at::tensor(kept, at::kLong)),
                      at::tensor(whose, at::kLong));
}

// Facts with a subject are written beside each other, everything else step by step: not in one go.
[[noreturn]] void refuse_mixture(const TeachOptions& options, const Item& item) {
  const std::string where = accrete::format("{}:{}: ", options.source, item.line);
  if (item.kind != Item::Kind::kFact)
    throw Error(ErrorCode::kUnsupported,
                where + "running text and conversations cannot be taught in one update with facts",
                "put them into another file and teach one after the other");
  throw Error(ErrorCode::kUnsupported,
              where + accrete::format("nothing says whom \"{}\" is about; facts with and without a "
                                      "subject cannot be taught in one update",
                                      excerpt_of(item.prompts.front(), 80)),
              "give its \"subject\" as the question writes it, or put it into another file");
}

}  // namespace

std::vector<std::string> load_names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  const auto path = folder / "accrete" / "names.txt";
  if (!std::filesystem::exists(path)) return names;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) names.push_back(line);
  return names;
}

Update make_variant(const Proposal& proposal, const Variant& variant) {
  if (proposal.deposit_again) return proposal.deposit_again(variant);
  if (variant.lambda_factor != 1 || !variant.dropped.empty())
    throw Error(ErrorCode::kInvalidArgument, "rows that were learned by steps can only be scaled");
  Update update = proposal.update;
  for (LayerDelta& layer : update.layers)
    for (float& v : layer.delta) v = static_cast<float>(v * variant.scale);
  return update;
}

Proposal propose(const LanguageModel& model, std::vector<Item> items, const AccessLog& background,
                 const std::vector<std::string>& names, const TeachOptions& options,
                 const Reporter& reporter, const Protect& protect,
                 std::span<const Companion> companions, std::vector<Example> anchor_examples,
                 const SubjectPrompts* prompts) {
  fill_subjects(items);
  AccessLog log = background;
  add_neighbours(model, items, names, options, log, reporter);
  std::optional<Anchors> anchors;
  if (!anchor_examples.empty() &&
      (options.anchor_log_weight > 0 || options.rows.anchor_weight > 0 || options.rows.adapt)) {
    anchors.emplace(model, std::move(anchor_examples), options.rows.anchor_temperature, reporter);
    if (options.anchor_log_weight > 0)
      log.append(anchors->accesses(), options.anchor_log_weight, false);
  }

  Lessons lessons;
  lessons.own = static_cast<int64_t>(items.size());
  lessons.items = std::move(items);
  lessons.raw.assign(lessons.items.size(), options.raw);
  Proposal proposal;
  proposal.items = lessons.own;
  for (const Item& item : lessons.items)
    proposal.update.taught.items.push_back(taught_item(item, options.raw));

  const auto split = [&options](std::vector<Example> all, std::vector<Example>& with_subject,
                                std::vector<Example>& others) {
    for (Example& e : all) {
      const bool marked = std::find(e.subject.begin(), e.subject.end(), 1) != e.subject.end();
      (marked && !options.stepwise ? with_subject : others).push_back(std::move(e));
    }
  };
  std::vector<Example> with_subject, others;
  split(lessons.examples(model), with_subject, others);
  if (!with_subject.empty() && !others.empty())
    refuse_mixture(options, lessons.items[static_cast<size_t>(others.front().item)]);
  if (with_subject.empty()) {
    teach_stepwise(model, others, std::move(log), options, reporter, protect,
                   anchors ? &*anchors : nullptr, proposal);
  } else {
    for (const Companion& c : companions) {
      lessons.items.push_back(c.item);
      lessons.raw.push_back(c.raw);
    }
    with_subject.clear();
    std::vector<Example> unmarked;  // a companion whose subject is not found needs none of this
    split(lessons.examples(model), with_subject, unmarked);
    // Facts about one subject share its vectors.
    std::map<std::string, int64_t> subjects;
    std::map<int64_t, int64_t> subject_of;  // by item
    for (const Example& e : with_subject) {
      const auto subject = subject_key(lessons.items[static_cast<size_t>(e.item)].subject);
      subject_of[e.item] =
          subjects.try_emplace(subject, static_cast<int64_t>(subjects.size())).first->second;
    }
    teach_subjects(model, lessons, with_subject, subject_of, static_cast<int64_t>(subjects.size()),
                   std::move(log), options, prompts, reporter, protect, proposal);
  }
  if (proposal.update.layers.empty() && proposal.stopped)
    throw Error(ErrorCode::kRefused, "the first steps break a floor already; nothing was changed",
                "lower --rate, raise --lambda, or lower the floor");
  if (proposal.update.layers.empty())
    throw Error(ErrorCode::kRefused, "no row needs to change; nothing was committed",
                "is all of it known already?");
  return proposal;
}

}  // namespace accrete
