// One answer while it is written: tokens drawn from logits, text, stop strings, and what was
// taught.
//
// Non-goals: passes through the network (generate.h, step_loop.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "model/generate.h"
#include "text/tokenizer.h"

namespace accrete {

// Throws kInvalidArgument.
void check_sampling(const GenerateOptions& options);

// The place of the vector that a fact adds behind what was said; -1: none.
int64_t vector_behind(const FactUse& fact, std::span<const int32_t> said);

class AnswerWriter {
 public:
  // `tokenizer`, `options` and `fact` (null: none) must outlive it.
  AnswerWriter(const Tokenizer& tokenizer, const GenerateOptions& options, const FactUse* fact,
               Rng rng, std::vector<int32_t> prompt)
      : tokenizer_(&tokenizer),
        options_(&options),
        fact_(fact),
        rng_(rng),
        decoder_(tokenizer),
        seen_(std::move(prompt)) {}

  // Gets the text that became final.
  using Emit = std::function<void(std::string_view text)>;
  // Draws from the logits [V] (changed in place) and writes the token down, unless it is one of
  // `stops`, which ends the answer. Returns the token.
  int32_t next(std::span<float> logits, std::span<const int64_t> stops, const Emit& emit);
  // Ends an answer that has its length.
  void cut(const Emit& emit);

  bool done() const { return done_; }
  const Generation& out() const { return out_; }
  Generation take() { return std::move(out_); }

 private:
  int32_t draw(std::span<float> logits);
  int32_t kept_to(int32_t id) const;
  void append(const std::string& piece, bool last, const Emit& emit);

  const Tokenizer* tokenizer_;
  const GenerateOptions* options_;
  const FactUse* fact_;
  Rng rng_;
  StreamDecoder decoder_;
  std::vector<int32_t> seen_;  // prompt and output, for the repetition penalty
  Generation out_;
  size_t emitted_ = 0;  // bytes of the text handed on
  bool done_ = false;
};

}  // namespace accrete
