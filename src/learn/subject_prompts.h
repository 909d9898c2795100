// The prompts of a teach set, passed once: what stays as it is up to where they may be written at.
//
// A value is added at the last token of a subject, the *site*, so nothing before that token ever
// changes, at any layer: its keys and values are computed once for each distinct beginning of a
// prompt (what several begin with, a chat template, once for all of them) and kept (key_store.h).
// Nor does the address block change, since it is the lowest one that is written: whatever is tried
// starts above it, at the site. From here the model is asked what it says before a teach and after
// it, it is found which slots the prompts read, and each step of the value solver goes on
// (suffix_task.h).
//
// Non-goals: models that PackedPass does not support, prompts without a subject.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "learn/key_store.h"
#include "learn/reading.h"
#include "model/examples.h"
#include "model/packed_pass.h"
#include "model/prompt_tree.h"

namespace accrete {

class SubjectPrompts {
 public:
  // `cache_bytes` of keys and values stay in memory; more lies on disk. `model` and `examples` must
  // outlive it; every example needs a marked subject, before its first label. Reports progress as
  // `stage`. Throws kInterrupted.
  SubjectPrompts(const LanguageModel& model, std::span<const Example> examples, int64_t cache_bytes,
                 const Reporter& reporter, std::string_view stage);
  SubjectPrompts(const SubjectPrompts&) = delete;
  SubjectPrompts& operator=(const SubjectPrompts&) = delete;

  // Whether they can be made of these: the model supports it, and every example has a subject.
  static bool apply(const LanguageModel& model, std::span<const Example> examples);

  const LanguageModel& model() const { return model_; }
  std::span<const Example> examples() const { return examples_; }
  // Whether what is kept is that of these examples and of this overlay.
  bool are_of(std::span<const Example> examples, const Overlay& overlay) const;

  int64_t site(size_t example) const { return suffixes_[example].site; }
  // From the site on, without the last token, which is only predicted.
  int64_t tokens_of(size_t example) const;
  int64_t tokens_before() const { return tokens_before_; }  // of all distinct beginnings

  // Some of the examples from their sites on, one after another, as they come out of the address
  // block: for a pass through the blocks above it.
  struct Batch {
    PackedSequences sequences;
    at::Tensor h;       // [rows, d]; nothing that the overlay says is in it
    Accesses accesses;  // of the same tokens
    Gates gates;        // likewise; undefined where `all` is

   private:
    friend class SubjectPrompts;
    std::map<int64_t, std::vector<float>> room;  // keys that lay on disk
  };
  // `all` are the gates of every example's tokens from its site on, as gates() gives them. Valid
  // while `batch` and this object live; what `batch` was before is overwritten.
  void pack(std::span<const int64_t> which, const Gates& all, Batch& batch) const;
  Gates gates(const Overlay& overlay) const;

  at::Tensor site_states() const;  // h at the site of each example, [n, d]

  // What read_prompts gives for all tokens but the last of each example.
  Reads reads() const;

  // Of each example what asked_states asks for (model/prompt_tree.h), under the overlay that the
  // model has now: the examples that it may change before their sites are passed anew, the others
  // from there on.
  at::Tensor states(const Reporter& reporter, std::string_view stage) const;

 private:
  // Beginnings are paths of these: some tokens, their keys and values from the block above the
  // address block on.
  struct Piece {
    int64_t row = 0;  // of its first token, among those of all pieces
    int64_t tokens = 0;
    int64_t keys = 0;  // in store_
  };
  struct Suffix {
    int64_t site = -1;
    int64_t row = 0;             // of its first token, among those of all examples
    std::vector<size_t> before;  // pieces
  };
  void read(std::span<const size_t> which, const Reporter& reporter, std::string_view stage);
  void read_to_address(std::span<const size_t> which, const PromptTree* tree,
                       std::span<const int64_t> prompt_of);
  std::vector<bool> changed_before(const Overlay& overlay) const;

  const LanguageModel& model_;
  std::span<const Example> examples_;
  Overlay overlay_;  // what was there
  std::vector<Suffix> suffixes_;
  std::vector<Piece> pieces_;
  KeyStore store_;
  int64_t tokens_before_ = 0;
  // Of the tokens of all pieces, and of all examples from their sites on.
  struct Tokens {
    Accesses accesses;
    at::Tensor queries;  // [n, query_width]
  };
  std::vector<Tokens> before_parts_;
  Tokens before_, from_site_;
  at::Tensor h_;  // [n, d] of the latter, behind the address block
};

}  // namespace accrete
