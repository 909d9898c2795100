#include "learn/scope_reading.h"

#include <ATen/ATen.h>

#include <set>
#include <utility>

#include "learn/sites.h"
#include "model/answer_pass.h"
#include "model/prompt_tree.h"

namespace accrete {

std::vector<at::Tensor> read_scope(const LanguageModel& model, const Lessons& lessons,
                                   std::span<const Example> examples, const KnownStates& known,
                                   const Reporter& reporter) {
  const at::NoGradGuard no_grad;
  constexpr int64_t kBatchTokens = 2048;
  const Transformer& net = model.net();
  std::set<std::pair<int64_t, int64_t>> wanted;  // items and phrasings
  for (const Example& e : examples)
    if (e.item < lessons.own) wanted.emplace(e.item, e.phrasing);
  // Of each item the states behind which its answer is predicted.
  std::vector<std::vector<at::Tensor>> states(static_cast<size_t>(lessons.own));
  const auto add = [&](const Example& e, const at::Tensor& z) {
    states[static_cast<size_t>(e.item)].push_back(z);
  };
  std::set<std::pair<int64_t, int64_t>> read;
  if (known.silent.defined()) {
    std::vector<StateRequest> requests;
    for (const Example& e : known.examples) requests.push_back(asked_states(e));
    const LabelRows labels = label_rows(known.examples, requests);
    const auto z = scope_states(model, known.silent);
    for (size_t l = 0; l < labels.row.size(); ++l) {
      const Example& e = known.examples[labels.example[l]];
      if (!wanted.contains({e.item, e.phrasing})) continue;
      add(e, z[labels.row[l]]);
      read.emplace(e.item, e.phrasing);
    }
  }
  std::vector<Example> all;
  for (const Example& e : examples) {
    if (e.item >= lessons.own) continue;
    if (!read.contains({e.item, e.phrasing})) all.push_back(e);
    const auto i = static_cast<size_t>(e.item);
    const Item& item = lessons.items[i];
    const auto contexts = reading_contexts();
    const auto phrasing = static_cast<size_t>(e.phrasing);
    all.push_back(make_example(
        model, std::string(contexts[phrasing % contexts.size()]) + item.prompts[phrasing],
        item.answers.front(), item.subject, lessons.example_options(i)));
    all.back().item = e.item;
  }
  if (PackedPass::supports(net)) {
    std::vector<StateRequest> requests;
    for (const Example& e : all) requests.push_back(asked_states(e));
    int64_t tokens = 0;
    for (const StateRequest& r : requests) tokens += static_cast<int64_t>(r.tokens.size());
    // In bfloat16 a state moves by a few hundredths of a scope's radius (bench/teach_bench).
    const auto z =
        scope_states(model, tree_states(model, requests, /*silent_scoped=*/true, reporter,
                                        "read scope", PackedPass::low_precision_pays(net, tokens)));
    const LabelRows labels = label_rows(all, requests);
    for (size_t l = 0; l < labels.row.size(); ++l) add(all[labels.example[l]], z[labels.row[l]]);
  } else {
    int64_t done = 0;
    for (const Batch& batch : make_batches(all, tokens_a_pass(net, kBatchTokens))) {
      reporter.check_cancelled();
      const FfnSide side = model.side({batch.mask, /*silent_scoped=*/true, nullptr});
      ForwardOptions forward;
      forward.side = &side;
      const auto h =
          net.run(net.embed(batch.ids.to(net.device())), 0, net.config().blocks, forward);
      const auto last =
          h.reshape({-1, h.size(-1)}).index_select(0, batch.positions.to(net.device()));
      const auto z = scope_states(model, last);
      for (int64_t l = 0; l < z.size(0); ++l) {
        const auto b = static_cast<size_t>(batch.owner.const_data_ptr<int64_t>()[l]);
        add(all[static_cast<size_t>(batch.examples[b])], z[l]);
      }
      done += static_cast<int64_t>(batch.examples.size());
      reporter.report("read scope", done, static_cast<int64_t>(all.size()));
    }
  }
  std::vector<at::Tensor> out;
  for (const auto& own : states)
    out.push_back(own.empty() ? at::empty({0, model.memory().scope.width()}) : at::stack(own));
  return out;
}

}  // namespace accrete
