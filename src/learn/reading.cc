#include "learn/reading.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "learn/below_address.h"
#include "model/prompt_tree.h"

namespace accrete {
namespace {

constexpr int64_t kTokens = 1024;  // of a pass

// Accesses and queries of every token of the tree, in the order of its rows.
Reads read_tree(const LanguageModel& model, PromptTree& tree, bool with_queries,
                const Reporter& reporter, std::string_view stage) {
  const Memory& memory = model.memory();
  const int64_t A = memory.address_block, K = memory.keys.accesses_per_token();
  Reads out;
  out.accesses = {at::empty({tree.rows(), K}, at::kInt), at::empty({tree.rows(), K}, at::kFloat)};
  if (with_queries)
    out.queries = at::empty({tree.rows(), memory.keys.options().query_width}, at::kFloat);
  PackedPass packed(model.net());
  const bool low_precision = PackedPass::low_precision_pays(model.net(), tree.rows());
  const PromptTree::Pass pass = [&](const at::Tensor& embedded, const PackedSequences& sequences,
                                    const PackedPass::SeeKeys& keys,
                                    std::span<const PromptTree::Part> parts) {
    PackedPass::Options options;
    options.keys = &keys;
    options.low_precision = low_precision;
    const auto h = packed.forward(embedded, sequences, 0, A, options);
    const auto x = packed.ffn_input(h.clone(), sequences, A, &keys);
    const auto accesses = memory.keys.lookup(x);
    const auto queries = with_queries ? memory.keys.queries(x) : at::Tensor();
    for (const PromptTree::Part& p : parts) {
      const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
        to.narrow(0, p.row, p.tokens).copy_(from.narrow(0, p.begin, p.tokens));
      };
      copy(out.accesses.slots, accesses.slots);
      copy(out.accesses.weights, accesses.weights);
      if (with_queries) copy(out.queries, queries);
    }
  };
  tree.run(model.net(), A + 1, pass, reporter, stage);
  return out;
}

// Where packed passes do not apply: whole prompts, in padded batches.
Reads read_whole(const LanguageModel& model, std::span<const ReadRequest> requests,
                 bool with_queries, const Reporter& reporter, std::string_view stage) {
  std::vector<Example> examples;
  for (const ReadRequest& request : requests) {
    Example e;
    e.tokens = request.tokens;
    e.tokens.push_back(0);  // a batch never feeds the last token
    e.label.assign(e.tokens.size() - 1, 0);
    e.label.push_back(1);
    e.subject.resize(e.tokens.size());
    examples.push_back(std::move(e));
  }
  std::vector<Accesses> parts(requests.size());
  std::vector<at::Tensor> queries(requests.size());
  const auto batches = make_batches(examples, tokens_a_pass(model.net(), kTokens));
  for (size_t i = 0; i < batches.size(); ++i) {
    reporter.check_cancelled();
    const BelowAddress below = below_address(model, batches[i]);
    const int64_t T = batches[i].ids.size(1);
    for (size_t b = 0; b < batches[i].examples.size(); ++b) {
      const auto r = static_cast<size_t>(batches[i].examples[b]);
      const int64_t from = static_cast<int64_t>(b) * T + requests[r].from;
      const int64_t n = static_cast<int64_t>(requests[r].tokens.size()) - requests[r].from;
      // Copies: a view would keep the whole batch.
      parts[r] = {below.accesses.slots.narrow(0, from, n).clone(),
                  below.accesses.weights.narrow(0, from, n).clone()};
      if (with_queries) queries[r] = below.queries.narrow(0, from, n).clone();
    }
    reporter.report(stage, static_cast<int64_t>(i) + 1, static_cast<int64_t>(batches.size()));
  }
  Reads out;
  for (const Accesses& part : parts) out.begin.push_back(out.begin.back() + part.tokens());
  out.accesses = concat(parts);
  if (with_queries) out.queries = at::cat(queries);
  return out;
}

}  // namespace

Reads read_prompts(const LanguageModel& model, std::span<const ReadRequest> requests,
                   bool with_queries, const Reporter& reporter, std::string_view stage) {
  const at::NoGradGuard no_grad;
  if (requests.empty()) return {};
  if (!PackedPass::supports(model.net()))
    return read_whole(model, requests, with_queries, reporter, stage);
  std::vector<std::span<const int32_t>> prompts;
  for (const ReadRequest& request : requests) prompts.push_back(request.tokens);
  PromptTree tree(std::move(prompts));
  const Reads table = read_tree(model, tree, with_queries, reporter, stage);

  // From the tree's rows to each request's.
  Reads out;
  std::vector<int64_t> rows;
  for (size_t r = 0; r < requests.size(); ++r) {
    tree.append_rows(r, requests[r].from, rows);
    out.begin.push_back(static_cast<int64_t>(rows.size()));
  }
  const auto index = at::tensor(rows, at::kLong);
  out.accesses = {table.accesses.slots.index_select(0, index),
                  table.accesses.weights.index_select(0, index)};
  if (with_queries) out.queries = table.queries.index_select(0, index);
  return out;
}

}  // namespace accrete
