#include "learn/document_questions.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "learn/documents.h"
#include "ledger/facts.h"
#include "model/ask.h"
#include "model/fact_memory.h"
#include "text/passages.h"
#include "text/wording.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWrite =
    "\n\nWrite five short questions that the text answers, one a line. Each names what it asks "
    "about.";

// The share of an answer's words that stand in a text.
double share_in(const std::string& answer, const std::string& text) {
  const auto words = index_words(answer);
  if (words.empty()) return 0;
  const auto all = index_words(text);
  const std::set<std::string> there(all.begin(), all.end());
  const auto n = std::count_if(words.begin(), words.end(),
                               [&](const auto& word) { return there.contains(word); });
  return static_cast<double>(n) / static_cast<double>(words.size());
}

std::set<std::string> lines_in(const fs::path& file) {
  std::set<std::string> out;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) out.insert(line);
  return out;
}

// Behind the last whole line: what a run that was killed left of one is made again.
void cut_to_lines(const fs::path& file) {
  std::error_code none;
  if (!fs::exists(file, none)) return;
  const std::string text = read_file(file);
  const size_t end = text.rfind('\n');
  fs::resize_file(file, end == std::string::npos ? 0 : end + 1);
}

void append(const fs::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::app | std::ios::binary);
  out << text << std::flush;
  if (!out)
    throw Error(ErrorCode::kIo, accrete::format("cannot write {}", file.string()),
                "is there space on the disk?");
}

std::string time_left(double seconds) {
  if (seconds < 90) return accrete::format("{:.0f} s", seconds);
  if (seconds < 5400) return accrete::format("{:.0f} min", seconds / 60);
  return accrete::format("{:.1f} h", seconds / 3600);
}

class Maker {
 public:
  Maker(const LanguageModel& model, const Dataset& data, const Reporter& reporter)
      : taught_(model), model_(model) {
    for (const Item& item : data.items)
      for (const std::string& prompt : item.prompts) by_hand_.insert(name_key(prompt));
    if (!model.has_facts() || model.facts().info().tell == Tell::kValue || !model.uses_chat(false))
      throw Error(ErrorCode::kUnsupported,
                  "this model does not read: it cannot make facts of texts",
                  "write the questions and answers yourself, or take a larger model");
    auto lessons = make_document_lessons(data, FactStore());
    if (lessons.passages.empty())
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{}: there is no document to make facts of", data.path.string()),
                  "name .md, .txt, .html or .pdf files, or lines with a text");
    Update update;
    append_passages(model.facts().reader(), std::move(lessons.passages), update, reporter);
    model_.use_facts(model.facts().untaught().plus("made", std::move(update)));
  }

  int64_t size() const { return model_.facts().store().size(); }
  const StoredFact& passage(int64_t i) const { return model_.facts().store().fact(i); }

  std::vector<std::string> questions_of(int64_t i, const Reporter& reporter) const {
    const AskRequest request =
        single_question(model_, "Text:\n" + note_of_passages(model_, told(i)) + kWrite, false);
    GenerateOptions options;
    options.max_tokens = 160;
    const std::vector<std::vector<int32_t>> prompt = {encode_request(model_, request)};
    return questions_in(generate(model_, prompt, options, nullptr, reporter).front().text);
  }

  // The answers that the model gives with the passage in front; empty: the way back does not hold.
  std::vector<std::string> answers_to(int64_t i, const std::vector<std::string>& questions,
                                      const Reporter& reporter) const {
    std::vector<std::string> out(questions.size());
    std::vector<AskRequest> asked;
    for (const std::string& question : questions)
      asked.push_back(single_question(model_, question, false));
    const auto choices = choose_facts(model_, asked), known = choose_facts(taught_, asked);
    std::vector<AskRequest> kept;
    std::vector<size_t> of;
    for (size_t k = 0; k < choices.size(); ++k) {
      if (choices[k].passages.empty() || choices[k].passages.front().fact != i) continue;
      // What a person taught, or teaches, stays as it is.
      if (known[k].fact >= 0 || known[k].left || by_hand_.contains(name_key(questions[k])))
        continue;
      kept.push_back(asked[k]);
      of.push_back(k);
    }
    GenerateOptions options;
    options.max_tokens = 40;
    const std::vector<Choice> with(kept.size(), told(i));
    const auto said = answer_with(model_, kept, with, options, nullptr, reporter);
    const std::string text = joined_pieces(passage(i).text().prompts);
    for (size_t k = 0; k < said.size(); ++k)
      if (said[k].finish_reason == "stop" && share_in(said[k].text, text) >= kFaithful)
        out[of[k]] = said[k].text;
    return out;
  }

 private:
  static constexpr double kFaithful = 0.8;

  static Choice told(int64_t i) {
    Choice out;
    PassageChoice& passage = out.passages.emplace_back();
    passage.fact = i;
    passage.piece = 0;  // of one that is too long the beginning is read
    return out;
  }

  LanguageModel taught_, model_;   // as it is; with the set's passages and nothing else
  std::set<std::string> by_hand_;  // questions of the set itself
};

}  // namespace

std::vector<std::string> questions_in(const std::string& written) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (size_t at = 0; at < written.size();) {
    const size_t end = std::min(written.find('\n', at), written.size());
    std::string line = written.substr(at, end - at);
    at = end + 1;
    const size_t begin = line.find_first_not_of(" \t-*+0123456789.)\"'`#");
    const size_t mark = line.rfind('?');
    if (begin == std::string::npos || mark == std::string::npos || mark < begin) continue;
    line = line.substr(begin, mark + 1 - begin);
    constexpr size_t kFewest = 3, kMost = 30;
    const auto words = words_of(line);
    const auto speaks_of_it = [](const Word& word) {
      return word.form == "text" || word.form == "passage" || word.form == "paragraph";
    };
    if (words.size() < kFewest || words.size() > kMost ||
        std::any_of(words.begin(), words.end(), speaks_of_it))
      continue;
    if (seen.insert(name_key(line)).second) out.push_back(std::move(line));
  }
  return out;
}

MadeQuestions make_questions(const LanguageModel& model, const Dataset& data, const fs::path& file,
                             const Reporter& reporter) {
  const fs::path progress = file.string() + ".progress";
  if (fs::exists(file) && !fs::exists(progress))
    throw Error(ErrorCode::kConflict, file.string() + " is there already",
                "teach it as it is, name another file, or remove it");
  if (file.extension() != ".jsonl")
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} is no name for a teach set", file.string()),
                "name a file that ends in .jsonl");
  const Maker maker(model, data, reporter);
  if (!fs::exists(file)) fs::remove(progress);
  for (const fs::path& one : {file, progress}) cut_to_lines(one);
  // The lines of a passage that was not done yet are made again, and are the same.
  const std::set<std::string> done = lines_in(progress), there = lines_in(file);
  append(progress, "");
  MadeQuestions out;
  out.passages = maker.size();
  const auto begin = std::chrono::steady_clock::now();
  int64_t made = 0;
  Reporter quiet{nullptr, reporter.cancelled};
  for (int64_t i = 0; i < maker.size(); ++i) {
    const StoredFact& passage = maker.passage(i);
    if (done.contains(passage.id)) {
      ++out.before;
      continue;
    }
    reporter.check_cancelled();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double left =
        made == 0 ? 0 : seconds / static_cast<double>(made) * static_cast<double>(maker.size() - i);
    reporter.report("make facts", i, maker.size(),
                    made == 0
                        ? std::string()
                        : accrete::format("{} facts, about {} left", out.kept, time_left(left)));
    const auto questions = maker.questions_of(i, quiet);
    const auto answers = maker.answers_to(i, questions, quiet);
    reporter.check_cancelled();  // what was stopped is cut, and made again
    std::string lines;
    for (size_t k = 0; k < questions.size(); ++k) {
      if (answers[k].empty()) continue;
      const TaughtItem& item = passage.text();
      const std::string line =
          nlohmann::ordered_json(
              {{"id", item.document + (item.section.empty() ? "" : ", " + item.section)},
               {"questions", {questions[k]}},
               {"answer", answers[k]}})
              .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
      if (!there.contains(line)) lines += line + "\n";
      ++out.kept;
    }
    out.asked += static_cast<int64_t>(questions.size());
    append(file, lines);
    append(progress, passage.id + "\n");
    ++made;
  }
  reporter.report("make facts", maker.size(), maker.size());
  fs::remove(progress);
  return out;
}

}  // namespace accrete
