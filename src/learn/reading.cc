#include "learn/reading.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "learn/below_address.h"
#include "model/packed_pass.h"

namespace accrete {
namespace {

constexpr int64_t kRows = 512;  // of a pass

// Tokens [begin, end) of prompt `prompt`, which all prompts below it share.
struct Node {
  size_t prompt = 0;
  int64_t begin = 0, end = 0;
  int64_t parent = -1;
  int64_t level = 0;
  int64_t row = 0;          // of its first token in the table of all nodes' tokens
  bool inner = false;       // others continue it
  std::vector<float> keys;  // [address block + 1, 2, tokens, kv width] of an inner one
};

struct Tree {
  std::vector<Node> nodes;    // parents first
  std::vector<int64_t> leaf;  // of each request: the node where it ends
  int64_t rows = 0;
};

// The prompts in ascending order are one tree: [first, last) share their first `depth` tokens.
void grow(std::span<const ReadRequest> requests, const std::vector<size_t>& order, size_t first,
          size_t last, int64_t depth, int64_t parent, Tree& tree) {
  const auto tokens = [&](size_t i) -> const std::vector<int32_t>& {
    return requests[order[i]].tokens;
  };
  while (first < last) {
    // Those that go on with the same token, and how far they stay together.
    size_t end = first + 1;
    const auto at = static_cast<size_t>(depth);
    while (end < last && tokens(end)[at] == tokens(first)[at]) ++end;
    const auto &a = tokens(first), &b = tokens(end - 1);  // the most different two
    size_t together = at;
    while (together < a.size() && together < b.size() && a[together] == b[together]) ++together;
    Node node;
    node.prompt = order[first];
    node.begin = depth;
    node.end = static_cast<int64_t>(together);
    node.parent = parent;
    node.level = parent < 0 ? 0 : tree.nodes[static_cast<size_t>(parent)].level + 1;
    node.row = tree.rows;
    tree.rows += node.end - node.begin;
    const auto index = static_cast<int64_t>(tree.nodes.size());
    size_t ended = first;
    while (ended < end && tokens(ended).size() == together) tree.leaf[order[ended++]] = index;
    node.inner = ended < end;
    tree.nodes.push_back(std::move(node));
    grow(requests, order, ended, end, static_cast<int64_t>(together), index, tree);
    first = end;
  }
}

// Accesses and queries of every token of the tree, in the order of its rows.
Reads read_tree(const LanguageModel& model, std::span<const ReadRequest> requests, Tree& tree,
                bool with_queries, const Reporter& reporter, std::string_view stage) {
  const Transformer& net = model.net();
  const Memory& memory = model.memory();
  const ModelConfig& c = net.config();
  const int64_t A = memory.address_block, kv = c.kv_heads * c.head_dim;
  const int64_t K = memory.keys.accesses_per_token();
  Reads out;
  out.accesses = {at::empty({tree.rows, K}, at::kInt), at::empty({tree.rows, K}, at::kFloat)};
  if (with_queries)
    out.queries = at::empty({tree.rows, memory.keys.options().query_width}, at::kFloat);
  PackedPass pass(net);

  std::vector<size_t> order(tree.nodes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return tree.nodes[a].level < tree.nodes[b].level; });
  int64_t done = 0;
  for (size_t at = 0; at < order.size();) {
    reporter.check_cancelled();
    PackedSequences packed;
    std::vector<int64_t> ids;
    const size_t first = at;
    const int64_t level = tree.nodes[order[at]].level;
    for (; at < order.size() && tree.nodes[order[at]].level == level; ++at) {
      Node& node = tree.nodes[order[at]];
      const int64_t n = node.end - node.begin;
      if (at > first && packed.rows() + n > kRows) break;
      std::vector<Past> past;
      for (int64_t p = node.parent; p >= 0; p = tree.nodes[static_cast<size_t>(p)].parent) {
        const Node& before = tree.nodes[static_cast<size_t>(p)];
        past.push_back({before.keys.data(), before.end - before.begin, 0});
      }
      std::reverse(past.begin(), past.end());
      packed.add(n, std::move(past));
      const auto& tokens = requests[node.prompt].tokens;
      ids.insert(ids.end(), tokens.begin() + node.begin, tokens.begin() + node.end);
      if (node.inner) node.keys.resize(static_cast<size_t>((A + 1) * 2 * n * kv));
    }
    const PackedPass::SeeKeys keys = [&](int64_t b, const at::Tensor& k, const at::Tensor& v) {
      for (size_t i = first; i < at; ++i) {
        Node& node = tree.nodes[order[i]];
        if (!node.inner) continue;
        const int64_t begin = packed.begin[i - first], n = node.end - node.begin;
        const auto copy = [&](const at::Tensor& rows, int64_t place) {
          const float* from = rows.const_data_ptr<float>() + begin * kv;
          std::copy(from, from + n * kv, node.keys.begin() + place * n * kv);
        };
        copy(k, 2 * b);
        copy(v, 2 * b + 1);
      }
    };
    PackedPass::Options options;
    options.keys = &keys;
    auto h = pass.forward(net.embed(at::tensor(ids, at::kLong)), packed, 0, A, options);
    const auto x = pass.ffn_input(h.clone(), packed, A, &keys);
    const auto accesses = memory.keys.lookup(x);
    const auto queries = with_queries ? memory.keys.queries(x) : at::Tensor();
    for (size_t i = first; i < at; ++i) {
      const Node& node = tree.nodes[order[i]];
      const int64_t begin = packed.begin[i - first], n = node.end - node.begin;
      const auto copy = [&](const at::Tensor& to, const at::Tensor& from) {
        to.narrow(0, node.row, n).copy_(from.narrow(0, begin, n));
      };
      copy(out.accesses.slots, accesses.slots);
      copy(out.accesses.weights, accesses.weights);
      if (with_queries) copy(out.queries, queries);
    }
    done += packed.rows();
    reporter.report(stage, done, tree.rows);
  }
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
    e.label.resize(e.tokens.size());
    e.label.back() = 1;
    e.subject.resize(e.tokens.size());
    examples.push_back(std::move(e));
  }
  std::vector<Accesses> parts(requests.size());
  std::vector<at::Tensor> queries(requests.size());
  const auto batches = make_batches(examples, tokens_a_pass(model.net(), 2 * kRows));
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
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return requests[a].tokens < requests[b].tokens; });
  Tree tree;
  tree.leaf.resize(requests.size());
  grow(requests, order, 0, order.size(), 0, -1, tree);
  const Reads table = read_tree(model, requests, tree, with_queries, reporter, stage);

  // From the tree's rows to each request's.
  Reads out;
  std::vector<int64_t> rows;
  for (size_t r = 0; r < requests.size(); ++r) {
    std::vector<int64_t> backwards;
    for (int64_t n = tree.leaf[r]; n >= 0; n = tree.nodes[static_cast<size_t>(n)].parent) {
      const Node& node = tree.nodes[static_cast<size_t>(n)];
      for (int64_t t = node.end - 1; t >= std::max(node.begin, requests[r].from); --t)
        backwards.push_back(node.row + t - node.begin);
    }
    rows.insert(rows.end(), backwards.rbegin(), backwards.rend());
    out.begin.push_back(static_cast<int64_t>(rows.size()));
  }
  const auto index = at::tensor(rows, at::kLong);
  out.accesses = {table.accesses.slots.index_select(0, index),
                  table.accesses.weights.index_select(0, index)};
  if (with_queries) out.queries = table.queries.index_select(0, index);
  return out;
}

}  // namespace accrete
