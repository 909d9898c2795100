#include "model/ask.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/format.h"
#include "model/chat_tokens.h"
#include "model/fact_memory.h"
#include "text/passages.h"

namespace accrete {
namespace {

bool is_blank_byte(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

// The last paragraph of a text: few-shot demonstrations stand before it.
std::string last_paragraph(const std::string& text) {
  size_t end = text.size();
  while (end > 0 && is_blank_byte(text[end - 1])) --end;
  const size_t at = text.rfind("\n\n", end == 0 ? 0 : end - 1);
  return at == std::string::npos ? text : text.substr(at + 2);
}

}  // namespace

AskRequest single_question(const LanguageModel& model, const std::string& question, bool raw) {
  AskRequest request;
  request.raw = !model.uses_chat(raw);
  if (request.raw)
    request.text = question;
  else
    request.messages.push_back({"user", question});
  return request;
}

Question question_of(const AskRequest& request) {
  Question out;
  out.raw = request.raw;
  if (request.raw) {
    out.text = last_paragraph(request.text);
    return out;
  }
  for (const Message& message : request.messages)
    if (message.role == "user") out.earlier.push_back(message.content);
  if (!out.earlier.empty()) {
    out.text = std::move(out.earlier.back());
    out.earlier.pop_back();
  }
  return out;
}

std::string note_of(Tell tell, const TaughtItem& fact) {
  if (tell == Tell::kValue || fact.raw || fact.answers.empty()) return {};
  return accrete::format("Note: {} {}", fact.prompts.front(), fact.answers.front());
}

bool by_note_alone(Tell tell, const TaughtItem& fact) {
  return tell == Tell::kNote && !note_of(tell, fact).empty();
}

std::vector<int32_t> encode_request(const LanguageModel& model, const AskRequest& request,
                                    const std::string& note) {
  std::vector<int32_t> ids;
  if (request.raw) {
    ids = model.tokenizer().encode_text(request.text);
  } else if (note.empty()) {
    ids = encode_chat(model, request.messages, request.tools);
  } else {
    std::vector<Message> messages = request.messages;
    for (size_t i = messages.size(); i-- > 0;)
      if (messages[i].role == "user") {
        messages[i].content = note + "\n\n" + messages[i].content;
        break;
      }
    ids = encode_chat(model, messages, request.tools);
  }
  if (ids.empty()) throw Error(ErrorCode::kInvalidArgument, "the prompt is empty", "give a text");
  return ids;
}

std::vector<int32_t> encode_answer(const LanguageModel& model, const std::string& prompt_text,
                                   const std::string& answer, bool raw) {
  auto ids = encode_written(
      model, raw ? model.completion_text(prompt_text, answer, /*raw=*/true) : answer);
  if (ids.empty()) throw Error(ErrorCode::kInvalidArgument, "the answer is empty", "give a text");
  if (const int32_t end = end_token(model, !raw); end >= 0) ids.push_back(end);
  return ids;
}

std::vector<Choice> choose_facts(const LanguageModel& model, std::span<const AskRequest> requests,
                                 double caution) {
  if (!model.has_facts()) return std::vector<Choice>(requests.size());
  std::vector<Question> questions;
  for (const AskRequest& request : requests) questions.push_back(question_of(request));
  return model.facts().choose(questions, caution);
}

Generation as_it_is(const LanguageModel& model, const std::string& text) {
  Generation out;
  out.text = text;
  out.tokens = encode_written(model, text);
  out.finish_reason = "stop";
  return out;
}

Choice choice_of(int64_t fact) {
  Choice out;
  out.fact = fact;
  return out;
}

namespace {

// Around what stands in front of a question, which follows. Of five ways none had Qwen2.5-0.5B say
// more of the answers (one as many), and none had a better F1 (24 questions).
const std::string kAbove = "Text:\n",
                  kBelow = "\n\nAnswer from the text, in a few words.\n\nQuestion:";
// How much stands there at most.
constexpr size_t kPassageTokens = 700;

// The other facts of a choice, those that fit, as notes one a line.
std::string notes_about(const LanguageModel& model, const Choice& choice) {
  std::string out;
  size_t tokens = 0;
  for (const int64_t fact : choice.about) {
    const std::string note = note_of(Tell::kNote, model.facts().fact(fact).text());
    if (note.empty()) continue;
    tokens += encode_written(model, note).size();
    if (!out.empty() && tokens > kPassageTokens) break;
    out += (out.empty() ? "" : "\n") + note;
  }
  return out;
}

// A passage under where it stands, as the model reads it. `around` -1: the whole of it, else the
// pieces around that one.
std::string shown_passage(const TaughtItem& item, int64_t around) {
  std::vector<std::string> pieces = item.prompts;
  if (around >= 0) {
    const auto n = static_cast<int64_t>(pieces.size());
    const int64_t first = std::max<int64_t>(around - 2, 0), last = std::min(around + 3, n);
    pieces = {pieces.begin() + first, pieces.begin() + last};
  }
  return (item.section.empty() ? "" : "[" + item.section + "]\n") + joined_pieces(pieces);
}

}  // namespace

std::string note_of_passages(const LanguageModel& model, const Choice& choice) {
  std::string out;
  size_t tokens = 0;
  for (const PassageChoice& passage : choice.passages) {
    const TaughtItem& item = model.facts().fact(passage.fact).text();
    std::string text = shown_passage(item, -1);
    size_t more = encode_written(model, text).size();
    if (out.empty() && more > kPassageTokens) {
      text = shown_passage(item, passage.piece);
      more = encode_written(model, text).size();
    }
    if (!out.empty() && tokens + more > kPassageTokens) break;
    out += (out.empty() ? "" : "\n\n") + text;
    tokens += more;
  }
  return out;
}

std::string quote_of(const FactMemory& memory, const PassageChoice& passage) {
  const auto& pieces = memory.fact(passage.fact).text().prompts;
  const std::string out =
      piece_alone(pieces[static_cast<size_t>(std::max<int64_t>(passage.piece, 0))]);
  return out.starts_with("- ") ? out.substr(2) : out;
}

PreparedAsk prepare_ask(const LanguageModel& model, const AskRequest& request,
                        const Choice& choice) {
  PreparedAsk out;
  const int64_t fact = choice.fact;
  std::string note = request.raw ? "" : notes_about(model, choice);
  if (fact < 0 && !choice.passages.empty() && !request.raw) {
    // A model that does not read says something else than the passage: the passage speaks.
    if (model.facts().info().tell == Tell::kValue) {
      out.word_for_word = as_it_is(model, quote_of(model.facts(), choice.passages.front()));
      return out;
    }
    note = kAbove + (note.empty() ? "" : note + "\n\n") + note_of_passages(model, choice) + kBelow;
  }
  if (fact >= 0) {
    const FactMemory& memory = model.facts();
    const TaughtItem& item = memory.fact(fact).text();
    // Of several facts a model that does not read says one answer after the other.
    if (!choice.also.empty() && memory.info().tell == Tell::kValue && !request.raw) {
      std::string all = item.answers.front();
      for (const Candidate& other : choice.also)
        all += "\n" + memory.fact(other.fact).text().answers.front();
      out.word_for_word = as_it_is(model, all);
      return out;
    }
    if (item.verbatim) {  // written as it is: the network is not asked
      out.word_for_word = as_it_is(model, item.answers.front());
      return out;
    }
    const std::string own = note_of(memory.info().tell, item);
    if (!own.empty()) note = note.empty() ? own : own + "\n" + note;
    FactUse& use = out.fact.emplace();
    use.sites = memory.info().sites;
    use.vectors = memory.vectors(fact);
    use.answer = encode_answer(model, request.text, item.answers.front(), request.raw);
    // A model that reads the note may use the fact in words of its own.
    use.recital = own.empty() ? Recital::kWhole : Recital::kWords;
    // Of several facts it says what is asked for.
    if (!choice.about.empty()) use.recital = Recital::kFree;
  }
  out.prompt = encode_request(model, request, note);
  return out;
}

namespace {

// What is said word for word needs no network; the others are answered in one batch.
std::vector<Generation> answer_prepared(const LanguageModel& model, std::vector<PreparedAsk> asks,
                                        const GenerateOptions& options, const StreamFn& stream,
                                        const Reporter& reporter) {
  std::vector<Generation> out(asks.size());
  std::vector<std::vector<int32_t>> prompts;
  std::vector<FactUse> uses;
  std::vector<size_t> of;
  bool any = false;
  for (size_t i = 0; i < asks.size(); ++i) {
    PreparedAsk& one = asks[i];
    if (one.word_for_word) {
      out[i] = std::move(*one.word_for_word);
      if (stream) stream(i, out[i].text);
      continue;
    }
    any = any || one.fact.has_value();
    prompts.push_back(std::move(one.prompt));
    uses.push_back(one.fact ? std::move(*one.fact) : FactUse{});
    of.push_back(i);
  }
  if (prompts.empty()) return out;
  StreamFn own;
  if (stream) own = [&](size_t i, std::string_view text) { stream(of[i], text); };
  auto made = generate(model, prompts, options, own, reporter,
                       any ? std::span<const FactUse>(uses) : std::span<const FactUse>());
  for (size_t i = 0; i < made.size(); ++i) out[of[i]] = std::move(made[i]);
  return out;
}

}  // namespace

std::vector<Generation> answer_with(const LanguageModel& model,
                                    std::span<const AskRequest> requests,
                                    std::span<const Choice> choices, const GenerateOptions& options,
                                    const StreamFn& stream, const Reporter& reporter) {
  std::vector<PreparedAsk> asks;
  for (size_t i = 0; i < requests.size(); ++i)
    asks.push_back(prepare_ask(model, requests[i], i < choices.size() ? choices[i] : Choice()));
  return answer_prepared(model, std::move(asks), options, stream, reporter);
}

std::vector<Asked> ask(const LanguageModel& model, std::span<const AskRequest> requests,
                       const AskOptions& options, const StreamFn& stream,
                       const Reporter& reporter) {
  std::vector<Choice> choices(requests.size());
  if (options.facts) choices = choose_facts(model, requests, options.caution);
  std::vector<PreparedAsk> asks;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (!choices[i].taught() && !options.otherwise.empty())
      asks.push_back({{}, std::nullopt, as_it_is(model, options.otherwise)});
    else
      asks.push_back(prepare_ask(model, requests[i], choices[i]));
  }
  auto made = answer_prepared(model, std::move(asks), options.generate, stream, reporter);
  std::vector<Asked> out;
  for (size_t i = 0; i < made.size(); ++i) out.push_back({std::move(made[i]), choices[i]});
  return out;
}

}  // namespace accrete
