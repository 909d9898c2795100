// Many answers written side by side, joined and left one by one (continuous batching).
//
// Every row has its own prompt, options, fact, state of the one network, and listeners. A step
// passes one token of every row that is being written and then pieces of waiting prompts, less than
// two pieces in all, so a long prompt holds nobody up for longer than that. What a row says does
// not depend on the rows beside it, to the bit (step_pass.h); a prompt no longer than a piece is
// passed as generate() passes it alone, so that in a model with codes the two say the same.
//
// One thread drives it; listeners are called on that thread.
//
// Non-goals: a thread, a queue (serve/engine.h), prompts that begin alike computed once.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/answer_writer.h"
#include "model/generate.h"
#include "model/language_model.h"
#include "model/step_pass.h"

namespace accrete {

// How likely a token was where it stands, by the model's own logits.
struct TokenScore {
  int32_t id = 0;
  double logprob = 0;                           // not for a text's first token
  std::vector<std::pair<int32_t, double>> top;  // the most likely ones, best first
};

struct StepAnswer {
  Generation generation;
  // Of its tokens, if asked for; where the prompt is scored too, also of the token that ended it.
  std::vector<TokenScore> scores;
  std::vector<TokenScore> prompt;  // likewise of the prompt's
};

struct StepRequest {
  std::shared_ptr<const LanguageModel> model;  // a state of the loop's network
  std::vector<int32_t> prompt;
  std::optional<FactUse> fact;
  GenerateOptions options;
  uint64_t stream = 0;        // of its random numbers: Rng(options.seed).split(stream)
  bool write = true;          // false: the prompt is scored and nothing written
  int64_t top = -1;           // score tokens, and so many of the most likely ones; -1: no scores
  bool score_prompt = false;  // the prompt's too
  // Text that became final, with the scores of the tokens written since the last call. May be
  // empty.
  std::function<void(std::string_view text, std::span<const TokenScore> scores)> on_text;
  std::function<void(StepAnswer answer)> on_done;
  // Polled between steps: true takes the row out, and nothing more is called.
  std::function<bool()> cancelled;
};

class StepLoop {
 public:
  static constexpr int64_t kPiece = 256;

  // Throws kUnsupported (StepPass).
  explicit StepLoop(std::shared_ptr<const LanguageModel> network, int64_t piece = kPiece);
  ~StepLoop();

  // Throws kInvalidArgument (empty prompt, impossible options, a prompt longer than the positions,
  // a token that is none, another network).
  void join(StepRequest request);
  int64_t rows() const;
  // Tokens of prompts that are still to be passed.
  int64_t waiting() const;
  // One step; false: there is nothing to do. What a listener throws comes through.
  bool step();
  // Takes out all rows; they hear nothing more.
  void clear();

 private:
  struct Row;
  void pass_piece(Row& row, int64_t tokens);
  void take(Row& row, const at::Tensor& logits);  // [vocabulary], changed in place
  void finish(Row& row);

  std::shared_ptr<const LanguageModel> network_;
  int64_t piece_;
  StepPass pass_;
  std::list<Row> rows_;
};

// log softmax of logits [V]: the score of `id` and of the `top` best, ties by id. The same double
// stands at both places where `id` is among the best.
TokenScore score_token(std::span<const float> logits, int32_t id, int64_t top);

}  // namespace accrete
