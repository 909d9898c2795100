#include "bench/desk_methods.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/format.h"
#include "bench/baselines/finetune.h"
#include "learn/fact_teach.h"
#include "learn/teach_clock.h"
#include "ledger/update_file.h"
#include "model/chat_tokens.h"
#include "model/fact_memory.h"
#include "text/wording.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;

constexpr size_t kBatch = 16;
constexpr size_t kRead = 256;  // questions that are read at once
constexpr int64_t kRank = 16;  // of LoRA
constexpr double kAlpha = 32;
constexpr int64_t kTrainBatch = 8;  // examples of a finetuning step
constexpr int64_t kFloat32 = 4;

// Largest resident memory since the last reset; where the system cannot reset it, since the start.
void reset_peak() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5";
}
int64_t peak_bytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  return peak_memory_bytes();
}

int64_t bytes_of_update(const Update& update) {
  std::string name = (fs::temp_directory_path() / "accrete-desk-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(ErrorCode::kIo, "cannot make a temporary folder " + name);
  struct Removed {
    fs::path path;
    ~Removed() {
      std::error_code ignored;
      fs::remove_all(path, ignored);
    }
  } folder{name};
  const std::string id = write_update(folder.path, update);
  return static_cast<int64_t>(fs::file_size(folder.path / update_file_name(id)));
}

Dataset dataset_of_desk(const DeskSet& set, bool verbatim) {
  Dataset out;
  out.path = set.section;
  out.items = set.taught;
  for (Item& item : out.items) item.verbatim = verbatim;
  return out;
}

// What the untaught model needs to answer as many questions as a batch has.
int64_t answer_peak(const DeskParts& parts, const Reporter& reporter) {
  std::vector<AskRequest> requests;
  for (const Item& item : parts.set.taught)
    if (requests.size() < kBatch)
      requests.push_back(single_question(parts.model, item.prompts.front(), parts.set.raw));
  reset_peak();
  generate_answers(parts.model, requests, {}, 32, reporter);
  return peak_bytes();
}

// Facts in a memory, of which one is accepted or none.
class FactMethod : public DeskMethod {
 public:
  FactMethod(const DeskParts& parts, std::optional<Tell> tell, bool verbatim,
             const Reporter& reporter)
      : parts_(parts), model_(parts.model) {
    cost_.answer_peak = answer_peak(parts, reporter);
    FactMemory empty = model_.facts();
    if (tell) {
      FactMemoryInfo info = empty.info();
      info.tell = *tell;
      empty = FactMemory(model_.folder(), info);
    }
    model_.use_facts(empty.with(FactStore()));
    (void)model_.facts().reader();  // that opening is no part of teaching
    reset_peak();
    const Clock clock;
    const FactLessons lessons =
        make_fact_lessons(model_, dataset_of_desk(parts.set, verbatim), parts.set.raw);
    FactProposal proposal = propose_facts(model_, lessons.facts, FactValueOptions(), reporter);
    model_.use_facts(model_.facts().plus("desk", proposal.update));
    cost_.seconds = clock.seconds();
    cost_.teach_peak = peak_bytes();
    cost_.bytes_a_fact = static_cast<double>(bytes_of_update(proposal.update)) /
                         static_cast<double>(std::max<size_t>(1, parts.set.taught.size()));
    stored_.assign(parts.set.taught.size(), -1);
    const FactStore& store = model_.facts().store();
    for (int64_t f = 0; f < store.size(); ++f)
      stored_[static_cast<size_t>(store.fact(f).text().line - 1)] = f;
  }

  std::vector<DeskChoice> choose(std::span<const AskRequest> requests,
                                 const Reporter& reporter) override {
    std::vector<AskRequest> unknown;
    for (const AskRequest& request : requests)
      if (!parts_.choices.contains(request_key(request))) unknown.push_back(request);
    for (size_t at = 0; at < unknown.size(); at += kRead) {
      reporter.check_cancelled();
      reporter.report("choose", static_cast<int64_t>(at), static_cast<int64_t>(unknown.size()));
      const auto some = std::span(unknown).subspan(at, std::min(kRead, unknown.size() - at));
      const auto choices = choose_facts(model_, some);
      for (size_t i = 0; i < some.size(); ++i)
        parts_.choices[request_key(some[i])] = {line_of(choices[i].best.fact),
                                                line_of(choices[i].fact), choices[i].taught(),
                                                choices[i].best.probability};
    }
    std::vector<DeskChoice> out;
    for (const AskRequest& request : requests)
      out.push_back(parts_.choices.at(request_key(request)));
    return out;
  }

  std::vector<std::string> answer(std::span<const AskRequest> requests, int64_t max_tokens,
                                  const Reporter& reporter) override {
    if (model_.facts().info().tell != Tell::kValue)  // notes may hold more than the accepted fact
      return tell(requests, choose_facts(model_, requests), max_tokens, reporter, true);
    std::vector<Choice> told;
    for (const DeskChoice& choice : choose(requests, reporter))
      told.push_back(choice_of(choice.accepted < 0 ? -1 : stored(choice.accepted)));
    return tell(requests, told, max_tokens, reporter, /*recital=*/true);
  }

  std::vector<std::string> answer_given(std::span<const AskRequest> requests,
                                        std::span<const std::vector<int64_t>> facts,
                                        int64_t max_tokens, const Reporter& reporter) override {
    std::vector<Choice> told;
    for (const auto& given : facts) {
      Choice& choice = told.emplace_back(choice_of(given.empty() ? -1 : stored(given.front())));
      // A value tells one fact, notes tell all.
      for (size_t k = 1; k < given.size() && model_.facts().info().tell != Tell::kValue; ++k)
        choice.about.push_back(stored(given[k]));
    }
    return tell(requests, told, max_tokens, reporter, /*recital=*/false);
  }

 protected:
  int64_t stored(int64_t fact) const { return stored_[static_cast<size_t>(fact)]; }

  std::vector<std::string> tell(std::span<const AskRequest> requests,
                                std::span<const Choice> choices, int64_t max_tokens,
                                const Reporter& reporter, bool recital) {
    std::vector<AskRequest> told, left;
    std::vector<Choice> which;
    std::vector<size_t> of_told, of_left;
    for (size_t i = 0; i < requests.size(); ++i) {
      if (!choices[i].taught()) {
        left.push_back(requests[i]);
        of_left.push_back(i);
      } else {
        told.push_back(requests[i]);
        which.push_back(choices[i]);
        of_told.push_back(i);
      }
    }
    std::vector<std::string> out(requests.size());
    auto by_fact = generate_answers(model_, told, which, max_tokens, reporter, recital);
    auto by_base = parts_.base.answer(left, max_tokens, reporter);
    for (size_t i = 0; i < told.size(); ++i) out[of_told[i]] = std::move(by_fact[i]);
    for (size_t i = 0; i < left.size(); ++i) out[of_left[i]] = std::move(by_base[i]);
    return out;
  }

  int64_t line_of(int64_t fact) const {
    return fact < 0 ? -1 : model_.facts().store().fact(fact).text().line - 1;
  }

  DeskParts parts_;
  LanguageModel model_;
  std::vector<int64_t> stored_;  // of each fact of the set its place in the store
};

// The facts nearest to a question as notes in front of it.
class ContextMethod : public FactMethod {
 public:
  ContextMethod(const DeskParts& parts, size_t notes, const Reporter& reporter)
      : FactMethod(parts, std::nullopt, /*verbatim=*/true, reporter), notes_(notes) {
    std::vector<std::string> texts;
    for (size_t i = 0; i < parts.set.taught.size(); ++i) {
      if (!subject(i).empty() &&
          std::find(subjects_.begin(), subjects_.end(), subject(i)) == subjects_.end())
        subjects_.push_back(subject(i));
      for (const std::string& wording : parts.set.taught[i].prompts) {
        texts.push_back(wording);
        texts.push_back(mask_name(wording, subject(i)));
        owner_.push_back(static_cast<int64_t>(i));
      }
    }
    keys_ =
        model_.facts().reader().read(texts).reshape({static_cast<int64_t>(owner_.size()), 2, -1});
  }

  std::vector<DeskChoice> choose(std::span<const AskRequest>, const Reporter&) override {
    return {};  // it never leaves the model alone
  }

  std::vector<std::string> answer(std::span<const AskRequest> requests, int64_t max_tokens,
                                  const Reporter& reporter) override {
    std::vector<std::vector<int64_t>> facts;
    const auto choices = FactMethod::choose(requests, reporter);
    for (size_t i = 0; i < requests.size(); ++i)
      facts.push_back(nearest(requests[i], choices[i].best));
    return answer_given(requests, facts, max_tokens, reporter);
  }

  std::vector<std::string> answer_given(std::span<const AskRequest> requests,
                                        std::span<const std::vector<int64_t>> facts,
                                        int64_t max_tokens, const Reporter& reporter) override {
    std::vector<AskRequest> noted;
    for (size_t i = 0; i < requests.size(); ++i) noted.push_back(with_notes(requests[i], facts[i]));
    return generate_answers(parts_.model, noted, {}, max_tokens, reporter);
  }

 private:
  const std::string& subject(size_t i) const {
    return model_.facts().store().fact(stored_[i]).text().subject;
  }

  // The subjects that a question names, or else the last of its conversation that names one.
  std::vector<std::string> named(const Question& question) const {
    std::vector<std::string> out;
    const auto in = [&](const std::string& text) {
      for (const std::string& name : subjects_)
        if (!find_name(text, name).empty()) out.push_back(name);
      return !out.empty();
    };
    if (in(question.text)) return out;
    for (size_t i = question.earlier.size(); i-- > 0;)
      if (in(question.earlier[i])) break;
    return out;
  }

  // The best by the shipped score, then by the mean of both cosines; of a question that names a
  // subject only that subject's facts and those about none.
  std::vector<int64_t> nearest(const AskRequest& request, int64_t best) const {
    std::vector<int64_t> out;
    if (best < 0) return out;
    out.push_back(best);
    if (notes_ < 2) return out;
    const Question question = question_of(request);
    const auto about = named(question);
    // The question, then the question with each of the subjects masked.
    std::vector<std::string> texts = {question.text};
    for (const std::string& name : about) texts.push_back(mask_name(question.text, name));
    const auto vectors = model_.facts().reader().read(texts);
    std::vector<at::Tensor> cosines;  // [W] each
    for (size_t t = 0; t < texts.size(); ++t)
      cosines.push_back(
          keys_.select(1, t == 0 ? 0 : 1).mv(vectors[static_cast<int64_t>(t)]).contiguous());
    std::vector<double> score(stored_.size(), -2);
    for (size_t k = 0; k < owner_.size(); ++k) {
      const auto fact = static_cast<size_t>(owner_[k]);
      const auto cosine = [&](size_t t) {
        return static_cast<double>(cosines[t].const_data_ptr<float>()[k]);
      };
      double s = cosine(0);
      if (!subject(fact).empty()) {
        const auto it = std::find(about.begin(), about.end(), subject(fact));
        if (it == about.end()) continue;
        s = (s + cosine(1 + static_cast<size_t>(it - about.begin()))) / 2;
      }
      score[fact] = std::max(score[fact], s);
    }
    std::vector<int64_t> order(score.size());
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)];
    });
    for (const int64_t fact : order)
      if (out.size() < notes_ && fact != best && score[static_cast<size_t>(fact)] > -2)
        out.push_back(fact);
    return out;
  }

  AskRequest with_notes(const AskRequest& request, const std::vector<int64_t>& facts) const {
    AskRequest out = request;
    std::string notes;
    for (const int64_t f : facts) {
      const Item& item = parts_.set.taught[static_cast<size_t>(f)];
      notes += out.raw ? item.prompts.front() + " " + item.answers.front() + ".\n"
                       : "Note: " + item.prompts.front() + " " + item.answers.front() + "\n";
    }
    if (notes.empty()) return out;
    std::string& text = out.raw ? out.text : out.messages.back().content;
    text = notes + "\n" + text;
    return out;
  }

  size_t notes_;
  std::vector<std::string> subjects_;
  std::vector<int64_t> owner_;  // of each wording
  at::Tensor keys_;             // [W, 2, width]: whole, masked
};

class TrainedMethod : public DeskMethod {
 public:
  explicit TrainedMethod(const LanguageModel& model) : model_(model) {}
  std::vector<std::string> answer(std::span<const AskRequest> requests, int64_t max_tokens,
                                  const Reporter& reporter) override {
    return generate_answers(model_, requests, {}, max_tokens, reporter);
  }
  DeskCost& costs() { return cost_; }

 private:
  const LanguageModel& model_;
};

void teach_finetuning(const std::string& method, const DeskSetting& setting,
                      std::span<const int64_t> epochs, const DeskParts& parts,
                      const Reporter& reporter,
                      const std::function<void(DeskMethod&, int64_t)>& use) {
  LanguageModel model = parts.model;
  FinetuneOptions options;
  options.optimizer.rate = setting.at("rate").get<double>();
  options.batch = kTrainBatch;
  options.seed = parts.seed;
  options.raw = parts.set.raw;
  if (method == "lora") {
    options.rank = kRank;
    options.alpha = kAlpha;
  }
  std::vector<Item> items = parts.set.taught;
  for (Item& item : items) {
    item.subject.clear();
    // In a chat the end of the turn is taught with the answer; a raw text needs its end as well.
    if (parts.set.raw)
      if (const int32_t end = end_token(model, false); end >= 0)
        item.answers.front() += model.tokenizer().decode({&end, 1});
  }
  TrainedMethod trained(model);
  trained.costs().answer_peak = answer_peak(parts, reporter);
  reset_peak();
  Clock start;
  auto learner = std::make_unique<Finetune>(model, std::vector<Example>(), options);
  double seconds = start.seconds();
  int64_t done = 0;
  for (const int64_t n : epochs) {
    const Clock clock;
    if (n > done) learner->learn(items, n - done, reporter);
    done = std::max(done, n);
    seconds += clock.seconds();
    trained.costs().seconds = seconds;
    trained.costs().teach_peak = peak_bytes();
    trained.costs().bytes_a_fact = static_cast<double>(learner->cost().parameters * kFloat32) /
                                   static_cast<double>(std::max<size_t>(1, items.size()));
    use(trained, n);
    reset_peak();
  }
}

}  // namespace

std::string request_key(const AskRequest& request) {
  if (request.raw) return "raw\x1f" + request.text;
  std::string out;
  for (const Message& m : request.messages) out += m.role + "\x1f" + m.content + "\x1e";
  return out;
}

std::vector<std::string> generate_answers(const LanguageModel& model,
                                          std::span<const AskRequest> requests,
                                          std::span<const Choice> choices, int64_t max_tokens,
                                          const Reporter& reporter, bool recital) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<size_t> length;
  for (const AskRequest& request : requests) length.push_back(request_key(request).size());
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return length[a] < length[b]; });
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.recital = recital;
  std::vector<std::string> out(requests.size());
  for (size_t at = 0; at < order.size(); at += kBatch) {
    reporter.check_cancelled();
    reporter.report("answer", static_cast<int64_t>(at), static_cast<int64_t>(order.size()));
    std::vector<AskRequest> batch;
    std::vector<Choice> which;
    const size_t end = std::min(order.size(), at + kBatch);
    for (size_t i = at; i < end; ++i) {
      batch.push_back(requests[order[i]]);
      if (!choices.empty()) which.push_back(choices[order[i]]);
    }
    auto made = answer_with(model, batch, which, options);
    for (size_t i = at; i < end; ++i) out[order[i]] = std::move(made[i - at].text);
  }
  return out;
}

std::vector<std::string> BaseAnswers::answer(std::span<const AskRequest> requests,
                                             int64_t max_tokens, const Reporter& reporter) {
  std::vector<AskRequest> unknown;
  for (const AskRequest& request : requests)
    if (!known_.contains({request_key(request), max_tokens})) unknown.push_back(request);
  const auto made = generate_answers(model_, unknown, {}, max_tokens, reporter);
  for (size_t i = 0; i < unknown.size(); ++i)
    known_[{request_key(unknown[i]), max_tokens}] = made[i];
  std::vector<std::string> out;
  for (const AskRequest& request : requests)
    out.push_back(known_.at({request_key(request), max_tokens}));
  return out;
}

bool is_finetuning(const std::string& method) {
  return method == "lora" || method == "full";
}

const std::vector<std::string>& desk_methods() {
  static const std::vector<std::string> names = {"accrete",  "value",    "note", "both", "lookup",
                                                 "context1", "context3", "lora", "full"};
  return names;
}

void teach_desk_method(const std::string& method, const DeskSetting& setting,
                       std::span<const int64_t> epochs, const DeskParts& parts,
                       const Reporter& reporter,
                       const std::function<void(DeskMethod&, int64_t)>& use) {
  if (is_finetuning(method)) {
    teach_finetuning(method, setting, epochs, parts, reporter, use);
    return;
  }
  std::unique_ptr<DeskMethod> taught;
  if (method == "accrete")
    taught = std::make_unique<FactMethod>(parts, std::nullopt, false, reporter);
  else if (method == "value" || method == "note" || method == "both")
    taught = std::make_unique<FactMethod>(parts, parse_tell(method), false, reporter);
  else if (method == "lookup")
    taught = std::make_unique<FactMethod>(parts, std::nullopt, true, reporter);
  else if (method == "context1" || method == "context3")
    taught = std::make_unique<ContextMethod>(parts, method == "context1" ? 1 : 3, reporter);
  else
    throw Error(ErrorCode::kInvalidArgument, accrete::format("there is no method \"{}\"", method),
                accrete::format("use of: {}", accrete::joined(desk_methods(), ", ")));
  use(*taught, 0);
}

}  // namespace accrete
