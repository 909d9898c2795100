#include "learn/pretrain/mixture.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/dataset_formats.h"

namespace accrete {
namespace {

std::vector<std::vector<int32_t>> encode_all(const Tokenizer& tokenizer,
                                             const std::vector<std::string>& documents,
                                             const std::string& name, const Reporter& reporter) {
  std::vector<std::vector<int32_t>> out(documents.size());
  // In pieces, so that it can be watched and stopped; special tokens written in a text are text.
  constexpr int64_t kPiece = 512;
  const auto count = static_cast<int64_t>(documents.size());
  for (int64_t first = 0; first < count; first += kPiece) {
    reporter.check_cancelled();
    const int64_t last = std::min(first + kPiece, count);
    at::parallel_for(first, last, 1, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        out[i] = tokenizer.encode(documents[i], /*parse_special=*/false);
    });
    reporter.report("read corpora", last, count, name);
  }
  return out;
}

// Documents of a corpus of facts: one for each taught phrasing of each fact.
std::vector<std::string> documents_of(const std::vector<Item>& facts) {
  std::vector<std::string> out;
  for (const Item& fact : facts)
    for (const std::string& prompt : fact.prompts)
      out.push_back(join_prompt(prompt, fact.answers.front()) + ".");
  return out;
}

// Some documents one after another, in windows, until there are enough tokens.
void hold_out(const std::vector<std::vector<int32_t>>& documents, std::span<const size_t> which,
              int32_t end_of_text, int64_t length, int64_t tokens,
              std::vector<std::vector<int32_t>>& out) {
  std::vector<int32_t> row;
  for (const size_t d : which) {
    if (static_cast<int64_t>(row.size()) > tokens + length) break;
    row.insert(row.end(), documents[d].begin(), documents[d].end());
    row.push_back(end_of_text);
  }
  const auto step = static_cast<std::ptrdiff_t>(length);
  for (auto at = row.begin(); row.end() - at >= step && tokens > 0; at += step, tokens -= step - 1)
    out.emplace_back(at, at + step);
}

std::string digest_of_text(const TrainingText& text) {
  Sha256 hash;
  for (const auto& corpus : text.corpora) {
    hash.update(
        accrete::format("{} {} {}\n", corpus.name, corpus.tokens.size(), corpus.ends.size()));
    hash.update(std::as_bytes(std::span(corpus.tokens)));
    hash.update(std::as_bytes(std::span(corpus.ends)));
  }
  for (const auto& window : text.held_out) hash.update(std::as_bytes(std::span(window)));
  return hash.hex();
}

}  // namespace

TrainingText TrainingText::read(const PretrainConfig& config, const Tokenizer& tokenizer,
                                int32_t end_of_text, const Reporter& reporter) {
  TrainingText out;
  const Rng rng = Rng(config.seed).split(10);
  const int64_t length = config.context + 1;
  const auto texts = std::count_if(config.corpora.begin(), config.corpora.end(),
                                   [](const auto& c) { return !c.facts; });
  for (size_t c = 0; c < config.corpora.size(); ++c) {
    const auto& source = config.corpora[c];
    Corpus corpus;
    corpus.name = source.file.filename().string();
    corpus.weight = source.weight;
    std::vector<std::string> documents;
    if (source.facts) {
      auto data = read_dataset(source.file);
      for (const Item& item : data.items)
        if (item.kind != Item::Kind::kFact)
          throw Error(ErrorCode::kFormat,
                      accrete::format("{}:{}: not a fact", source.file.string(), item.line),
                      "name other text under [[text]]");
      documents = documents_of(data.items);
      std::move(data.items.begin(), data.items.end(), std::back_inserter(out.facts));
    } else {
      documents = read_corpus(source.file);
    }
    const auto encoded = encode_all(tokenizer, documents, corpus.name, reporter);
    documents.clear();
    std::vector<size_t> order(encoded.size());
    std::iota(order.begin(), order.end(), size_t{0});
    size_t first = 0;
    if (!source.facts) {
      rng.split(c).shuffle(std::span(order));
      if (config.held_out > 0 && order.size() > 1)
        first = std::max<size_t>(
            1, static_cast<size_t>(config.held_out * static_cast<double>(order.size())));
      hold_out(encoded, std::span(order).first(first), end_of_text, length,
               config.held_out_tokens / texts, out.held_out);
    }
    for (size_t i = first; i < order.size(); ++i) {
      const auto& ids = encoded[order[i]];
      if (ids.empty()) continue;
      corpus.tokens.insert(corpus.tokens.end(), ids.begin(), ids.end());
      corpus.tokens.push_back(static_cast<uint16_t>(end_of_text));
      if (source.facts) corpus.ends.push_back(static_cast<int64_t>(corpus.tokens.size()));
    }
    if (source.facts ? corpus.ends.empty()
                     : static_cast<int64_t>(corpus.tokens.size()) < 2 * length)
      throw Error(ErrorCode::kInvalidArgument,
                  accrete::format("{} gives {} tokens to train on, too few for sequences of {}",
                                  source.file.string(), corpus.tokens.size(), length),
                  source.facts ? "facts need `prompts`; what is only asked is never trained on"
                               : "give more text, or a smaller `context`");
    out.tokens += static_cast<int64_t>(corpus.tokens.size());
    out.corpora.push_back(std::move(corpus));
  }
  out.digest = digest_of_text(out);
  return out;
}

Mixture::Mixture(const TrainingText& text, int64_t length, Rng rng)
    : text_(&text), length_(length), rng_(rng.split(0)) {
  double sum = 0;
  for (size_t c = 0; c < text.corpora.size(); ++c) {
    bounds_.push_back(sum += text.corpora[c].weight);
    places_.push_back({rng.split(c + 1), {}, 0, 0, 0});
  }
}

void Mixture::begin_pass(size_t c) {
  const auto& corpus = text_->corpora[c];
  Place& place = places_[c];
  Rng rng = place.rng.split(static_cast<uint64_t>(place.pass++));
  size_t count = corpus.ends.size();
  if (count == 0) {
    place.offset = static_cast<int64_t>(rng.below(static_cast<uint64_t>(length_ - 1)));
    // The last label of a sequence is the first token of the next one.
    count = static_cast<size_t>((static_cast<int64_t>(corpus.tokens.size()) - place.offset - 1) /
                                (length_ - 1));
  }
  place.order.resize(count);
  std::iota(place.order.begin(), place.order.end(), 0);
  rng.shuffle(std::span(place.order));
  place.at = 0;
}

std::vector<int32_t> Mixture::next() {
  const double drawn = static_cast<double>(rng_.uniform()) * bounds_.back();
  const auto c = static_cast<size_t>(std::min<std::ptrdiff_t>(
      std::upper_bound(bounds_.begin(), bounds_.end(), drawn) - bounds_.begin(),
      static_cast<std::ptrdiff_t>(bounds_.size()) - 1));
  const auto& corpus = text_->corpora[c];
  Place& place = places_[c];
  std::vector<int32_t> out;
  out.reserve(static_cast<size_t>(length_));
  if (corpus.ends.empty()) {
    if (place.at == place.order.size()) begin_pass(c);
    const auto begin = corpus.tokens.begin() + place.offset +
                       static_cast<int64_t>(place.order[place.at++]) * (length_ - 1);
    out.assign(begin, begin + length_);
    return out;
  }
  // Whole documents; the one that is cut off at the end comes again, first in the next sequence.
  const auto length = static_cast<size_t>(length_);
  while (out.size() < length) {
    if (place.at == place.order.size()) begin_pass(c);
    const auto d = static_cast<size_t>(place.order[place.at]);
    const int64_t begin = d == 0 ? 0 : corpus.ends[d - 1];
    for (int64_t t = begin; t < corpus.ends[d] && out.size() < length; ++t)
      out.push_back(corpus.tokens[static_cast<size_t>(t)]);
    const bool whole = static_cast<int64_t>(out.size()) < length_ ||
                       corpus.ends[d] - begin >= length_;  // too long for any sequence
    if (whole) ++place.at;
  }
  return out;
}

void Mixture::skip(int64_t sequences) {
  for (int64_t i = 0; i < sequences; ++i) next();
}

}  // namespace accrete
