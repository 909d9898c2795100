#include "learn/documents.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "text/passages.h"
#include "text/wording.h"

namespace accrete {
namespace {

std::string source_of(const Dataset& data, const Item& item) {
  if (!item.source.empty()) return item.source;
  return accrete::format("{}:{}", data.path.generic_string(), item.line);
}

// Of a file that is one text by its bytes, else by the texts.
std::string digest_of(const std::vector<const Item*>& texts) {
  if (texts.size() == 1 && !texts.front()->digest.empty()) return texts.front()->digest;
  std::string all;
  for (const Item* item : texts) all += item->title + "\n" + item->text + "\n";
  return sha256_hex(all);
}

// What stands over a document: its title, or of plain text what its file is called.
std::string title_of(const Item& item) {
  if (!item.title.empty() || item.markdown || item.source.empty()) return item.title;
  std::string name = std::filesystem::path(item.source).stem().string();
  for (char& c : name)
    if (c == '_' || c == '-') c = ' ';
  return name;
}

std::string under(const std::string& title, const std::string& section) {
  // Not twice where the first heading is the title.
  const std::string first = section.substr(0, section.find(" > "));
  if (title.empty() || name_key(first) == name_key(title)) return section;
  return section.empty() ? title : title + " > " + section;
}

// The innermost heading says what a sentence without a name is about.
std::string heading(const std::string& section) {
  const size_t at = section.rfind(" > ");
  return section.empty() ? "" : section.substr(at == std::string::npos ? 0 : at + 3) + ": ";
}

struct Known {
  std::string digest;
  std::vector<std::string> ids;
};
std::map<std::string, Known> known_documents(const FactStore& store) {
  std::map<std::string, Known> out;
  for (const int64_t i : store.passages()) {
    const StoredFact& fact = store.fact(i);
    Known& known = out[fact.text().document];
    known.digest = fact.text().document_digest;
    known.ids.push_back(fact.id);
  }
  return out;
}

}  // namespace

DocumentLessons make_document_lessons(const Dataset& data, const FactStore& store) {
  DocumentLessons out;
  out.remarks = data.remarks;
  const auto known = known_documents(store);
  // Texts that name the same source are one document.
  std::map<std::string, std::vector<const Item*>> by_source;
  std::vector<std::string> order;
  for (const Item& item : data.items) {
    if (item.kind != Item::Kind::kText) continue;
    auto& texts = by_source[source_of(data, item)];
    if (texts.empty()) order.push_back(source_of(data, item));
    texts.push_back(&item);
  }
  std::map<std::string, std::string> by_digest;
  for (const auto& [source, document] : known) by_digest[document.digest] = source;
  for (const std::string& source : order) {
    const auto& texts = by_source[source];
    const std::string digest = digest_of(texts);
    const auto before = known.find(source);
    if (before != known.end() && before->second.digest == digest) {
      ++out.unchanged;
      continue;
    }
    // The same text by another path or address would be told twice.
    if (const auto [twin, fresh] = by_digest.try_emplace(digest, source);
        !fresh && twin->second != source && before == known.end()) {
      out.remarks.push_back(
          accrete::format("{} is the same as {}, which is taught: left out", source, twin->second));
      ++out.unchanged;
      continue;
    }
    const size_t first = out.passages.size();
    std::set<std::string> ids;  // a passage that stands twice in a document is one
    for (const Item* item : texts) {
      PassageOptions how;
      // A file says by its name what it is; the text of a line of JSON does not.
      how.markdown = item->markdown || (item->digest.empty() && looks_like_markdown(item->text));
      const std::string title = title_of(*item);
      for (Passage& passage : split_passages(item->text, how)) {
        TaughtItem one;
        one.line = item->line;
        one.prompts = std::move(passage.pieces);
        one.document = source;
        one.document_digest = digest;
        one.section = under(title, passage.section);
        if (ids.insert(fact_id(one)).second) out.passages.push_back(std::move(one));
      }
    }
    if (out.passages.size() == first) {
      if (order.size() == 1)
        throw Error(ErrorCode::kInvalidArgument,
                    accrete::format("{}: there is no sentence in it", source),
                    "leave it out, or write what its headings stand over");
      out.remarks.push_back(accrete::format("{}: there is no sentence in it, left out", source));
      continue;
    }
    ++out.documents;
    if (before == known.end()) continue;
    ++out.replaced;
    out.passages[first].replaces = before->second.ids;
  }
  return out;
}

void append_passages(const Reader& reader, std::vector<TaughtItem> passages, Update& update,
                     const Reporter& reporter) {
  UpdateFacts& facts = update.facts;
  constexpr size_t kBatch = 64;  // passages at once
  for (size_t at = 0; at < passages.size(); at += kBatch) {
    const size_t end = std::min(passages.size(), at + kBatch);
    reporter.check_cancelled();
    reporter.report("read documents", static_cast<int64_t>(at),
                    static_cast<int64_t>(passages.size()));
    std::vector<std::string> texts;
    for (size_t i = at; i < end; ++i) {
      const std::string above = heading(passages[i].section);
      texts.push_back(above + joined_pieces(passages[i].prompts));
      for (const std::string& piece : passages[i].prompts)
        texts.push_back(above + piece_alone(piece));
    }
    const auto vectors = reader.read(texts, /*words_only=*/true).contiguous();
    const int64_t w = vectors.size(1);
    facts.key_width = w;
    const float* row = vectors.const_data_ptr<float>();
    std::vector<int8_t> key(static_cast<size_t>(w));
    for (size_t i = at; i < end; ++i) {
      facts.answer_scales.push_back(quantize_key(row, w, key.data()));
      facts.answers.insert(facts.answers.end(), key.begin(), key.end());
      row += w;
      for (size_t k = 0; k < passages[i].prompts.size(); ++k, row += w) {
        const float scale = quantize_key(row, w, key.data());
        facts.scales.insert(facts.scales.end(), {scale, scale});
        facts.whole.insert(facts.whole.end(), key.begin(), key.end());
        facts.masked.insert(facts.masked.end(), key.begin(), key.end());
      }
      facts.vectors.push_back(0);
      update.taught.items.push_back(std::move(passages[i]));
    }
  }
}

Update forget_source(const FactStore& store, const std::string& source,
                     std::vector<std::string>* documents) {
  TaughtItem item;
  item.document = source;
  // "./a.md" was taught as "a.md"; an address is as it is.
  std::string path = source;
  if (source.find("://") == std::string::npos)
    path = std::filesystem::path(source).lexically_normal().generic_string();
  const std::string below = path.ends_with('/') ? path : path + "/";
  std::set<std::string> sources;
  for (const auto& [name, known] : known_documents(store)) {
    sources.insert(name);
    if (name != source && name != path && !name.starts_with(below)) continue;
    item.replaces.insert(item.replaces.end(), known.ids.begin(), known.ids.end());
    if (documents != nullptr) documents->push_back(name);
  }
  if (item.replaces.empty()) {
    std::string there;
    for (const std::string& name : sources)
      if (there.size() < 200) there += (there.empty() ? "" : ", ") + name;
    throw Error(ErrorCode::kNotFound, accrete::format("no document was taught from {}", source),
                sources.empty() ? "`accrete log` shows what was taught"
                                : accrete::format("documents came from: {}", there));
  }
  Update out;
  out.taught.items.push_back(std::move(item));
  out.facts.vectors = {0};
  out.facts.key_width = store.key_width();
  out.facts.answers.assign(static_cast<size_t>(store.key_width()), 0);
  out.facts.answer_scales = {1};
  return out;
}

}  // namespace accrete
