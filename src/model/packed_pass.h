// Many short sequences through the blocks at once, their tokens packed as rows without padding:
// forward, and backward to what is added to the blocks' outputs.
//
// A sequence may continue a past: tokens whose keys and values are known, shared between sequences
// or not. The weights are constants, so the backward pass is the chain of products with them and
// nothing else; every buffer is kept from one call to the next. On the CPU in float32 only: callers
// ask `supports` and take Transformer::run where it says no.
//
// Products with the weights may be taken in bfloat16 (`Options::low_precision`), from copies of the
// weights that are made at their first use, with the three products of a block that share an input
// as one: where the processor has instructions for it (`fast_low_precision`), that is twice or
// several times as fast. Sums along the residual stream, norms, attention and everything that is
// kept stay float32. Few rows cost what reading the weights costs, and are multiplied by the
// weights' codes where there are some (coded_matrix.h).
//
// Non-goals: gradients of weights, generation (generate.h), padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace accrete {

// Keys and values of `tokens` consecutive tokens: [blocks, 2, tokens, kv_heads * head_dim] float32,
// keys (rotated) before values, from block `first_block` on.
struct Past {
  const float* data = nullptr;
  int64_t tokens = 0;
  int64_t first_block = 0;
};

struct PackedSequences {
  std::vector<int64_t> begin = {0};     // [n + 1]: sequence s has rows begin[s] to begin[s + 1]
  std::vector<std::vector<Past>> past;  // [n]: what sequence s continues, in order

  int64_t size() const { return static_cast<int64_t>(begin.size()) - 1; }
  int64_t rows() const { return begin.back(); }
  void add(int64_t tokens, std::vector<Past> continued = {});
};

class PackedPass {
 public:
  static bool supports(const Transformer& net);

  // Whether bfloat16 products are faster here: the processor has them, and the model is wide enough
  // to gain (docs/speed.md).
  static bool fast_low_precision(const Transformer& net);
  // Whether copies of the weights in bfloat16 pay for a pass over so many tokens alone.
  static bool low_precision_pays(const Transformer& net, int64_t tokens);

  // `net` must outlive the pass.
  explicit PackedPass(const Transformer& net);

  // May add to a block's output h [N, d] in place, given its FFN's input x [N, d].
  using Add = std::function<void(int64_t block, const at::Tensor& x, at::Tensor& h)>;
  // Sees a block's keys (rotated) and values, [N, kv_heads * head_dim] each.
  using SeeKeys = std::function<void(int64_t block, const at::Tensor& k, const at::Tensor& v)>;

  struct Options {
    const Add* add = nullptr;
    const SeeKeys* keys = nullptr;
    bool for_backward = false;      // keep what backward needs
    bool keys_only_at_end = false;  // of the last block nothing but the keys is wanted
    bool low_precision = false;     // products in bfloat16 where that is faster than by codes;
                                    // backward does as forward did
  };
  // Rows h [N, d] at block `from` to rows at `to`. The result is a buffer of this object, valid
  // until the next call.
  at::Tensor forward(const at::Tensor& h, const PackedSequences& sequences, int64_t from,
                     int64_t to, const Options& options);

  // The input of block `block`'s FFN, [N, d], for rows h at that block: its attention and norm.
  at::Tensor ffn_input(const at::Tensor& h, const PackedSequences& sequences, int64_t block,
                       const SeeKeys* keys = nullptr);

  // Not back through a block whose FFN is a memory: what is taught is added there or above.
  // After forward with `for_backward`: given the gradient at `to` [N, d] (changed in place), calls
  // see(b, gradient of block b's output) for b from to - 1 down to `from`; then with from - 1, that
  // is for the rows that went in.
  using SeeGradient = std::function<void(int64_t block, const at::Tensor& gradient)>;
  void backward(at::Tensor gradient, const SeeGradient& see);

  // Of the last forward pass with `for_backward`, these sequences (ascending) alone are there from
  // now on: their rows move together.
  void keep(std::span<const int64_t> sequences);

  // Normed rows x [n, d] to logits [n, vocabulary], and the gradient of those back to dx [n, d].
  // All contiguous. `low_precision` as in Options.
  void head(at::Tensor& logits, const at::Tensor& x, bool low_precision);
  void head_backward(at::Tensor& dx, const at::Tensor& dlogits, bool low_precision);

 private:
  // What a block's backward pass needs of its forward pass.
  struct Saved {
    at::Tensor h, middle;                  // [N, d] its input; after attention
    at::Tensor h_inverse, middle_inverse;  // [N] of their norms
    at::Tensor q, k, v;                    // [N, heads * head_dim], [N, kv_heads * head_dim] twice
    at::Tensor raw_q, raw_k;               // before the heads' norms, if there are any
    at::Tensor q_inverse, k_inverse;       // [N, heads], [N, kv_heads] of those
    at::Tensor gate, up;                   // [N, ffn_width]
    at::Tensor probabilities;              // of all sequences, one after another
  };
  // bfloat16 copies, those with the same input (or, backward, the same output) one below the other.
  struct LowWeights {
    at::Tensor qkv, o, gate_up, down;
  };
  at::Tensor low_copy(const Linear& l) const;  // of its weight
  const LowWeights& low_weights(int64_t block);
  // The tensors side by side as bfloat16, times `w` (or its transpose): [N, columns], a buffer.
  at::Tensor low_product(std::initializer_list<at::Tensor> x, const at::Tensor& w);
  void prepare(int64_t rows, int64_t blocks, int64_t probabilities);
  void attention(int64_t block, Saved& saved, int64_t rows, const PackedSequences& sequences,
                 bool keys_only, bool low);
  void norm_heads(const at::Tensor& weight, const at::Tensor& rows, const at::Tensor& raw,
                  const at::Tensor& inverse) const;
  void norm_heads_backward(const at::Tensor& weight, const at::Tensor& raw,
                           const at::Tensor& inverse, at::Tensor& gradient,
                           const at::Tensor& scratch) const;
  void ffn(int64_t block, const Saved& saved, const at::Tensor& x, const at::Tensor& activated,
           at::Tensor& out, bool low);
  enum class Attend { kKeys, kForward, kBackward };
  void attend_sequence(int64_t block, const Saved& saved, int64_t s, Attend what);
  Saved views(size_t slot, int64_t rows) const;

  const Transformer& net_;
  const bool coded_;          // the blocks' weights have codes
  std::vector<Saved> saved_;  // [1] or one per block, with room for capacity_ rows
  int64_t capacity_ = 0, probability_capacity_ = 0;
  at::Tensor x_, y_, activated_, dq_, dk_, dv_, last_;
  std::vector<LowWeights> low_;  // by block
  at::Tensor low_head_;          // the head's
  at::Tensor low_in_, low_out_;  // bfloat16, of as many elements as were ever needed
  // Of the last forward pass.
  PackedSequences sequences_;
  std::vector<int64_t> probability_begin_;  // [n + 1]
  int64_t from_ = 0, to_ = 0;
  bool low_precision_ = false;
};

}  // namespace accrete
