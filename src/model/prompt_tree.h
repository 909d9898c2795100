// Many prompts as one tree of their tokens: what several of them begin with is passed once.
//
// The same prompts behind the same contexts, one template with many names, or every question of a
// chat behind its system message then cost little more than what is different in them. For packed
// passes (packed_pass.h).
//
// Non-goals: generation, gradients.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "model/examples.h"
#include "model/language_model.h"
#include "model/packed_pass.h"

namespace accrete {

class PromptTree {
 public:
  // The tokens must outlive the tree; every prompt has at least one.
  explicit PromptTree(std::vector<std::span<const int32_t>> prompts);

  int64_t rows() const { return rows_; }      // tokens of the tree
  int64_t tokens() const { return tokens_; }  // of all prompts
  // Appends the rows of a prompt's tokens from `from` on, in order.
  void append_rows(size_t prompt, int64_t from, std::vector<int64_t>& out) const;

  // Rows [begin, begin + tokens) of a pass are rows [row, row + tokens) of the tree.
  struct Part {
    int64_t row = 0, begin = 0, tokens = 0;
  };
  // Takes embedded rows h [N, d] through blocks by a packed pass of the caller's, at least the
  // first `blocks` of them, and hands `keys` to each.
  using Pass = std::function<void(const at::Tensor& h, const PackedSequences& sequences,
                                  const PackedPass::SeeKeys& keys, std::span<const Part> parts)>;
  // Calls `pass` until every row has been in one; what others continue is kept of `blocks` blocks.
  // Reports progress as `stage`. Throws kInterrupted.
  void run(const Transformer& net, int64_t blocks, const Pass& pass, const Reporter& reporter,
           std::string_view stage);

  // Tokens [begin, end) of prompt `prompt`, which all prompts below it share.
  struct Node {
    size_t prompt = 0;
    int64_t begin = 0, end = 0;
    int64_t parent = -1;
    int64_t level = 0;
    int64_t row = 0;          // its first
    bool inner = false;       // others continue it
    std::vector<float> keys;  // [blocks, 2, tokens, kv width] of an inner one, once it was passed

    int64_t tokens() const { return end - begin; }
  };
  std::span<const Node> nodes() const { return nodes_; }  // parents first
  std::vector<int64_t> path(size_t prompt) const;         // the nodes on its way, in order
  // From now on other tokens will continue the prompts: run() keeps the keys of every node.
  void keep_all_keys() {
    for (Node& node : nodes_) node.inner = true;
  }

 private:
  void grow(const std::vector<size_t>& order, size_t first, size_t last, int64_t depth,
            int64_t parent);

  std::vector<std::span<const int32_t>> prompts_;
  std::vector<Node> nodes_;
  std::vector<int64_t> leaf_;  // of each prompt: the node where it ends
  int64_t rows_ = 0, tokens_ = 0;
};

// The prompts in parts, those that begin alike next to each other, whose trees have `rows` rows or
// one prompt's more: what is kept of a tree is as large as a cache of its tokens.
std::vector<std::vector<size_t>> tree_parts(std::span<const std::span<const int32_t>> prompts,
                                            int64_t rows);

// A prompt, and from which token on its states are wanted.
struct StateRequest {
  std::span<const int32_t> tokens;
  int64_t from = 0;
};

// The tokens of an example behind which a label is predicted, and those between them.
StateRequest asked_states(const Example& example);

// The labels of examples: which row of the states that `asked_states` asks for predicts each.
struct LabelRows {
  std::vector<int64_t> row, token;
  std::vector<size_t> example;
};
LabelRows label_rows(std::span<const Example> examples, std::span<const StateRequest> requests);

// What share of the tokens of all requests is left when each beginning is passed once.
double share_passed_once(std::span<const StateRequest> requests);

// The network's last states [n, d], before the final norm, of the wanted tokens, request by
// request. Where PackedPass::supports says yes; `low_precision` as in PackedPass::Options. Throws
// kInterrupted.
at::Tensor tree_states(const LanguageModel& model, std::span<const StateRequest> requests,
                       const Reporter& reporter, std::string_view stage,
                       bool low_precision = false);

}  // namespace accrete
