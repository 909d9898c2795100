#include "model/prompt_tree.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

namespace accrete {
namespace {

constexpr int64_t kRows = 512;  // of a pass

bool before(std::span<const int32_t> a, std::span<const int32_t> b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

PromptTree::PromptTree(std::vector<std::span<const int32_t>> prompts)
    : prompts_(std::move(prompts)), leaf_(prompts_.size()) {
  std::vector<size_t> order(prompts_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return before(prompts_[a], prompts_[b]); });
  for (const auto& prompt : prompts_) tokens_ += static_cast<int64_t>(prompt.size());
  grow(order, 0, order.size(), 0, -1);
}

// The prompts in ascending order are one tree: [first, last) share their first `depth` tokens.
void PromptTree::grow(const std::vector<size_t>& order, size_t first, size_t last, int64_t depth,
                      int64_t parent) {
  const auto tokens = [&](size_t i) { return prompts_[order[i]]; };
  while (first < last) {
    // Those that go on with the same token, and how far they stay together.
    size_t end = first + 1;
    const auto at = static_cast<size_t>(depth);
    while (end < last && tokens(end)[at] == tokens(first)[at]) ++end;
    const auto a = tokens(first), b = tokens(end - 1);  // the most different two
    size_t together = at;
    while (together < a.size() && together < b.size() && a[together] == b[together]) ++together;
    Node node;
    node.prompt = order[first];
    node.begin = depth;
    node.end = static_cast<int64_t>(together);
    node.parent = parent;
    node.level = parent < 0 ? 0 : nodes_[static_cast<size_t>(parent)].level + 1;
    node.row = rows_;
    rows_ += node.end - node.begin;
    const auto index = static_cast<int64_t>(nodes_.size());
    size_t ended = first;
    while (ended < end && tokens(ended).size() == together) leaf_[order[ended++]] = index;
    node.inner = ended < end;
    nodes_.push_back(std::move(node));
    grow(order, ended, end, static_cast<int64_t>(together), index);
    first = end;
  }
}

std::vector<int64_t> PromptTree::path(size_t prompt) const {
  std::vector<int64_t> out;
  for (int64_t n = leaf_[prompt]; n >= 0; n = nodes_[static_cast<size_t>(n)].parent)
    out.push_back(n);
  std::reverse(out.begin(), out.end());
  return out;
}

void PromptTree::append_rows(size_t prompt, int64_t from, std::vector<int64_t>& out) const {
  for (const int64_t n : path(prompt)) {
    const Node& node = nodes_[static_cast<size_t>(n)];
    for (int64_t t = std::max(node.begin, from); t < node.end; ++t)
      out.push_back(node.row + t - node.begin);
  }
}

void PromptTree::run(const Transformer& net, int64_t blocks, const Pass& pass,
                     const Reporter& reporter, std::string_view stage) {
  const at::NoGradGuard no_grad;
  const ModelConfig& c = net.config();
  const int64_t kv = c.kv_heads * c.head_dim;
  std::vector<size_t> order(nodes_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return nodes_[a].level < nodes_[b].level; });
  int64_t done = 0;
  for (size_t at = 0; at < order.size();) {
    reporter.check_cancelled();
    PackedSequences packed;
    std::vector<int64_t> ids;
    std::vector<Part> parts;
    const size_t first = at;
    const int64_t level = nodes_[order[at]].level;
    for (; at < order.size() && nodes_[order[at]].level == level; ++at) {
      Node& node = nodes_[order[at]];
      const int64_t n = node.end - node.begin;
      if (at > first && packed.rows() + n > kRows) break;
      std::vector<Past> past;
      for (int64_t p = node.parent; p >= 0; p = nodes_[static_cast<size_t>(p)].parent) {
        const Node& ancestor = nodes_[static_cast<size_t>(p)];
        past.push_back({ancestor.keys.data(), ancestor.end - ancestor.begin, 0});
      }
      std::reverse(past.begin(), past.end());
      parts.push_back({node.row, packed.rows(), n});
      packed.add(n, std::move(past));
      const auto own =
          prompts_[node.prompt].subspan(static_cast<size_t>(node.begin), static_cast<size_t>(n));
      ids.insert(ids.end(), own.begin(), own.end());
      if (node.inner) node.keys.resize(static_cast<size_t>(blocks * 2 * n * kv));
    }
    const PackedPass::SeeKeys keys = [&](int64_t b, const at::Tensor& k, const at::Tensor& v) {
      if (b >= blocks) return;
      for (size_t i = first; i < at; ++i) {
        Node& node = nodes_[order[i]];
        if (!node.inner) continue;
        const Part& part = parts[i - first];
        const auto copy = [&](const at::Tensor& rows, int64_t place) {
          const float* from = rows.const_data_ptr<float>() + part.begin * kv;
          std::copy(from, from + part.tokens * kv, node.keys.begin() + place * part.tokens * kv);
        };
        copy(k, 2 * b);
        copy(v, 2 * b + 1);
      }
    };
    pass(net.embed(at::tensor(ids, at::kLong)), packed, keys, parts);
    done += packed.rows();
    reporter.report(stage, done, rows_);
  }
}

std::vector<std::vector<size_t>> tree_parts(std::span<const std::span<const int32_t>> prompts,
                                            int64_t rows) {
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return before(prompts[a], prompts[b]); });
  std::vector<std::vector<size_t>> out;
  int64_t of_part = rows;
  for (const size_t i : order) {
    if (of_part >= rows) {
      out.emplace_back();
      of_part = 0;
    }
    const auto own = prompts[i];
    auto fresh = own.begin();
    if (!out.back().empty()) {
      const auto last = prompts[out.back().back()];
      fresh = std::mismatch(own.begin(), own.end(), last.begin(), last.end()).first;
    }
    of_part += own.end() - fresh;
    out.back().push_back(i);
  }
  return out;
}

StateRequest asked_states(const Example& example) {
  const auto first = std::find(example.label.begin(), example.label.end(), 1);
  const auto last = std::find(example.label.rbegin(), example.label.rend(), 1);
  const auto end = static_cast<size_t>(example.label.rend() - last) - 1;  // of the last label
  return {std::span(example.tokens).first(end), first - example.label.begin() - 1};
}

LabelRows label_rows(std::span<const Example> examples, std::span<const StateRequest> requests) {
  LabelRows out;
  int64_t row = 0;
  for (size_t i = 0; i < examples.size(); ++i)
    for (size_t t = static_cast<size_t>(requests[i].from); t < requests[i].tokens.size();
         ++t, ++row) {
      if (examples[i].label[t + 1] == 0) continue;
      out.row.push_back(row);
      out.token.push_back(examples[i].tokens[t + 1]);
      out.example.push_back(i);
    }
  return out;
}

double share_passed_once(std::span<const StateRequest> requests) {
  std::vector<std::span<const int32_t>> prompts;
  for (const StateRequest& request : requests) prompts.push_back(request.tokens);
  const PromptTree tree(std::move(prompts));
  return tree.tokens() > 0 ? static_cast<double>(tree.rows()) / static_cast<double>(tree.tokens())
                           : 1;
}

at::Tensor tree_states(const LanguageModel& model, std::span<const StateRequest> requests,
                       const Reporter& reporter, std::string_view stage, bool low_precision) {
  constexpr int64_t kTreeRows = 4096;
  const at::NoGradGuard no_grad;
  const Transformer& net = model.net();
  const ModelConfig& c = net.config();
  PackedPass pass(net);
  std::vector<std::span<const int32_t>> all;
  for (const StateRequest& r : requests) all.push_back(r.tokens);
  std::vector<int64_t> begin = {0};
  for (const StateRequest& r : requests)
    begin.push_back(begin.back() + static_cast<int64_t>(r.tokens.size()) - r.from);
  auto out = at::empty({begin.back(), c.width}, at::kFloat);
  Reporter inner = reporter;
  inner.progress = nullptr;
  int64_t done = 0;
  for (const auto& part : tree_parts(all, kTreeRows)) {
    std::vector<std::span<const int32_t>> prompts;
    for (const size_t r : part) prompts.push_back(all[r]);
    PromptTree tree(std::move(prompts));
    auto table = at::empty({tree.rows(), c.width}, at::kFloat);
    tree.run(
        net, c.blocks,
        [&](const at::Tensor& h, const PackedSequences& sequences, const PackedPass::SeeKeys& keys,
            std::span<const PromptTree::Part> parts) {
          const FfnSide side = model.side();
          const PackedPass::Add add = [&side](int64_t block, const at::Tensor& x, at::Tensor& to) {
            if (const auto y = side(block, x); y.defined()) to.add_(y);
          };
          PackedPass::Options options;
          options.add = &add;
          options.keys = &keys;
          options.low_precision = low_precision;
          const auto states = pass.forward(h, sequences, 0, c.blocks, options);
          for (const PromptTree::Part& p : parts)
            table.narrow(0, p.row, p.tokens).copy_(states.narrow(0, p.begin, p.tokens));
        },
        inner, stage);
    std::vector<int64_t> rows, to;
    for (size_t i = 0; i < part.size(); ++i) {
      const size_t r = part[i];
      tree.append_rows(i, requests[r].from, rows);
      for (int64_t t = begin[r]; t < begin[r + 1]; ++t) to.push_back(t);
    }
    out.index_copy_(0, at::tensor(to, at::kLong),
                    table.index_select(0, at::tensor(rows, at::kLong)));
    done += static_cast<int64_t>(part.size());
    reporter.report(stage, done, static_cast<int64_t>(all.size()));
  }
  return out;
}

}  // namespace accrete
