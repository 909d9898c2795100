// Asking a model: a conversation or a text to go on with, the fact that it asks for, the answer.
//
// What a user asks is answered by the accepted fact, if there is one: its value speaks at the end
// of the prompt and within its answer, and is silent in every later turn, which is computed from
// the conversation's text alone. An answer that begins as what was taught and goes astray is
// brought back to it. If none is accepted but passages of documents are, these stand in front of
// the question, for this turn alone; where the model does not read (Tell::kValue) the sentence that
// answers is said as it stands. If neither is the answer is the base model's, bit for bit.
//
// Non-goals: sampling (generate.h), choosing (memory/fact_store.h).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "io/dataset.h"
#include "memory/fact_store.h"
#include "model/fact_memory.h"
#include "model/generate.h"
#include "model/language_model.h"

namespace accrete {

struct AskRequest {
  std::vector<Message> messages;  // of a chat; the last is the user's, or what a tool said
  std::string text;               // or a raw text to go on with
  bool raw = false;
  std::string tools = {};  // that the model may call: a JSON list, of a chat
};
// A single question, in the chat template unless `raw` or the model has none. Throws kUnsupported
// when it has one that is not known.
AskRequest single_question(const LanguageModel& model, const std::string& question, bool raw);

// What of it chooses a fact: the last message of the user and those before it; of a raw text its
// last paragraph.
Question question_of(const AskRequest& request);

// Its tokens, with `note` (may be empty) in front of the last question. Throws kInvalidArgument
// when there are none.
std::vector<int32_t> encode_request(const LanguageModel& model, const AskRequest& request,
                                    const std::string& note = "");
// The note that tells a fact; empty where facts are told by values alone.
std::string note_of(Tell tell, const TaughtItem& fact);
// Whether nothing but the note tells it: it has no vectors.
bool by_note_alone(Tell tell, const TaughtItem& fact);

// What a fact's answer is behind a prompt, in tokens: the end of the turn or text included.
std::vector<int32_t> encode_answer(const LanguageModel& model, const std::string& prompt_text,
                                   const std::string& answer, bool raw);

// What a request becomes once it is known which fact answers it.
struct PreparedAsk {
  std::vector<int32_t> prompt;
  std::optional<FactUse> fact;              // absent: the model answers by itself
  std::optional<Generation> word_for_word;  // a verbatim answer: the network is not asked
};
// A text that is said without the network.
Generation as_it_is(const LanguageModel& model, const std::string& text);
// Throws kInvalidArgument (an empty prompt) and as ChatTemplate::render does.
PreparedAsk prepare_ask(const LanguageModel& model, const AskRequest& request,
                        const Choice& choice);
// A choice of this fact; -1: of none.
Choice choice_of(int64_t fact);
// Passages as they stand in front of a question, the likeliest first, those that fit into a budget
// of tokens and the first one in any case, of which then the pieces around the nearest.
std::string note_of_passages(const LanguageModel& model, const Choice& choice);
// The sentence, item or row of a passage that answers.
std::string quote_of(const FactMemory& memory, const PassageChoice& passage);

struct AskOptions {
  GenerateOptions generate;
  double caution = 0;  // added to the model's own (FactMemoryInfo)
  bool facts = true;   // false: as if nothing had been taught
  // What is said where nothing taught is accepted, without asking the network; empty: the model
  // answers.
  std::string otherwise;
};
struct Asked {
  Generation generation;
  Choice choice;
};

// Of each request the choice; without a memory of facts none.
std::vector<Choice> choose_facts(const LanguageModel& model, std::span<const AskRequest> requests,
                                 double caution = 0);
// Answers all of them in one batch. Throws as generate() does.
std::vector<Asked> ask(const LanguageModel& model, std::span<const AskRequest> requests,
                       const AskOptions& options, const StreamFn& stream = nullptr,
                       const Reporter& reporter = {});
// The same with choices that are known.
std::vector<Generation> answer_with(const LanguageModel& model,
                                    std::span<const AskRequest> requests,
                                    std::span<const Choice> choices, const GenerateOptions& options,
                                    const StreamFn& stream = nullptr,
                                    const Reporter& reporter = {});

}  // namespace accrete
