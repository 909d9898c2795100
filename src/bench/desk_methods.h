// How the methods that `bench desk` compares are taught a set and answer from it.
//
// - accrete: as shipped; value, note, both: the same with facts told in that way.
// - lookup: the stored answer of the accepted fact, printed; otherwise the model's own.
// - context1, context3: the facts nearest by the same reader, as notes in front of the question, in
//   every question for which there is one: no threshold.
// - lora, full: finetuning of a copy of the network, in the chat template, end of turn included.
//
// The model is never changed.
//
// Non-goals: what is asked (desk_data.h), scores (desk_measure.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/progress.h"
#include "bench/desk_data.h"
#include "model/ask.h"

namespace accrete {

// What a request says, as a key.
std::string request_key(const AskRequest& request);

// Greedy, to the natural stop or `max_tokens`, in batches of requests of like length; `choices` as
// answer_with() takes them, or none. Without `recital` no answer is brought
// back to what was taught (GenerateOptions).
std::vector<std::string> generate_answers(const LanguageModel& model,
                                          std::span<const AskRequest> requests,
                                          std::span<const Choice> choices, int64_t max_tokens,
                                          const Reporter& reporter, bool recital = true);

// The untouched model's answers, generated once.
class BaseAnswers {
 public:
  explicit BaseAnswers(const LanguageModel& model) : model_(model) {}
  std::vector<std::string> answer(std::span<const AskRequest> requests, int64_t max_tokens,
                                  const Reporter& reporter);

 private:
  const LanguageModel& model_;
  std::map<std::pair<std::string, int64_t>, std::string> known_;
};

// What a question chooses, as indices into the set's facts; -1: none.
struct DeskChoice {
  int64_t best = -1;  // the threshold ignored
  int64_t accepted = -1;
  bool told = false;  // the model answers otherwise than untaught
  double probability = 0;
};

struct DeskCost {
  double seconds = 0;       // of teaching, everything included
  double bytes_a_fact = 0;  // on disk
  int64_t teach_peak = 0;   // largest resident memory while teaching
  int64_t answer_peak = 0;  // while the untaught model answered, before
};

class DeskMethod {
 public:
  virtual ~DeskMethod() = default;
  virtual std::vector<std::string> answer(std::span<const AskRequest> requests, int64_t max_tokens,
                                          const Reporter& reporter) = 0;
  // With the right facts given, whatever would be chosen, and no answer brought back: what values
  // say. Empty where that means nothing.
  virtual std::vector<std::string> answer_given(std::span<const AskRequest>,
                                                std::span<const std::vector<int64_t>>, int64_t,
                                                const Reporter&) {
    return {};
  }
  // Of a method that leaves the model alone where it accepts nothing; empty: it is another kind.
  virtual std::vector<DeskChoice> choose(std::span<const AskRequest>, const Reporter&) {
    return {};
  }
  const DeskCost& cost() const { return cost_; }

 protected:
  DeskCost cost_;
};

// What all methods of one set share.
struct DeskParts {
  const LanguageModel& model;  // without facts
  const DeskSet& set;
  BaseAnswers& base;
  std::map<std::string, DeskChoice>& choices;  // by request_key(): the keys are the same for all
  uint64_t seed = 0;
};

// Settings of `lora` and `full`: {"rate": R, "epochs": N}.
using DeskSetting = nlohmann::ordered_json;

// Taught. Calls `use` with the method; of finetuning several times, after each of the epochs that
// `epochs` names, in one training run. Throws kInvalidArgument (no such method), kRefused
// (diverged), kInterrupted.
void teach_desk_method(const std::string& method, const DeskSetting& setting,
                       std::span<const int64_t> epochs, const DeskParts& parts,
                       const Reporter& reporter,
                       const std::function<void(DeskMethod&, int64_t epochs)>& use);
bool is_finetuning(const std::string& method);
// All names.
const std::vector<std::string>& desk_methods();

}  // namespace accrete
