// What a teach set is to a memory of facts: facts with their wordings, and the conversations in
// which their values are learned.
//
// A fact is learned in a fresh chat in every taught wording, and in some of them under another
// system prompt, in a third turn and in capitals, so that its value holds wherever it is asked for.
//
// Non-goals: keys (memory/), steps (fact_values.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/dataset.h"
#include "learn/fact_passes.h"
#include "ledger/taught.h"
#include "model/ask.h"
#include "model/fact_memory.h"

namespace accrete {

struct FactLesson {
  TaughtItem item;                           // as it will be stored
  std::vector<std::vector<Message>> before;  // of each wording, what stands before it in a chat
  // Of each wording how its conversation says it ("And on Sunday?"), where it was made whole; may
  // be shorter than the wordings.
  std::vector<std::string> said = {};
  std::vector<std::string> asked;  // wordings that are asked and never taught
  std::string corrects = {};       // a question that the fact which it corrects answers
  bool there = false;              // it was taught already, in these words

  // The request that asks a wording as it was taught.
  AskRequest request(size_t wording) const;
};

struct FactLessons {
  std::string source;  // the set's path
  std::vector<FactLesson> facts;
  std::vector<std::string> remarks;  // in words, for the user; they name lines
};

// Of the questions and conversations of a set; its texts are documents (learn/documents.h). Throws
// kInvalidArgument with FILE:LINE: two answers to one question, a wording that does not name the
// subject that was given, what does not fit into the model; a set without anything to teach;
// kUnsupported.
FactLessons make_fact_lessons(const LanguageModel& model, const Dataset& data, bool raw);

// The examples of fact `index`, its wordings in fresh conversations first. None of a fact without a
// value (verbatim, leave).
std::vector<FactExample> fact_examples(const LanguageModel& model, const FactLesson& lesson,
                                       int64_t index, Tell tell);
// More examples, of models that are told by notes and values together: the facts asked for in other
// forms (a sentence, JSON, true or not), with what the model says itself when the note is there.
// The value then tells the fact and leaves the form to the model. Ascending by fact.
std::vector<FactExample> form_examples(const LanguageModel& model,
                                       std::span<const FactLesson> lessons, Tell tell,
                                       const Reporter& reporter);

// Of those wordings that are asked and never taught, in fresh conversations.
std::vector<FactExample> asked_examples(const LanguageModel& model, const FactLesson& lesson,
                                        int64_t index, Tell tell);

// The request that asks `text` as a fact's wordings are asked, behind a conversation or afresh.
AskRequest request_of(const TaughtItem& item, const std::string& text,
                      std::span<const Message> before = {});

}  // namespace accrete
