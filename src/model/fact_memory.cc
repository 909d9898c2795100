#include "model/fact_memory.h"

#include <ATen/ATen.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "model/memory_files.h"

namespace accrete {

namespace fs = std::filesystem;

std::string tell_name(Tell tell) {
  switch (tell) {
    case Tell::kNote:
      return "note";
    case Tell::kBoth:
      return "both";
    case Tell::kValue:
      break;
  }
  return "value";
}

Tell parse_tell(const std::string& name) {
  for (const Tell tell : {Tell::kValue, Tell::kNote, Tell::kBoth})
    if (tell_name(tell) == name) return tell;
  throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is no way to tell a fact", name),
              "use value, note or both");
}

void save_fact_memory(const fs::path& folder, const FactMemoryInfo& info,
                      const nlohmann::json& more) {
  nlohmann::json json = more;
  json["version"] = 2;
  json["kind"] = "questions";
  json["block"] = info.sites.block;
  json["at_end"] = info.sites.at_end;
  json["every"] = info.sites.every;
  json["tell"] = tell_name(info.tell);
  json["caution"] = info.caution;
  json["reader_digest"] = info.reader_digest;
  write_file_atomically(folder / "accrete" / "memory.json", json.dump(2) + "\n");
}

bool has_fact_memory(const fs::path& folder) {
  return has_memory_files(folder) &&
         load_memory_info(folder).value("kind", std::string()) == "questions";
}

FactMemoryInfo load_fact_memory_info(const fs::path& folder, int64_t blocks) {
  const auto json = load_memory_info(folder);
  FactMemoryInfo info;
  try {
    info.sites.block = json.at("block").get<int64_t>();
    info.sites.at_end = json.at("at_end").get<int64_t>();
    info.sites.every = json.at("every").get<int64_t>();
    info.tell = parse_tell(json.at("tell").get<std::string>());
    info.caution = json.at("caution").get<double>();
    info.reader_digest = json.at("reader_digest").get<std::string>();
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: {}", (folder / "accrete" / "memory.json").string(), e.what()),
                "run `accrete retrofit` again into a new folder");
  }
  if (info.sites.block < 0 || info.sites.block >= blocks - 1 || info.sites.at_end < 1 ||
      info.sites.every < 1)
    throw Error(
        ErrorCode::kFormat,
        accrete::format("{}: block {} is not possible in a model of {}",
                        (folder / "accrete" / "memory.json").string(), info.sites.block, blocks),
        "run `accrete retrofit` again into a new folder");
  return info;
}

struct FactMemory::LazyReader {
  std::once_flag once;
  std::optional<Reader> reader;
};

FactMemory::FactMemory(fs::path folder, FactMemoryInfo info)
    : folder_(std::move(folder)),
      info_(std::move(info)),
      reader_(std::make_shared<LazyReader>()),
      store_(std::make_shared<const FactStore>()) {}

FactMemory FactMemory::with(FactStore store) const {
  FactMemory out = *this;
  out.store_ = std::make_shared<const FactStore>(std::move(store));
  return out;
}

FactMemory FactMemory::overlaid(FactStore own) const {
  FactMemory out = with(std::move(own));
  out.shared_ = store_;
  return out;
}

FactMemory FactMemory::alone() const {
  FactMemory out = *this;
  out.shared_ = nullptr;
  return out;
}

FactMemory FactMemory::beneath() const {
  FactMemory out = *this;
  out.store_ = shared_ ? shared_ : std::make_shared<const FactStore>();
  out.shared_ = nullptr;
  return out;
}

FactMemory FactMemory::untaught() const {
  return alone().with(FactStore());
}

int64_t FactMemory::size() const {
  return store_->size() + (shared_ ? shared_->size() : 0);
}

const StoredFact& FactMemory::fact(int64_t i) const {
  return is_shared(i) ? shared_->fact(i - store_->size()) : store_->fact(i);
}

FactMemory FactMemory::plus(const std::string& update_id, Update update) const {
  return with(store_->with(update_id, std::make_shared<const Update>(std::move(update))));
}

FactStore load_facts(const Ledger& ledger, std::span<const UpdateRecord> active) {
  std::vector<FactStore::Named> updates;
  for (const UpdateRecord& record : active)
    updates.emplace_back(record.id, std::make_shared<const Update>(ledger.load(record.id)));
  return FactStore::of(updates);
}

const Reader& FactMemory::reader() const {
  std::call_once(reader_->once, [this] {
    Reader reader = Reader::open(folder_ / "accrete" / "reader");
    if (reader.digest() != info_.reader_digest)
      throw Error(ErrorCode::kConflict,
                  accrete::format("{} is not the reader that made this model's keys",
                                  (folder_ / "accrete" / "reader").string()),
                  "put the reader that `accrete retrofit` copied there back, or retrofit anew "
                  "and teach again");
    reader_->reader.emplace(std::move(reader));
  });
  return *reader_->reader;
}

namespace {

// The facts of a choice by their numbers in a memory that has `by` others before them.
void renumber(Choice& choice, int64_t by) {
  const auto shift = [by](int64_t& fact) {
    if (fact >= 0) fact += by;
  };
  for (int64_t* fact : {&choice.fact, &choice.best.fact, &choice.runner_up.fact, &choice.left_to})
    shift(*fact);
  for (Candidate& other : choice.also) shift(other.fact);
  for (int64_t& fact : choice.about) shift(fact);
  for (PassageChoice& passage : choice.passages) shift(passage.fact);
  if (choice.best_passage) shift(choice.best_passage->fact);
}

// What answers a question that no own fact does: what the shared store says, but for own passages
// where that has only passages or nothing.
Choice with_beneath(Choice own, Choice shared) {
  const bool shared_decides = shared.fact >= 0 || !shared.about.empty() || shared.left;
  if (!own.passages.empty() && !shared_decides) return own;
  if (shared.best.fact < 0 && own.best.fact >= 0) {  // for explanations
    shared.best = own.best;
    shared.runner_up = own.runner_up;
    shared.needed = own.needed;
    shared.read = std::move(own.read);
  }
  if (!shared.best_passage) shared.best_passage = own.best_passage;
  return shared;
}

}  // namespace

std::vector<Choice> FactMemory::choose(std::span<const Question> questions,
                                       double more_caution) const {
  const double caution = info_.caution + more_caution;
  std::vector<Choice> out = choose_in(*store_, questions, caution);
  if (!shared_) return out;
  std::vector<Question> rest;
  std::vector<size_t> of;
  for (size_t i = 0; i < questions.size(); ++i) {
    if (out[i].fact >= 0 || !out[i].about.empty()) continue;
    rest.push_back(questions[i]);
    of.push_back(i);
  }
  if (rest.empty()) return out;
  std::vector<Choice> beneath = choose_in(*shared_, rest, caution);
  for (size_t k = 0; k < of.size(); ++k) {
    renumber(beneath[k], store_->size());
    out[of[k]] = with_beneath(std::move(out[of[k]]), std::move(beneath[k]));
  }
  return out;
}

std::vector<Choice> FactMemory::choose_in(const FactStore& store,
                                          std::span<const Question> questions,
                                          double caution) const {
  std::vector<Choice> out(questions.size());
  if (store.empty()) return out;
  std::vector<Reading> readings;
  std::vector<size_t> begin;
  for (const Question& question : questions) {
    begin.push_back(readings.size());
    for (Reading& reading : readings_of(question)) readings.push_back(std::move(reading));
  }
  begin.push_back(readings.size());
  const std::vector<Choice> choices = choose_each(store, readings, caution);
  for (size_t i = 0; i < questions.size(); ++i) {
    const size_t n = begin[i + 1] - begin[i];
    out[i] = decided_by(std::span(readings).subspan(begin[i], n),
                        std::span(choices).subspan(begin[i], n));
    // A model that reads is told all of them, and says what is asked for.
    if (info_.tell == Tell::kValue) continue;
    auto& about = out[i].about;
    for (size_t k = out[i].also.size(); k-- > 0;) {
      std::erase(about, out[i].also[k].fact);
      about.insert(about.begin(), out[i].also[k].fact);
    }
  }
  return out;
}

// Each for itself.
std::vector<Choice> FactMemory::choose_each(const FactStore& store,
                                            std::span<const Reading> questions,
                                            double caution) const {
  std::vector<Choice> out(questions.size());
  std::vector<FactStore::Asked> asked;
  std::vector<std::string> texts;
  std::vector<size_t> begin;
  const Reader& read = reader();
  const Vocabulary vocabulary = [&read](std::string_view word) { return read.word_id(word); };
  for (const Reading& reading : questions) {
    asked.push_back(store.read(reading.question, vocabulary));
    begin.push_back(texts.size());
    texts.insert(texts.end(), asked.back().texts.begin(), asked.back().texts.end());
    texts.insert(texts.end(), asked.back().passage_texts.begin(), asked.back().passage_texts.end());
  }
  if (texts.empty()) return out;
  const auto vectors = read.read(texts, /*words_only=*/true).contiguous();
  const int64_t width = vectors.size(1);
  if (width != store.key_width())
    throw Error(ErrorCode::kConflict, "the reader's width is not that of the keys",
                "retrofit anew and teach again");
  std::vector<std::vector<Evidence>> evidence;
  std::vector<ReadPair> pairs;
  std::vector<Evidence*> judged;
  for (size_t i = 0; i < questions.size(); ++i)
    evidence.push_back(store.weigh(
        asked[i], vectors.const_data_ptr<float>() + static_cast<int64_t>(begin[i]) * width));
  for (size_t i = 0; i < questions.size(); ++i)
    for (const size_t e : to_judge(evidence[i], read.acceptance(), caution)) {
      judged.push_back(&evidence[i][e]);
      pairs.push_back(store.pair(asked[i], evidence[i][e]));
    }
  if (!pairs.empty()) {
    const std::vector<double> odds = read.judge(pairs);
    for (size_t k = 0; k < judged.size(); ++k) judged[k]->cross = odds[k];
  }
  std::vector<std::vector<PassageEvidence>> passages(questions.size());
  std::vector<ReadPassage> together;
  std::vector<PassageEvidence*> read_of;
  for (size_t i = 0; i < questions.size(); ++i) {
    out[i] = store.decide(asked[i], evidence[i], read.acceptance(), caution);
    if (info_.tell != Tell::kValue) store.decide_about(asked[i], evidence[i], out[i]);
    if (asked[i].passage_texts.empty()) continue;
    const auto first = static_cast<int64_t>(begin[i] + asked[i].texts.size());
    passages[i] = store.weigh_passages(asked[i], vectors.const_data_ptr<float>() + first * width);
    // An accepted fact comes before every passage.
    if (out[i].fact >= 0 || out[i].left || !read.has_passage_encoder()) continue;
    for (size_t k = 0; k < passages_to_read(passages[i]); ++k) {
      together.push_back(store.read_passage(asked[i], passages[i][k]));
      read_of.push_back(&passages[i][k]);
    }
  }
  if (!together.empty()) {
    const auto said = read.judge(together);
    for (size_t k = 0; k < said.size(); ++k) {
      read_of[k]->read = said[k].log_odds;
      read_of[k]->piece = answering_piece(together[k].question, together[k].pieces, said[k].pieces);
    }
  }
  for (size_t i = 0; i < questions.size(); ++i)
    if (!passages[i].empty()) store.decide_passages(std::move(passages[i]), caution, out[i]);
  return out;
}

at::Tensor FactMemory::vectors(int64_t fact) const {
  const StoredFact& f = this->fact(fact);
  const UpdateFacts& facts = f.update->facts;
  if (f.vectors() == 0) return {};
  return at::from_blob(const_cast<uint16_t*>(facts.values.data() + f.first_vector * facts.width),
                       {f.vectors(), facts.width}, at::kBFloat16)
      .to(at::kFloat);
}

}  // namespace accrete
