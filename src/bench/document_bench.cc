#include "bench/document_bench.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "io/dataset.h"
#include "io/documents.h"
#include "io/strict_json.h"
#include "learn/documents.h"
#include "measure/text_metrics.h"
#include "model/ask.h"
#include "model/fact_memory.h"

namespace accrete {
namespace {

using Json = nlohmann::ordered_json;

struct Asked {
  std::string question;
  std::vector<std::string> answers;  // none: what is taught does not answer it
  int64_t document = 0;
};

struct Set {
  std::vector<Item> documents;
  std::vector<Asked> questions;
  bool whole = false;  // every document is taught
};

template <typename Take>
void each_line(const std::filesystem::path& path, const Take& take) {
  const std::string text = read_text(path);
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    ++number;
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (!line.empty()) take(parse_json(line, path.string(), {}, number), number);
  }
}

std::string field(const nlohmann::json& json, const char* key) {
  return json.value(key, std::string());
}

[[noreturn]] void bad_line(const std::filesystem::path& path, int64_t line, const char* what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}:{}: {}", path.string(), line, what));
}

// Lines that hold question and document.
Set read_question_lines(const std::filesystem::path& path) {
  Set out;
  std::map<std::string, int64_t> known;
  each_line(path, [&](const nlohmann::json& json, int64_t line) {
    const std::string body =
        json.contains("context") ? field(json, "context") : field(json, "text");
    if (body.empty() || field(json, "question").empty() || !json.contains("answers"))
      bad_line(path, line, "a line needs question, answers, and context or text");
    const auto [it, fresh] = known.try_emplace(field(json, "title") + "\n" + body,
                                               static_cast<int64_t>(out.documents.size()));
    if (fresh) {
      Item item;
      item.kind = Item::Kind::kText;
      item.text = body;
      item.title = field(json, "title");
      item.source = std::to_string(it->second);
      out.documents.push_back(std::move(item));
    }
    out.questions.push_back({field(json, "question"), json.at("answers"), it->second});
  });
  return out;
}

// A folder of documents with questions.jsonl, whose lines name the document that answers, or none.
Set read_folder(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  Set out;
  out.whole = true;
  std::map<std::string, int64_t> known;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().extension() != ".jsonl")
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (Item& item : read_teach_sets(files).items) {
    const auto number = static_cast<int64_t>(out.documents.size());
    known[fs::path(item.source).filename().string()] = number;
    // The number stands for the name, which of plain text is its title.
    if (item.title.empty() && !item.markdown) {
      item.title = fs::path(item.source).stem().string();
      std::replace(item.title.begin(), item.title.end(), '-', ' ');
    }
    item.source = std::to_string(number);
    out.documents.push_back(std::move(item));
  }
  const fs::path questions = folder / "questions.jsonl";
  each_line(questions, [&](const nlohmann::json& json, int64_t line) {
    const auto it = known.find(field(json, "source"));
    const std::vector<std::string> answers = json.value("answers", std::vector<std::string>());
    if (field(json, "question").empty() || (it == known.end() && !answers.empty()))
      bad_line(questions, line, "a line needs question, answers, and the source of these");
    out.questions.push_back(
        {field(json, "question"), answers, it == known.end() ? -1 : it->second});
  });
  return out;
}

Set read_set(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? read_folder(path) : read_question_lines(path);
}

// The documents that are looked at, and which of them are taught.
struct Part {
  int64_t begin = 0, end = 0;
  bool whole = false;
  bool has(int64_t document) const { return document >= begin && document < end; }
  bool taught(int64_t document) const { return has(document) && (whole || document % 3 != 2); }
};

Part part_of(const Set& set, const std::string& half) {
  const auto n = static_cast<int64_t>(set.documents.size());
  if (set.whole) return {0, n, true};
  if (half == "dev") return {0, n / 2};
  if (half == "test") return {n / 2, n};
  if (half == "all") return {0, n};
  throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is no half", half),
              "use dev, test or all");
}

class DocumentBench {
 public:
  DocumentBench(const LanguageModel& base, const DocumentBenchOptions& options,
                const Reporter& reporter)
      : model_(base),
        options_(options),
        reporter_(reporter),
        set_(read_set(options.data)),
        part_(part_of(set_, options.half)) {
    Dataset data;
    for (int64_t i = part_.begin; i < part_.end; ++i)
      if (part_.taught(i)) data.items.push_back(set_.documents[static_cast<size_t>(i)]);
    const auto begin = std::chrono::steady_clock::now();
    DocumentLessons lessons = make_document_lessons(data, FactStore());
    passages_ = static_cast<int64_t>(lessons.passages.size());
    Update update;
    append_passages(base.facts().reader(), std::move(lessons.passages), update);
    for (const Asked& q : set_.questions) {
      if (q.document >= 0 && !part_.has(q.document)) continue;
      if (q.answers.empty()) {
        nobody_.push_back(&q);
        continue;
      }
      (part_.taught(q.document) ? answerable_ : others_).push_back(&q);
    }
    const UpdateFacts& f = update.facts;
    bytes_ = static_cast<int64_t>(f.whole.size() + f.masked.size() + f.scales.size() * 4 +
                                  f.answers.size() + f.answer_scales.size() * 4 +
                                  taught_items_to_text(update.taught.items).size());
    model_.use_facts(base.facts().with(FactStore()).plus("bench", std::move(update)));
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  Json run() {
    Json out = {{"benchmark", "documents"},
                {"data", options_.data.filename().string()},
                {"half", options_.half},
                {"documents",
                 std::count_if(set_.documents.begin(), set_.documents.end(),
                               [&](const Item& d) { return part_.taught(std::stoll(d.source)); })},
                {"passages", passages_},
                {"seconds_a_passage", seconds_ / static_cast<double>(passages_)},
                {"bytes_a_passage", static_cast<double>(bytes_) / static_cast<double>(passages_)}};
    if (!options_.features.empty()) {
      write_features();
      return out;
    }
    choose();
    out["seconds_a_question"] = choose_seconds_ / static_cast<double>(std::max<size_t>(
                                                      answerable_.size() + others_.size(), 1));
    out["choice"] = choice_row();
    out["rows"] = Json::array();
    for (const std::string method : {"closed", "context", "top1", "top3", "accrete"})
      // Where the model does not read a sentence is quoted, and more text is of no use.
      if (options_.questions > 0 &&
          (model_.facts().info().tell != Tell::kValue ||
           (method != "context" && method != "top3")) &&
          (options_.methods.empty() ||
           std::count(options_.methods.begin(), options_.methods.end(), method) > 0))
        out["rows"].push_back(answer_row(method));
    return out;
  }

 private:
  std::vector<AskRequest> requests(const std::vector<const Asked*>& questions) const {
    std::vector<AskRequest> out;
    for (const Asked* q : questions) out.push_back(single_question(model_, q->question, false));
    return out;
  }

  int64_t document_of(int64_t fact) const {
    return std::stoll(model_.facts().store().fact(fact).text().document);
  }

  void choose() {
    reporter_.report("choose", 0, 3);
    const auto begin = std::chrono::steady_clock::now();
    own_ = choose_facts(model_, requests(answerable_));
    reporter_.report("choose", 1, 3);
    other_ = choose_facts(model_, requests(others_));
    choose_seconds_ =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (const Choice& c : choose_facts(model_, requests(nobody_)))
      nobody_told_ += !c.passages.empty();
    reporter_.report("choose", 2, 3);
    for (const Asked* q : answerable_) found_.push_back(nearest(*q));
    if (!options_.unrelated.empty()) {
      std::vector<AskRequest> asked;
      each_line(options_.unrelated, [&](const nlohmann::json& json, int64_t) {
        asked.push_back(single_question(model_, json.at("question"), false));
      });
      for (const Choice& c : choose_facts(model_, asked)) {
        ++unrelated_;
        unrelated_taken_ += c.taught();
      }
    }
    reporter_.report("choose", 3, 3);
  }

  // The passages that lie nearest, whether accepted or not, as choose() weighs them; `ranked`
  // false: as it finds them, each of them read together with the question.
  std::vector<PassageEvidence> nearest(const Asked& asked, bool ranked = true) const {
    const FactMemory& memory = model_.facts();
    const FactStore& store = memory.store();
    const Vocabulary none = [](std::string_view) { return -1; };
    const auto read = store.read({asked.question, {}, false}, none);
    const auto vectors = memory.reader().read(read.passage_texts, true).contiguous();
    auto out = store.weigh_passages(read, vectors.const_data_ptr<float>());
    if (memory.reader().has_passage_encoder()) {
      std::vector<ReadPassage> together;
      const size_t n = ranked ? passages_to_read(out) : out.size();
      for (size_t k = 0; k < n; ++k) together.push_back(store.read_passage(read, out[k]));
      const auto said = memory.reader().judge(together);
      for (size_t k = 0; k < n; ++k) {
        out[k].read = said[k].log_odds;
        out[k].piece = answering_piece(together[k].question, together[k].pieces, said[k].pieces);
      }
    }
    if (ranked) rank_passages(out, static_cast<int64_t>(store.passages().size()));
    return out;
  }

  const StoredFact& passage(const PassageEvidence& e) const {
    const FactStore& store = model_.facts().store();
    return store.fact(store.passages()[static_cast<size_t>(e.passage)]);
  }
  bool right(const PassageEvidence& e, const Asked& asked) const {
    return std::stoll(passage(e).text().document) == asked.document;
  }

  void write_features() {
    std::string out;
    int64_t done = 0;
    const size_t all = answerable_.size() + others_.size() + nobody_.size();
    for (const auto* questions : {&answerable_, &others_, &nobody_})
      for (const Asked* q : *questions) {
        reporter_.check_cancelled();
        reporter_.report("features", done++, static_cast<int64_t>(all));
        Json rows = Json::array();
        for (const PassageEvidence& e : nearest(*q, /*ranked=*/false))
          rows.push_back(
              {{"evidence", {e.words, e.covered, e.nearest, e.whole, e.read.value_or(0)}},
               {"right", questions == &answerable_ && right(e, *q)},
               {"section", passage(e).text().section},
               {"pieces", passage(e).text().prompts}});
        out += Json({{"question", q->question},
                     {"taught", questions == &answerable_},
                     {"passages", rows}})
                   .dump() +
               "\n";
      }
    write_file_atomically(options_.features, out);
  }

  Json choice_row() const {
    double first = 0, third = 0, told_right = 0, wrong = 0, other = 0;
    for (size_t i = 0; i < own_.size(); ++i) {
      const int64_t document = answerable_[i]->document;
      const auto& found = found_[i];
      for (size_t k = 0; k < std::min<size_t>(3, found.size()); ++k) {
        if (!right(found[k], *answerable_[i])) continue;
        first += k == 0;
        third += 1;
        break;
      }
      if (own_[i].passages.empty()) continue;
      const bool any =
          std::any_of(own_[i].passages.begin(), own_[i].passages.end(),
                      [&](const PassageChoice& p) { return document_of(p.fact) == document; });
      told_right += any;
      wrong += !any;
    }
    for (const Choice& c : other_) other += !c.passages.empty();
    const auto share = [](double n, size_t of) {
      return of == 0 ? 0 : n / static_cast<double>(of);
    };
    return {{"questions", own_.size()},
            {"first_right", share(first, own_.size())},
            {"in_three", share(third, own_.size())},
            {"told_right", share(told_right, own_.size())},
            {"told_wrong", share(wrong, own_.size())},
            {"not_answered", other_.size()},
            {"not_answered_told", share(other, other_.size())},
            {"unanswerable", nobody_.size()},
            {"unanswerable_told", share(static_cast<double>(nobody_told_), nobody_.size())},
            {"unrelated", unrelated_},
            {"unrelated_told", unrelated_taken_}};
  }

  // The choice that a method makes for the i-th answerable question.
  Choice by(const std::string& method, size_t i) const {
    if (method == "accrete") return own_[i];
    Choice out;
    if (method == "closed") return out;
    if (method == "context") {
      const auto& passages = model_.facts().store().passages();
      for (const int64_t fact : passages)
        if (document_of(fact) == answerable_[i]->document) out.passages.emplace_back().fact = fact;
      return out;
    }
    const auto& found = found_[i];
    const size_t most = method == "top1" ? 1 : 3;
    for (size_t k = 0; k < std::min(most, found.size()); ++k) {
      PassageChoice& one = out.passages.emplace_back();
      one.fact = model_.facts().store().passages()[static_cast<size_t>(found[k].passage)];
      one.piece = found[k].piece;
    }
    return out;
  }

  Json answer_row(const std::string& method) {
    std::vector<size_t> which;
    const size_t n = std::min(answerable_.size(), static_cast<size_t>(options_.questions));
    for (size_t i = 0; i < n; ++i) which.push_back(i * answerable_.size() / n);
    GenerateOptions generate;
    generate.max_tokens = 128;
    double f1 = 0, exact = 0, contains = 0;
    const auto begin = std::chrono::steady_clock::now();
    constexpr size_t kBatch = 8;
    for (size_t at = 0; at < n; at += kBatch) {
      reporter_.check_cancelled();
      reporter_.report(method, static_cast<int64_t>(at), static_cast<int64_t>(n));
      std::vector<AskRequest> asked;
      std::vector<Choice> choices;
      std::vector<size_t> fresh;
      for (size_t k = at; k < std::min(n, at + kBatch); ++k) {
        const Asked& q = *answerable_[which[k]];
        Choice choice = by(method, which[k]);
        AskRequest request = single_question(model_, q.question, false);
        std::string key = q.question + "\n" + note_of_passages(model_, choice);
        for (const PassageChoice& one : choice.passages) key += std::to_string(one.piece) + " ";
        keys_[k] = key;
        if (said_.contains(key)) continue;
        asked.push_back(std::move(request));
        choices.push_back(std::move(choice));
        fresh.push_back(k);
      }
      const auto made = answer_with(model_, asked, choices, generate);
      for (size_t k = 0; k < made.size(); ++k) said_[keys_[fresh[k]]] = made[k].text;
      for (size_t k = at; k < std::min(n, at + kBatch); ++k) {
        const Asked& q = *answerable_[which[k]];
        const std::string& text = said_[keys_[k]];
        f1 += best_answer(text, q.answers).f1;
        exact += says_exactly(text, q.answers);
        const std::string all = normalize_answer(text);
        contains += std::any_of(q.answers.begin(), q.answers.end(), [&](const std::string& a) {
          return all.find(normalize_answer(a)) != std::string::npos;
        });
      }
    }
    const double of = n == 0 ? 1 : static_cast<double>(n);
    return {{"method", method},
            {"asked", n},
            {"f1", f1 / of},
            {"exact", exact / of},
            {"contains", contains / of},
            {"seconds",
             std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()}};
  }

  LanguageModel model_;
  const DocumentBenchOptions& options_;
  const Reporter& reporter_;
  Set set_;
  Part part_;
  std::vector<const Asked*> answerable_, others_, nobody_;
  std::vector<Choice> own_, other_;
  std::vector<std::vector<PassageEvidence>> found_;  // of answerable_, the likeliest first
  int64_t nobody_told_ = 0;
  double choose_seconds_ = 0;
  int64_t unrelated_ = 0, unrelated_taken_ = 0, passages_ = 0, bytes_ = 0;
  double seconds_ = 0;
  std::map<std::string, std::string> said_;  // by question and note
  std::map<size_t, std::string> keys_;
};

}  // namespace

Json run_document_bench(const LanguageModel& model, const DocumentBenchOptions& options,
                        const Reporter& reporter) {
  if (!model.has_facts())
    throw Error(ErrorCode::kInvalidArgument, "this model has no memory of documents",
                "name one that `accrete retrofit` made");
  return DocumentBench(model, options, reporter).run();
}

}  // namespace accrete
