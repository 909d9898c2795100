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

std::vector<Choice> FactMemory::choose(std::span<const Question> questions,
                                       double more_caution) const {
  std::vector<Choice> out(questions.size());
  if (store_->empty()) return out;
  std::vector<FactStore::Asked> asked;
  std::vector<std::string> texts;
  std::vector<size_t> begin;
  const Reader& read = reader();
  const Vocabulary vocabulary = [&read](std::string_view word) { return read.word_id(word); };
  for (const Question& question : questions) {
    asked.push_back(store_->read(question, vocabulary));
    begin.push_back(texts.size());
    texts.insert(texts.end(), asked.back().texts.begin(), asked.back().texts.end());
    texts.insert(texts.end(), asked.back().passage_texts.begin(), asked.back().passage_texts.end());
  }
  if (texts.empty()) return out;
  const auto vectors = read.read(texts, /*words_only=*/true).contiguous();
  const int64_t width = vectors.size(1);
  if (width != store_->key_width())
    throw Error(ErrorCode::kConflict, "the reader's width is not that of the keys",
                "retrofit anew and teach again");
  const double caution = info_.caution + more_caution;
  std::vector<std::vector<Evidence>> evidence;
  std::vector<ReadPair> pairs;
  std::vector<Evidence*> judged;
  for (size_t i = 0; i < questions.size(); ++i)
    evidence.push_back(store_->weigh(
        asked[i], vectors.const_data_ptr<float>() + static_cast<int64_t>(begin[i]) * width));
  for (size_t i = 0; i < questions.size(); ++i)
    for (const size_t e : to_judge(evidence[i], read.acceptance(), caution)) {
      judged.push_back(&evidence[i][e]);
      pairs.push_back(store_->pair(asked[i], evidence[i][e]));
    }
  if (!pairs.empty()) {
    const std::vector<double> odds = read.judge(pairs);
    for (size_t k = 0; k < judged.size(); ++k) judged[k]->cross = odds[k];
  }
  std::vector<std::vector<PassageEvidence>> passages(questions.size());
  std::vector<ReadPassage> together;
  std::vector<PassageEvidence*> read_of;
  for (size_t i = 0; i < questions.size(); ++i) {
    out[i] = store_->decide(asked[i], evidence[i], read.acceptance(), caution);
    if (info_.tell != Tell::kValue) store_->decide_about(asked[i], evidence[i], out[i]);
    if (asked[i].passage_texts.empty()) continue;
    const auto first = static_cast<int64_t>(begin[i] + asked[i].texts.size());
    passages[i] = store_->weigh_passages(asked[i], vectors.const_data_ptr<float>() + first * width);
    // An accepted fact comes before every passage.
    if (out[i].fact >= 0 || out[i].left || !read.has_passage_encoder()) continue;
    for (size_t k = 0; k < passages_to_read(passages[i]); ++k) {
      together.push_back(store_->read_passage(asked[i], passages[i][k]));
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
    if (!passages[i].empty()) store_->decide_passages(std::move(passages[i]), caution, out[i]);
  return out;
}

at::Tensor FactMemory::vectors(int64_t fact) const {
  const StoredFact& f = store_->fact(fact);
  const UpdateFacts& facts = f.update->facts;
  if (f.vectors() == 0) return {};
  return at::from_blob(const_cast<uint16_t*>(facts.values.data() + f.first_vector * facts.width),
                       {f.vectors(), facts.width}, at::kBFloat16)
      .to(at::kFloat);
}

}  // namespace accrete
