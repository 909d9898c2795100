#include "model/reader.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/safetensors.h"
#include "model/bert.h"
#include "model/reader_config.h"
#include "text/wordpiece.h"

namespace accrete {
namespace {

constexpr int64_t kMostAtOnce = 2000, kLeastAtOnce = 64;  // tokens of a pass

// The header of a safetensors file, and its size: what a digest covers of it beside the tensors.
void add_header(const std::filesystem::path& file, Sha256& sha) {
  constexpr size_t kLengthBytes = 8;
  std::ifstream in(file, std::ios::binary);
  const auto next = [&](size_t n) {
    std::string bytes(n, '\0');
    if (!in.read(bytes.data(), static_cast<std::streamsize>(n)))
      throw Error(ErrorCode::kIo, accrete::format("cannot read {}", file.string()),
                  "was the file changed a moment ago? try again");
    return bytes;
  };
  uint64_t length = 0;
  const std::string start = next(kLengthBytes);
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<uint8_t>(start[i]);
  const uint64_t size = std::filesystem::file_size(file);
  sha.update(accrete::format("weights {} {}\n", size, length)).update(next(std::min(length, size)));
}

void add_configuration(const ReaderConfig& c, Sha256& sha) {
  for (const auto& [name, text] : {std::pair("config", &c.config_json),
                                   {"tokenizer", &c.tokenizer_json},
                                   {"pooling", &c.pooling_json},
                                   {"adapter", &c.adapter_json},
                                   {"cross_encoder", &c.cross_json},
                                   {"passage_encoder", &c.passage_json},
                                   {"acceptance", &c.acceptance_json}}) {
    // A folder without the later ones keeps the digest that it had before there were any.
    if (text->empty() && text != &c.config_json && text != &c.tokenizer_json &&
        text != &c.pooling_json)
      continue;
    sha.update(accrete::format("{} {}\n", name, text->size())).update(*text);
  }
}

constexpr const char* kAdapter = "adapter/adapter_model.safetensors";
constexpr const char* kCross = "cross_encoder/adapter_model.safetensors";
constexpr const char* kPassages = "passage_encoder/adapter_model.safetensors";

using Adapter = std::optional<SafetensorsFile>;

Adapter adapter_in(const std::filesystem::path& file, const std::string& config) {
  return config.empty() ? std::nullopt : Adapter(SafetensorsFile::open(file));
}

// Of each file its header, of each tensor both ends or (`every_byte`) all.
std::string digest_of(const std::filesystem::path& folder, const ReaderConfig& c,
                      const ShardedSafetensors& files, const Adapter& adapter, const Adapter& cross,
                      const Adapter& passages, bool every_byte) {
  constexpr size_t kEnd = 256;
  Sha256 sha;
  add_configuration(c, sha);
  const auto add = [&](const TensorView& tensor) {
    if (every_byte) {
      sha.update(tensor.bytes);
      return;
    }
    const size_t n = std::min(kEnd, tensor.bytes.size());
    sha.update(tensor.bytes.first(n)).update(tensor.bytes.last(n));
  };
  for (const auto& file : files.files()) add_header(file, sha);
  for (const TensorView* tensor : files.tensors()) add(*tensor);
  for (const auto& [file, name] :
       {std::pair(&adapter, kAdapter), {&cross, kCross}, {&passages, kPassages}}) {
    if (!*file) continue;
    add_header(folder / name, sha);
    for (const TensorView& tensor : (*file)->tensors()) add(tensor);
  }
  return sha.hex();
}

// What reads two texts as one: the encoder's blocks with an adapter of their own, and a head over
// the mean of the first text's tokens and that of the second's.
struct CrossEncoder {
  std::vector<bert::Block> blocks;
  at::Tensor head;  // [1, 2 width]
  double bias = 0;
  // [1, width] or none: the second mean is weighed by the softmax of what this says of each token.
  at::Tensor pool;
};

// Two texts as one, [CLS] first [SEP] second [SEP].
struct TokenPairs {
  std::vector<std::vector<int32_t>> ids;
  std::vector<int64_t> second;  // of each the first token of the second text
};
struct ReadTogether {
  double log_odds = 0;
  std::vector<double> weights;  // of the second text's tokens, their sum 1
};

}  // namespace

struct Reader::Impl {
  Impl(const std::filesystem::path& folder, ReaderConfig read);

  std::optional<CrossEncoder> cross_encoder(const bert::Loader& loader, const Adapter& file,
                                            double scale, bool pools) const;
  std::vector<ReadTogether> judge(const CrossEncoder& with, const TokenPairs& pairs) const;
  void pool(const at::Tensor& h, const bert::Rows& rows, const int64_t* order, bool words_only,
            float* out) const;

  std::string folder;
  ReaderConfig config;
  WordPiece tokenizer;
  ShardedSafetensors files;
  Adapter adapter, cross_file, passage_file;
  std::string digest;
  int64_t max_tokens = 0;
  bert::Embeddings embeddings;
  std::vector<bert::Block> blocks;
  std::optional<CrossEncoder> cross, passages;  // of questions and facts, and passages
  std::vector<int32_t> border;                  // the tokens between two wordings
};

Reader::Impl::Impl(const std::filesystem::path& path, ReaderConfig read)
    : folder(path.string()),
      config(std::move(read)),
      tokenizer(WordPiece::parse(config.tokenizer_json, (path / "tokenizer.json").string())),
      files(ShardedSafetensors::open(path)),
      adapter(adapter_in(path / kAdapter, config.adapter_json)),
      cross_file(adapter_in(path / kCross, config.cross_json)),
      passage_file(adapter_in(path / kPassages, config.passage_json)),
      digest(digest_of(path, config, files, adapter, cross_file, passage_file,
                       /*every_byte=*/false)) {
  const ReaderConfig& c = config;
  if (tokenizer.vocab_size() > c.vocab_size)
    throw Error(ErrorCode::kFormat,
                accrete::format("{}: the tokenizer has {} tokens, config.json {}", folder,
                                tokenizer.vocab_size(), c.vocab_size),
                "the two files belong to different models; fetch both again");
  constexpr int64_t kMost = 512;
  max_tokens = std::min({tokenizer.max_length().value_or(kMost), kMost, c.max_positions});
  if (tokenizer.encode("", kMost).size() > static_cast<size_t>(max_tokens))
    throw Error(
        ErrorCode::kFormat,
        accrete::format("{}: its {} tokens have no room for the special ones", folder, max_tokens),
        "correct \"truncation\" in tokenizer.json, or fetch the folder again");

  const bool prefixed = files.find("embeddings.word_embeddings.weight") == nullptr &&
                        files.find("bert.embeddings.word_embeddings.weight") != nullptr;
  const bert::Loader loader{files, folder, prefixed ? "bert." : ""};
  embeddings = {loader.mapped("embeddings.word_embeddings.weight", {c.vocab_size, c.width}),
                loader.get("embeddings.position_embeddings.weight", {c.max_positions, c.width}),
                loader.get("embeddings.token_type_embeddings.weight", {c.types, c.width}),
                bert::LayerNorm(loader, "embeddings.LayerNorm", c)};
  blocks = bert::blocks(loader, c, adapter, c.adapter_scale, {});
  cross = cross_encoder(loader, cross_file, c.cross_scale, /*pools=*/false);
  passages = cross_encoder(loader, passage_file, c.passage_scale, /*pools=*/true);
  const auto slash = tokenizer.encode("/", max_tokens);
  border.assign(slash.begin() + 1, slash.end() - 1);
}

std::optional<CrossEncoder> Reader::Impl::cross_encoder(const bert::Loader& loader,
                                                        const Adapter& file, double scale,
                                                        bool pools) const {
  if (!file) return {};
  std::vector<std::string> own = {"head.weight", "head.bias"};
  if (pools) own.emplace_back("pool.weight");
  CrossEncoder out;
  out.blocks = bert::blocks(loader, config, file, scale, own);
  const auto part = [&](const std::string& name, const std::vector<int64_t>& shape) {
    const TensorView* view = file->find(name);
    if (view == nullptr || view->shape != shape)
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the {} encoder has no `{}` of shape [{}]", folder,
                                  pools ? "passage" : "cross", name, accrete::joined(shape, ", ")),
                  "fetch the reader again");
    return bert::mapped_tensor(*view, folder).to(at::kFloat);
  };
  out.head = part(own[0], {1, 2 * config.width});
  out.bias = part(own[1], {1}).item<double>();
  if (pools) out.pool = part(own[2], {1, config.width});
  return out;
}

// The rows of `out` that `order` names, one for each text of `rows`.
void Reader::Impl::pool(const at::Tensor& h, const bert::Rows& rows, const int64_t* order,
                        bool words_only, float* out) const {
  const int64_t width = config.width;
  const float* row = h.const_data_ptr<float>();
  std::vector<double> sum(static_cast<size_t>(width));
  for (const bert::Rows::Group& group : rows.groups) {
    for (int64_t text = 0; text < group.texts; ++text, ++order, row += group.tokens * width) {
      std::fill(sum.begin(), sum.end(), 0.0);
      const bool inner = words_only && !config.pool_first && group.tokens > 2;
      for (int64_t t = inner; t < (config.pool_first ? 1 : group.tokens - inner); ++t)
        for (int64_t i = 0; i < width; ++i) sum[static_cast<size_t>(i)] += row[t * width + i];
      const double norm = std::sqrt(std::inner_product(sum.begin(), sum.end(), sum.begin(), 0.0));
      if (!std::isfinite(norm) || norm == 0)
        throw Error(ErrorCode::kFormat,
                    accrete::format("{}: the reader's vectors are not finite", folder),
                    "its weights are damaged; fetch it again");
      for (int64_t i = 0; i < width; ++i)
        out[*order * width + i] = static_cast<float>(sum[static_cast<size_t>(i)] / norm);
    }
  }
}

int32_t Reader::word_id(std::string_view word) const {
  return impl_->tokenizer.word_id(word);
}

const AcceptanceRule& Reader::acceptance() const {
  return impl_->config.acceptance;
}

Reader Reader::open(const std::filesystem::path& folder) {
  Reader reader;
  reader.impl_ = std::make_shared<const Impl>(folder, ReaderConfig::from_folder(folder));
  return reader;
}

int64_t Reader::width() const {
  return impl_->config.width;
}

int64_t Reader::max_tokens() const {
  return impl_->max_tokens;
}

const std::string& Reader::digest() const {
  return impl_->digest;
}

std::string Reader::full_digest() const {
  return digest_of(impl_->folder, impl_->config, impl_->files, impl_->adapter, impl_->cross_file,
                   impl_->passage_file, /*every_byte=*/true);
}

namespace {

// Sequences of tokens by length, in parts of as many tokens as are passed at once. Each part goes
// to `pass(order)`: the indices of its sequences.
template <typename Pass>
void in_parts(const std::vector<std::vector<int32_t>>& ids, const Pass& pass) {
  const auto length = [&](int64_t i) { return ids[static_cast<size_t>(i)].size(); };
  std::vector<int64_t> order(ids.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length(a) < length(b); });
  // As many texts at once as fit, and where there are many tokens at least so many parts as
  // threads.
  const int64_t tokens = std::accumulate(
      ids.begin(), ids.end(), int64_t{0},
      [](int64_t sum, const auto& text) { return sum + static_cast<int64_t>(text.size()); });
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const auto at_once = static_cast<size_t>(std::clamp(tokens / threads, kLeastAtOnce, kMostAtOnce));
  std::vector<size_t> begins = {0};
  size_t held = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (held > 0 && held + length(order[i]) > at_once) {
      begins.push_back(i);
      held = 0;
    }
    held += length(order[i]);
  }
  begins.push_back(order.size());
  const auto pass_part = [&](int64_t part) {
    const size_t begin = begins[static_cast<size_t>(part)];
    pass(std::span(order).subspan(begin, begins[static_cast<size_t>(part) + 1] - begin));
  };
  const auto parts = static_cast<int64_t>(begins.size()) - 1;
  if (parts == 1) {  // threads share its products
    pass_part(0);
  } else {
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      const at::NoGradGuard no_grad_here;
      for (int64_t part = first; part < last; ++part) pass_part(part);
    });
  }
}

}  // namespace

at::Tensor Reader::read(std::span<const std::string> texts, bool words_only) const {
  const at::NoGradGuard no_grad;
  const auto n = static_cast<int64_t>(texts.size());
  at::Tensor out = at::empty({n, width()}, at::kFloat);
  if (n == 0) return out;
  // Facts of one kind share masked wordings and answers: equal texts are read once and copied.
  std::unordered_map<std::string_view, size_t> first;
  std::vector<std::vector<int32_t>> ids;
  std::vector<int64_t> places;                      // of each of `ids`
  std::vector<std::pair<int64_t, int64_t>> copies;  // from, to
  for (int64_t i = 0; i < n; ++i) {
    const std::string& text = texts[static_cast<size_t>(i)];
    const auto [it, fresh] = first.try_emplace(text, ids.size());
    if (fresh) {
      ids.push_back(impl_->tokenizer.encode(text, impl_->max_tokens));
      places.push_back(i);
    } else {
      copies.emplace_back(places[it->second], i);
    }
  }
  auto* vectors = out.mutable_data_ptr<float>();
  in_parts(ids, [&](std::span<const int64_t> order) {
    bert::Rows rows;
    std::vector<int64_t> to;
    for (const int64_t i : order) {
      const auto& text = ids[static_cast<size_t>(i)];
      rows.add(text, static_cast<int64_t>(text.size()));
      to.push_back(places[static_cast<size_t>(i)]);
    }
    impl_->pool(bert::pass(impl_->embeddings, impl_->blocks, impl_->config, rows), rows, to.data(),
                words_only, vectors);
  });
  for (const auto& [from, to] : copies)
    std::copy_n(vectors + from * width(), width(), vectors + to * width());
  return out;
}

std::vector<ReadTogether> Reader::Impl::judge(const CrossEncoder& with,
                                              const TokenPairs& pairs) const {
  std::vector<ReadTogether> out(pairs.ids.size());
  if (out.empty()) return out;
  const int64_t width = config.width;
  const float* head = with.head.const_data_ptr<float>();
  const float* pool = with.pool.defined() ? with.pool.const_data_ptr<float>() : nullptr;
  in_parts(pairs.ids, [&](std::span<const int64_t> order) {
    bert::Rows rows;
    for (const int64_t i : order)
      rows.add(pairs.ids[static_cast<size_t>(i)], pairs.second[static_cast<size_t>(i)]);
    const at::Tensor h = bert::pass(embeddings, with.blocks, config, rows);
    const float* row = h.const_data_ptr<float>();
    std::vector<double> weights;
    for (const int64_t i : order) {
      const auto tokens = static_cast<int64_t>(pairs.ids[static_cast<size_t>(i)].size());
      const int64_t border = pairs.second[static_cast<size_t>(i)];
      ReadTogether& one = out[static_cast<size_t>(i)];
      const auto product = [&](int64_t token, const float* by) {
        double sum = 0;
        for (int64_t k = 0; k < width; ++k) sum += double{row[token * width + k]} * by[k];
        return sum;
      };
      double first = 0, second = 0, total = 0;
      for (int64_t t = 1; t < border - 1; ++t) first += product(t, head);
      first /= static_cast<double>(std::max<int64_t>(border - 2, 1));
      const int64_t last = tokens - 1;  // the end mark
      weights.assign(static_cast<size_t>(std::max<int64_t>(last - border, 0)), 1);
      if (pool != nullptr && last > border) {
        for (int64_t t = border; t < last; ++t)
          weights[static_cast<size_t>(t - border)] = product(t, pool);
        const double top = *std::max_element(weights.begin(), weights.end());
        for (double& w : weights) w = std::exp(w - top);
      }
      for (int64_t t = border; t < last; ++t) {
        const double w = weights[static_cast<size_t>(t - border)];
        second += w * product(t, head + width);
        total += w;
      }
      one.log_odds = with.bias + first + (total > 0 ? second / total : 0);
      for (double& w : weights) w /= total;
      one.weights = weights;
      if (!std::isfinite(one.log_odds))
        throw Error(ErrorCode::kFormat,
                    accrete::format("{}: the cross-encoder's results are not finite", folder),
                    "its weights are damaged; fetch it again");
      row += tokens * width;
    }
  });
  return out;
}

bool Reader::has_cross_encoder() const {
  return impl_->cross.has_value();
}

bool Reader::has_passage_encoder() const {
  return impl_->passages.has_value();
}

namespace {

constexpr int64_t kQuestionTokens = 40;  // of a pair that are read

void append_tokens(const WordPiece& tokenizer, const std::string& text, int64_t most,
                   std::vector<int32_t>& to) {
  const auto tokens = tokenizer.encode(text, most + 2);
  to.insert(to.end(), tokens.begin() + 1, tokens.end() - 1);
}

void no_encoder(const std::string& folder, const char* what) {
  throw Error(ErrorCode::kUnsupported,
              accrete::format("{}: this reader has no {} encoder", folder, what),
              "use one that has");
}

}  // namespace

std::vector<double> Reader::judge(std::span<const ReadPair> pairs) const {
  constexpr int64_t kWording = 32, kAnswer = 16;  // tokens that are read
  const at::NoGradGuard no_grad;
  if (!has_cross_encoder()) no_encoder(impl_->folder, "cross");
  TokenPairs read;
  for (const ReadPair& pair : pairs) {
    auto& to = read.ids.emplace_back(impl_->tokenizer.encode(
        pair.question, std::min(kQuestionTokens + 2, impl_->max_tokens / 2)));
    read.second.push_back(static_cast<int64_t>(to.size()));
    const int32_t end = to.back();
    for (size_t i = 0; i < pair.wordings.size(); ++i) {
      if (i > 0) to.insert(to.end(), impl_->border.begin(), impl_->border.end());
      append_tokens(impl_->tokenizer, pair.wordings[i], kWording, to);
    }
    to.push_back(end);
    append_tokens(impl_->tokenizer, pair.answer, kAnswer, to);
    to.resize(std::min(to.size(), static_cast<size_t>(impl_->max_tokens) - 1));
    to.push_back(end);
  }
  std::vector<double> out;
  for (const ReadTogether& one : impl_->judge(*impl_->cross, read)) out.push_back(one.log_odds);
  return out;
}

std::vector<ReadPassageResult> Reader::judge(std::span<const ReadPassage> passages) const {
  constexpr int64_t kSection = 24, kTokens = 256;  // that are read, of the headings and of all
  const at::NoGradGuard no_grad;
  if (!has_passage_encoder()) no_encoder(impl_->folder, "passage");
  const int64_t most = std::min(kTokens, impl_->config.max_positions);
  TokenPairs read;
  std::vector<std::vector<int64_t>> begins;  // of each passage's pieces, and their end
  for (const ReadPassage& passage : passages) {
    auto& to = read.ids.emplace_back(
        impl_->tokenizer.encode(passage.question, std::min(kQuestionTokens + 2, most / 2)));
    read.second.push_back(static_cast<int64_t>(to.size()));
    const int32_t end = to.back();
    append_tokens(impl_->tokenizer, passage.section, kSection, to);
    to.insert(to.end(), impl_->border.begin(), impl_->border.end());
    auto& begin = begins.emplace_back();
    for (const std::string& piece : passage.pieces) {
      begin.push_back(static_cast<int64_t>(to.size()));
      append_tokens(impl_->tokenizer, piece, most, to);
    }
    begin.push_back(static_cast<int64_t>(to.size()));
    to.resize(std::min(to.size(), static_cast<size_t>(most) - 1));
    to.push_back(end);
  }
  std::vector<ReadPassageResult> out;
  for (const ReadTogether& one : impl_->judge(*impl_->passages, read)) {
    constexpr double kNothing = 1e-9;
    const auto& begin = begins[out.size()];
    const int64_t second = read.second[out.size()];
    ReadPassageResult& result = out.emplace_back();
    result.log_odds = one.log_odds;
    const auto weight = [&](int64_t token) {
      const auto at = static_cast<size_t>(token - second);
      return at < one.weights.size() ? one.weights[at] : 0;
    };
    for (size_t p = 0; p + 1 < begin.size(); ++p) {
      double sum = kNothing;
      for (int64_t t = begin[p]; t < begin[p + 1]; ++t) sum += weight(t);
      result.pieces.push_back(std::log(sum));
    }
  }
  return out;
}

}  // namespace accrete
