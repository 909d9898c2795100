#include "learn/fact_lessons.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/format.h"
#include "model/chat_tokens.h"
#include "text/follow_up.h"
#include "text/wording.h"

namespace accrete {
namespace {

// Answers beyond this are for documents, or for "verbatim".
constexpr size_t kLongestAnswer = 400;

[[noreturn]] void refuse_item(const Dataset& data, int64_t line, const std::string& what,
                              const std::string& hint) {
  throw Error(ErrorCode::kInvalidArgument,
              accrete::format("{}:{}: {}", data.path.string(), line, what), hint);
}

std::string short_form(const std::string& text) {
  return excerpt_of(text, 80);
}

bool ends_with_blank(const std::string& text) {
  return !text.empty() && (text.back() == ' ' || text.back() == '\t');
}

// Two wordings are one question when their words are: case, spaces and punctuation do not count.
std::string address_key(const std::string& wording, bool raw) {
  const std::string key = name_key(wording);
  return (raw ? "raw " : "chat ") + (key.empty() ? identity_of(wording) : key);
}

// What the last message of a conversation asks, with what it leaves out of those before it.
// `given`: whom it is about, where that was said.
std::string whole_wording(std::span<const Message> before, const std::string& text,
                          const std::string& given) {
  const auto name_in = [&](const std::string& message) {
    return !given.empty() && !find_name(message, given).empty() ? given
                                                                : shared_name({&message, 1});
  };
  const std::string own = plain_question(text);
  std::string whole, named;
  const auto go_on = [&](const std::string& message) {
    if (std::string more = follow_up(message, whole, name_in(message), name_in(whole));
        !whole.empty() && !more.empty())
      whole = std::move(more);
    else
      whole = message;
    if (std::string name = name_in(whole); !name.empty()) named = std::move(name);
  };
  for (const Message& message : before)
    if (message.role == "user") go_on(plain_question(message.content));
  go_on(own);
  if (!named.empty() && name_in(whole).empty() &&
      (has_pronoun(words_of(whole)) || is_fragment(whole)))
    whole = with_name(whole, named);
  return whole == own ? text : whole;
}

// How many answers before the last one a conversation gives to questions.
int64_t answers_before(const Item& item) {
  int64_t out = 0;
  for (size_t i = 1; i + 1 < item.messages.size(); ++i)
    out += item.messages[i].role == "assistant" && item.messages[i - 1].role == "user" &&
           item.messages[i - 1].content.find('?') != std::string::npos;
  return out;
}

FactLesson lesson_of(const LanguageModel& model, const Dataset& data, const Item& item, bool raw) {
  FactLesson out;
  out.item.line = item.line;
  out.item.raw = raw;
  out.item.verbatim = item.verbatim;
  out.item.leave = item.leave;
  out.asked = item.asked;
  out.corrects = item.corrects;
  switch (item.kind) {
    case Item::Kind::kText:
      break;  // a document
    case Item::Kind::kMessages: {
      if (raw)
        refuse_item(data, item.line, "a conversation needs the chat template",
                    model.chat() ? "leave --raw away" : "this model has none: give prompts");
      size_t user = item.messages.size();
      for (size_t i = item.messages.size() - 1; i-- > 0;)
        if (item.messages[i].role == "user") {
          user = i;
          break;
        }
      if (user == item.messages.size())
        refuse_item(data, item.line, "its last answer follows no message of the user",
                    "give a user message before the assistant's");
      const std::string& asked = item.messages[user].content;
      out.item.answers = {item.messages.back().content};
      out.before = {{item.messages.begin(), item.messages.begin() + static_cast<ptrdiff_t>(user)}};
      out.item.prompts = {whole_wording(out.before.front(), asked, item.subject)};
      if (out.item.prompts.front() != asked) out.said = {asked};
      break;
    }
    case Item::Kind::kFact:
      out.item.prompts = item.prompts;
      out.item.answers = item.answers;
      out.before.resize(item.prompts.size());
      break;
  }
  return out;
}

// Questions that are left to the model need not ask the same: each of a line stands for itself.
std::vector<Item> one_left_each(const std::vector<Item>& items) {
  std::vector<Item> out;
  for (const Item& item : items) {
    out.push_back(item);
    if (!item.leave || item.prompts.size() < 2) continue;
    out.back().prompts.resize(1);
    for (size_t i = 1; i < item.prompts.size(); ++i) {
      out.push_back(out.back());
      out.back().prompts = {item.prompts[i]};
    }
  }
  return out;
}

// Whether the subject is named by the wording or, in a conversation, before it.
bool names(const FactLesson& lesson, size_t wording, const std::string& subject) {
  if (!find_name(lesson.item.prompts[wording], subject).empty()) return true;
  const auto& before = lesson.before[wording];
  return std::any_of(before.begin(), before.end(), [&](const Message& message) {
    return message.role == "user" && !find_name(message.content, subject).empty();
  });
}

void set_subject(const Dataset& data, const std::string& given, FactLesson& lesson) {
  if (given.empty()) {
    // Of a raw text what a question is chosen by: not the examples before it.
    std::vector<std::string> texts;
    for (const std::string& prompt : lesson.item.prompts)
      texts.push_back(question_of(request_of(lesson.item, prompt)).text);
    lesson.item.subject = shared_name(texts);
    return;
  }
  if (name_key(given).empty())
    refuse_item(data, lesson.item.line,
                accrete::format("the subject \"{}\" has no word", short_form(given)),
                "name whom the question is about, or leave \"subject\" away");
  for (size_t i = 0; i < lesson.item.prompts.size(); ++i)
    if (!names(lesson, i, given))
      refuse_item(
          data, lesson.item.line,
          accrete::format("the wording \"{}\" does not name its subject \"{}\"",
                          short_form(lesson.item.prompts[i]), short_form(given)),
          "write the subject as the wording does, name it in the wording, or leave \"subject\" "
          "away");
  lesson.item.subject = given;
}

// The answer's tokens, checked.
std::vector<int32_t> answer_tokens(const LanguageModel& model, const FactLesson& lesson,
                                   const std::string& prompt) {
  return encode_answer(model, prompt, lesson.item.answers.front(), lesson.item.raw);
}

FactExample example_of(const LanguageModel& model, const FactLesson& lesson, int64_t index,
                       const AskRequest& request, const std::string& note) {
  FactExample e;
  e.tokens = encode_request(model, request, note);
  e.prompt = static_cast<int64_t>(e.tokens.size());
  e.fact = index;
  const auto answer = answer_tokens(model, lesson, request.text);
  e.tokens.insert(e.tokens.end(), answer.begin(), answer.end());
  return e;
}

// Another system prompt and two other conversations, in which some wordings are learned too.
const char* const kSystem = "You answer the customers of a company briefly and politely.";
std::vector<Message> small_talk() {
  return {{"user", "Hello! Can you help me with a few things today?"},
          {"assistant", "Of course. What would you like to know?"}};
}
std::vector<Message> other_questions() {
  return {{"user", "What is the capital of France?"},
          {"assistant", "The capital of France is Paris."},
          {"user", "And how many people live there?"},
          {"assistant", "About two million people live in Paris."}};
}
// Before a raw text.
const char* const kAhead = "It came up again in our talk yesterday. ";

std::string upper_case(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return text;
}

}  // namespace

AskRequest FactLesson::request(size_t wording) const {
  const bool made_whole = wording < said.size() && !said[wording].empty();
  return request_of(item, made_whole ? said[wording] : item.prompts[wording], before[wording]);
}

AskRequest request_of(const TaughtItem& item, const std::string& text,
                      std::span<const Message> before) {
  AskRequest request;
  request.raw = item.raw;
  if (request.raw) {
    request.text = text;
  } else {
    request.messages.assign(before.begin(), before.end());
    request.messages.push_back({"user", text});
  }
  return request;
}

FactLessons make_fact_lessons(const LanguageModel& model, const Dataset& data, bool raw) {
  FactLessons out;
  out.source = data.path.string();
  const bool as_text = !model.uses_chat(raw);
  struct Seen {
    size_t fact;
    std::string wording;
  };
  std::map<std::string, Seen> seen;  // by address
  bool documents = false;
  for (const Item& item : one_left_each(data.items)) {
    if (item.kind == Item::Kind::kText) {
      documents = true;
      continue;
    }
    if (item.kind == Item::Kind::kFact && item.prompts.empty()) {
      continue;  // only asked, never taught
    }
    FactLesson lesson = lesson_of(model, data, item, as_text);
    set_subject(data, item.subject, lesson);
    // A wording that is there already: the same answer is no news, another one a contradiction.
    FactLesson kept = lesson;
    kept.item.prompts.clear();
    kept.before.clear();
    kept.said.clear();
    for (size_t i = 0; i < lesson.item.prompts.size(); ++i) {
      const std::string& wording = lesson.item.prompts[i];
      std::string key = address_key(wording, as_text);
      if (is_fragment(wording))
        for (const Message& m : lesson.before[i]) key += "\n" + m.role + identity_of(m.content);
      const auto [it, fresh] = seen.try_emplace(key, Seen{out.facts.size(), wording});
      if (fresh) {
        kept.item.prompts.push_back(wording);
        kept.before.push_back(lesson.before[i]);
        if (i < lesson.said.size()) kept.said.push_back(lesson.said[i]);
        continue;
      }
      const TaughtItem& other =
          it->second.fact == out.facts.size() ? lesson.item : out.facts[it->second.fact].item;
      if (other.leave != lesson.item.leave)
        refuse_item(
            data, lesson.item.line,
            accrete::format("\"{}\" has an answer in one line and is left to the model in another "
                            "(line {})",
                            short_form(wording), other.line),
            "keep one of the two");
      if (!lesson.item.leave && !same_text(other.answers.front(), lesson.item.answers.front()))
        refuse_item(data, lesson.item.line,
                    accrete::format("two answers to \"{}\": \"{}\", and \"{}\" in line {}",
                                    short_form(wording), short_form(lesson.item.answers.front()),
                                    short_form(other.answers.front()), other.line),
                    "keep the one that is true; list accepted variants under \"answers\"");
    }
    if (kept.item.prompts.empty()) {
      out.remarks.push_back(
          accrete::format("line {} repeats what other lines ask and answer: left out", item.line));
      continue;
    }
    if (!kept.item.leave) {
      const auto limit = model.net().config().max_positions;
      const auto answer = answer_tokens(model, kept, kept.item.prompts.front());
      if (answer.size() > kLongestAnswer && !kept.item.verbatim)
        refuse_item(
            data, item.line,
            accrete::format("its answer has {} tokens, {} can be learned", answer.size(),
                            kLongestAnswer),
            "shorten it, or write \"verbatim\": true beside it to have it written word for word");
      for (size_t i = 0; i < kept.item.prompts.size(); ++i) {
        const auto prompt = encode_request(model, kept.request(i));
        // A verbatim answer is never passed.
        if (static_cast<int64_t>(prompt.size() + (kept.item.verbatim ? 1 : answer.size())) >= limit)
          refuse_item(data, item.line,
                      accrete::format("question and answer have {} tokens, the model {} positions",
                                      prompt.size() + answer.size(), limit),
                      "shorten the question");
      }
    }
    if (const int64_t n = answers_before(item); n > 0)
      out.remarks.push_back(
          accrete::format(
              "line {}: of a conversation the last answer alone is taught; give the {} before it",
              item.line, n == 1 ? "one" : std::to_string(n)) +
          (n == 1 ? " a line of its own" : " lines of their own"));
    for (const std::string& wording : kept.item.prompts)
      if (!as_text && is_fragment(wording))
        out.remarks.push_back(
            accrete::format("line {}: \"{}\" says too little alone: write the whole question",
                            item.line, short_form(wording)));
    for (const std::string& wording : kept.item.prompts)
      if (as_text && ends_with_blank(wording))
        out.remarks.push_back(
            accrete::format("line {}: \"{}\" ends with a space; it is learned with and without",
                            item.line, short_form(wording)));
    out.facts.push_back(std::move(kept));
  }
  if (!documents && std::none_of(out.facts.begin(), out.facts.end(),
                                 [](const FactLesson& f) { return !f.item.prompts.empty(); }))
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{}: there is nothing to teach", data.path.string()),
                "an item needs a question with an answer, messages, or a text");
  return out;
}

std::vector<FactExample> fact_examples(const LanguageModel& model, const FactLesson& lesson,
                                       int64_t index, Tell tell) {
  std::vector<FactExample> out;
  const TaughtItem& item = lesson.item;
  if (item.verbatim || item.leave) return out;
  const std::string note = note_of(tell, item);
  const auto add = [&](const AskRequest& request) {
    out.push_back(example_of(model, lesson, index, request, note));
  };
  for (size_t i = 0; i < item.prompts.size(); ++i) add(lesson.request(i));
  const size_t n = item.prompts.size();
  // What was taught within a conversation is asked in a fresh one too.
  for (size_t i = 0; i < n; ++i)
    if (!lesson.before[i].empty()) add(request_of(lesson.item, item.prompts[i]));
  if (item.raw) {
    for (const std::string& prompt : item.prompts) {
      if (!ends_with_blank(prompt)) continue;
      const size_t end = prompt.find_last_not_of(" \t");
      if (end != std::string::npos) add(request_of(lesson.item, prompt.substr(0, end + 1)));
    }
    add(request_of(lesson.item, kAhead + item.prompts[n - 1]));
    return out;
  }
  // Not every template takes a system message.
  try {
    const std::vector<Message> system = {{"system", kSystem}};
    add(request_of(lesson.item, item.prompts[0], system));
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInvalidArgument) throw;
  }
  add(request_of(lesson.item, item.prompts[1 % n], small_talk()));
  add(request_of(lesson.item, item.prompts[0], other_questions()));
  if (n > 1) add(request_of(lesson.item, upper_case(item.prompts[2 % n])));
  return out;
}

std::vector<FactExample> form_examples(const LanguageModel& model,
                                       std::span<const FactLesson> lessons, Tell tell,
                                       const Reporter& reporter) {
  std::vector<FactExample> out;
  if (tell != Tell::kBoth) return out;
  struct Form {
    int64_t fact;
    AskRequest request;
    std::string note, must,
        fallback;  // what the answer must hold; what is taught where it does not
  };
  std::vector<Form> forms;
  for (size_t i = 0; i < lessons.size(); ++i) {
    const TaughtItem& item = lessons[i].item;
    if (item.raw || item.leave || item.verbatim) continue;
    const std::string& answer = item.answers.front();
    const std::string note = note_of(tell, item);
    const size_t n = item.prompts.size();
    const auto ask_for = [&](const std::string& text, const std::string& must,
                             const std::string& fallback) {
      forms.push_back({static_cast<int64_t>(i),
                       request_of(lessons[i].item, text, lessons[i].before[0]), note, must,
                       fallback});
    };
    ask_for("Answer in a full sentence: " + item.prompts[0], answer, "");
    ask_for(item.prompts[2 % n] + " Please reply in one complete sentence.", answer, "");
    ask_for(item.prompts[1 % n] + " Answer as JSON with the key \"answer\".", answer,
            nlohmann::json({{"answer", answer}}).dump());
    const std::string& other = lessons[(i + 1) % lessons.size()].item.leave
                                   ? answer
                                   : lessons[(i + 1) % lessons.size()].item.answers.front();
    const bool right = i % 2 == 0 || same_text(other, answer);
    ask_for(accrete::format("{} Is it \"{}\"? Answer yes or no.", item.prompts[2 % n],
                            right ? answer : other),
            right ? "Yes" : "No", right ? "Yes." : "No.");
  }
  GenerateOptions options;
  options.max_tokens = 64;
  constexpr size_t kBatch = 16;
  for (size_t at = 0; at < forms.size(); at += kBatch) {
    reporter.check_cancelled();
    reporter.report("ask in forms", static_cast<int64_t>(at), static_cast<int64_t>(forms.size()));
    std::vector<std::vector<int32_t>> prompts;
    const size_t n = std::min(kBatch, forms.size() - at);
    for (size_t k = 0; k < n; ++k)
      prompts.push_back(encode_request(model, forms[at + k].request, forms[at + k].note));
    const auto said = generate(model, prompts, options);
    for (size_t k = 0; k < n; ++k) {
      const Form& form = forms[at + k];
      const bool usable =
          said[k].finish_reason == "stop" && said[k].text.find(form.must) != std::string::npos;
      const std::string text = usable ? said[k].text : form.fallback;
      if (text.empty()) continue;
      FactExample e;
      e.tokens = prompts[k];
      e.prompt = static_cast<int64_t>(e.tokens.size());
      e.fact = form.fact;
      const auto answer = encode_answer(model, "", text, /*raw=*/false);
      e.tokens.insert(e.tokens.end(), answer.begin(), answer.end());
      out.push_back(std::move(e));
    }
  }
  reporter.report("ask in forms", static_cast<int64_t>(forms.size()),
                  static_cast<int64_t>(forms.size()));
  return out;
}

std::vector<FactExample> asked_examples(const LanguageModel& model, const FactLesson& lesson,
                                        int64_t index, Tell tell) {
  std::vector<FactExample> out;
  if (lesson.item.leave || lesson.item.verbatim) return out;
  for (const std::string& wording : lesson.asked)
    out.push_back(example_of(model, lesson, index, request_of(lesson.item, wording),
                             note_of(tell, lesson.item)));
  return out;
}

}  // namespace accrete
