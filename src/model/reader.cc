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
#include <vector>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "base/threads.h"
#include "io/safetensors.h"
#include "io/utf8.h"
#include "model/kernels/dense.h"
#include "model/reader_config.h"
#include "text/wordpiece.h"

namespace accrete {
namespace {

constexpr int64_t kMostAtOnce = 2000, kLeastAtOnce = 64;  // tokens of a pass

at::ScalarType float_type(const TensorView& view, const std::string& folder) {
  switch (view.dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      throw Error(
          ErrorCode::kUnsupported,
          accrete::format("{}: {} is of type {}", folder, shown(view.name), dtype_name(view.dtype)),
          "save the model as float32, float16 or bfloat16");
  }
}

// As it lies in the map: read-only.
at::Tensor mapped_tensor(const TensorView& view, const std::string& folder) {
  return at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape,
                       at::TensorOptions().dtype(float_type(view, folder)));
}

struct ReaderLoader {
  const ShardedSafetensors& files;
  const std::optional<SafetensorsFile>& adapter;
  double adapter_scale;
  std::string folder;
  std::string prefix;              // "bert." or nothing
  std::set<std::string>& adapted;  // names of the adapter that a layer took

  at::Tensor mapped(const std::string& name, const std::vector<int64_t>& shape) const {
    const TensorView* view = files.find(prefix + name);
    if (view == nullptr)
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the tensor `{}` is missing", folder, prefix + name),
                  "is the folder complete, and is it a sentence encoder's?");
    if (view->shape != shape)
      throw Error(
          ErrorCode::kFormat,
          accrete::format("{}: `{}` has shape [{}], config.json asks for [{}]", folder, view->name,
                          accrete::joined(view->shape, ", "), accrete::joined(shape, ", ")),
          "config.json and the weights belong to different models; fetch both again");
    return mapped_tensor(*view, folder);
  }
  at::Tensor get(const std::string& name, const std::vector<int64_t>& shape) const {
    return mapped(name, shape).to(at::kFloat);
  }

  // A factor of the adapter, [rows, columns] one of which is its rank; undefined: there is none.
  at::Tensor factor(const std::string& layer, const char* which, int64_t rows,
                    int64_t columns) const {
    const std::string name = accrete::format("base_model.model.{}.{}.weight", layer, which);
    const TensorView* view = adapter ? adapter->find(name) : nullptr;
    if (view == nullptr) return {};
    if (view->shape.size() != 2 || (rows > 0 && view->shape[0] != rows) ||
        (columns > 0 && view->shape[1] != columns))
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: `{}` of the adapter has shape [{}]", folder, name,
                                  accrete::joined(view->shape, ", ")),
                  "the adapter belongs to another model; fetch both again");
    adapted.insert(name);
    return mapped_tensor(*view, folder).to(at::kFloat);
  }
  // The weight of a linear layer, with what the adapter adds to it.
  at::Tensor weight(const std::string& layer, int64_t out, int64_t in) const {
    const at::Tensor own = get(layer + ".weight", {out, in});
    const at::Tensor a = factor(layer, "lora_A", 0, in), b = factor(layer, "lora_B", out, 0);
    if (!a.defined() && !b.defined()) return own;
    if (!a.defined() || !b.defined() || a.size(0) != b.size(1))
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the adapter's two factors of `{}` do not go together",
                                  folder, layer),
                  "fetch the adapter again");
    return at::addmm(own, b, a, 1, adapter_scale);
  }
};

// In place. Threads share the rows: whole ones, for the same results with any number of threads.
void activate(ReaderConfig::Activation activation, const at::Tensor& x) {
  at::parallel_for(0, x.size(0), 8, [&](int64_t begin, int64_t end) {
    at::Tensor part = x.narrow(0, begin, end - begin);
    switch (activation) {
      case ReaderConfig::Activation::kGelu:
        at::gelu_(part);
        break;
      case ReaderConfig::Activation::kGeluTanh:
        at::gelu_(part, "tanh");
        break;
      case ReaderConfig::Activation::kRelu:
        at::relu_(part);
        break;
    }
  });
}

struct Dense {
  at::Tensor weight, bias;  // [out, in], [out]

  Dense() = default;
  Dense(const ReaderLoader& loader, const std::string& name, int64_t out, int64_t in)
      : weight(loader.weight(name, out, in)), bias(loader.get(name + ".bias", {out})) {}

  at::Tensor operator()(const at::Tensor& x) const {
    constexpr int64_t kColumns = 64;  // threads share the columns, so many at a time
    const int64_t out = weight.size(0), parts = (out + kColumns - 1) / kColumns;
    at::Tensor y = at::empty({x.size(0), out}, x.options());
    float* to = y.mutable_data_ptr<float>();
    at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
      kernels::dense_product(x.const_data_ptr<float>(), x.size(0), x.size(1),
                             weight.const_data_ptr<float>(), bias.const_data_ptr<float>(), out,
                             begin * kColumns, std::min(out, end * kColumns), to);
    });
    return y;
  }
};

struct LayerNorm {
  at::Tensor weight, bias;  // [width]
  double eps = 0;

  LayerNorm() = default;
  LayerNorm(const ReaderLoader& loader, const std::string& name, const ReaderConfig& c)
      : weight(loader.get(name + ".weight", {c.width})),
        bias(loader.get(name + ".bias", {c.width})),
        eps(c.norm_eps) {}
  at::Tensor operator()(const at::Tensor& x) const {
    return at::layer_norm(x, weight.sizes(), weight, bias, eps);
  }
};

struct Block {
  Dense q, k, v, attended, up, down;
  LayerNorm after_attention, after_ffn;

  Block(const ReaderLoader& loader, int64_t i, const ReaderConfig& c) {
    const std::string p = accrete::format("encoder.layer.{}.", i);
    q = Dense(loader, p + "attention.self.query", c.width, c.width);
    k = Dense(loader, p + "attention.self.key", c.width, c.width);
    v = Dense(loader, p + "attention.self.value", c.width, c.width);
    attended = Dense(loader, p + "attention.output.dense", c.width, c.width);
    after_attention = LayerNorm(loader, p + "attention.output.LayerNorm", c);
    up = Dense(loader, p + "intermediate.dense", c.ffn_width, c.width);
    down = Dense(loader, p + "output.dense", c.width, c.ffn_width);
    after_ffn = LayerNorm(loader, p + "output.LayerNorm", c);
  }
};

// Texts whose tokens lie one behind the other as rows, those of one length beside each other.
struct Rows {
  struct Group {
    int64_t begin, texts, tokens;  // the first row, how many texts of how many tokens
  };
  std::vector<Group> groups;
  std::vector<int64_t> ids, positions, types;

  // `second`: the first token of type 1.
  void add(const std::vector<int32_t>& text, int64_t second) {
    const auto tokens = static_cast<int64_t>(text.size());
    if (groups.empty() || groups.back().tokens != tokens)
      groups.push_back({static_cast<int64_t>(ids.size()), 0, tokens});
    ++groups.back().texts;
    for (int64_t i = 0; i < tokens; ++i) {
      positions.push_back(i);
      types.push_back(i >= second);
    }
    ids.insert(ids.end(), text.begin(), text.end());
  }
};

at::Tensor indices(const std::vector<int64_t>& values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {static_cast<int64_t>(values.size())},
                       at::kLong);
}

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

using Adapter = std::optional<SafetensorsFile>;

Adapter adapter_in(const std::filesystem::path& file, const std::string& config) {
  return config.empty() ? std::nullopt : Adapter(SafetensorsFile::open(file));
}

// Of each file its header, of each tensor both ends or (`every_byte`) all.
std::string digest_of(const std::filesystem::path& folder, const ReaderConfig& c,
                      const ShardedSafetensors& files, const Adapter& adapter, const Adapter& cross,
                      bool every_byte) {
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
  for (const auto& [file, name] : {std::pair(&adapter, kAdapter), {&cross, kCross}}) {
    if (!*file) continue;
    add_header(folder / name, sha);
    for (const TensorView& tensor : (*file)->tensors()) add(tensor);
  }
  return sha.hex();
}

}  // namespace

struct Reader::Impl {
  Impl(const std::filesystem::path& folder, ReaderConfig read);

  std::vector<Block> blocks_with(const Adapter& file, double scale,
                                 std::span<const std::string> others) const;
  at::Tensor run(const Rows& rows, const std::vector<Block>& with) const;
  at::Tensor attend(const Block& block, const at::Tensor& h, const Rows& rows) const;
  void pool(const at::Tensor& h, const Rows& rows, const int64_t* order, bool words_only,
            float* out) const;

  std::string folder;
  ReaderConfig config;
  WordPiece tokenizer;
  ShardedSafetensors files;
  Adapter adapter, cross;
  std::string digest, prefix;  // of tensors' names: "bert." or nothing
  int64_t max_tokens = 0;
  at::Tensor words, positions, types;  // [vocabulary, width], [positions, width], [types, width]
  LayerNorm embedded;
  std::vector<Block> blocks, cross_blocks;
  at::Tensor head;  // [1, 2 width] of the cross-encoder
  double head_bias = 0;
  std::vector<int32_t> border;  // the tokens between two wordings
};

Reader::Impl::Impl(const std::filesystem::path& path, ReaderConfig read)
    : folder(path.string()),
      config(std::move(read)),
      tokenizer(WordPiece::parse(config.tokenizer_json, (path / "tokenizer.json").string())),
      files(ShardedSafetensors::open(path)),
      adapter(adapter_in(path / kAdapter, config.adapter_json)),
      cross(adapter_in(path / kCross, config.cross_json)),
      digest(digest_of(path, config, files, adapter, cross, /*every_byte=*/false)) {
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

  if (files.find("embeddings.word_embeddings.weight") == nullptr &&
      files.find("bert.embeddings.word_embeddings.weight") != nullptr)
    prefix = "bert.";
  std::set<std::string> taken;
  const ReaderLoader loader{files, {}, 0, folder, prefix, taken};
  words = loader.mapped("embeddings.word_embeddings.weight", {c.vocab_size, c.width});
  positions = loader.get("embeddings.position_embeddings.weight", {c.max_positions, c.width});
  types = loader.get("embeddings.token_type_embeddings.weight", {c.types, c.width});
  embedded = LayerNorm(loader, "embeddings.LayerNorm", c);
  blocks = blocks_with(adapter, c.adapter_scale, {});
  if (!cross) return;
  static const std::vector<std::string> kHead = {"head.weight", "head.bias"};
  cross_blocks = blocks_with(cross, c.cross_scale, kHead);
  const auto part = [&](const std::string& name, const std::vector<int64_t>& shape) {
    const TensorView* view = cross->find(name);
    if (view == nullptr || view->shape != shape)
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the cross-encoder has no `{}` of shape [{}]", folder, name,
                                  accrete::joined(shape, ", ")),
                  "fetch the reader again");
    return mapped_tensor(*view, folder).to(at::kFloat);
  };
  head = part(kHead[0], {1, 2 * c.width});
  head_bias = part(kHead[1], {1}).item<double>();
  const auto slash = tokenizer.encode("/", max_tokens);
  border.assign(slash.begin() + 1, slash.end() - 1);
}

// The blocks with what an adapter adds to them; `others`: tensors of its file that are none of a
// block.
std::vector<Block> Reader::Impl::blocks_with(const Adapter& file, double scale,
                                             std::span<const std::string> others) const {
  std::set<std::string> adapted(others.begin(), others.end());
  const ReaderLoader loader{files, file, scale, folder, prefix, adapted};
  std::vector<Block> out;
  for (int64_t i = 0; i < config.blocks; ++i) out.emplace_back(loader, i, config);
  if (file)
    for (const TensorView& view : file->tensors())
      if (!adapted.contains(view.name))
        throw Error(ErrorCode::kFormat,
                    accrete::format("{}: `{}` of the adapter is of no linear layer of this encoder",
                                    folder, view.name),
                    "the adapter belongs to another model; fetch both again");
  return out;
}

at::Tensor Reader::Impl::attend(const Block& block, const at::Tensor& h, const Rows& rows) const {
  const int64_t head_dim = config.width / config.heads;
  const at::Tensor q = block.q(h), k = block.k(h), v = block.v(h);
  at::Tensor out = at::empty_like(h);
  // Threads share the heads. What is MKL's in it may take one thread each, for the same results.
  at::parallel_for(0, config.heads, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    const OneBlasThread one;
    for (const Rows::Group& group : rows.groups) {
      const auto heads = [&](const at::Tensor& x) {  // [texts, heads, tokens, head_dim]
        return x.narrow(0, group.begin, group.texts * group.tokens)
            .view({group.texts, group.tokens, config.heads, head_dim})
            .narrow(2, begin, end - begin)
            .transpose(1, 2);
      };
      heads(out).copy_(at::scaled_dot_product_attention(heads(q), heads(k), heads(v)));
    }
  });
  return out;
}

at::Tensor Reader::Impl::run(const Rows& rows, const std::vector<Block>& with) const {
  at::Tensor h = words.index_select(0, indices(rows.ids)).to(at::kFloat);
  h.add_(types.index_select(0, indices(rows.types)))
      .add_(positions.index_select(0, indices(rows.positions)));
  h = embedded(h);
  for (const Block& block : with) {
    h = block.after_attention(block.attended(attend(block, h, rows)).add_(h));
    const at::Tensor x = block.up(h);
    activate(config.activation, x);
    h = block.after_ffn(block.down(x).add_(h));
  }
  return h;
}

// The rows of `out` that `order` names, one for each text of `rows`.
void Reader::Impl::pool(const at::Tensor& h, const Rows& rows, const int64_t* order,
                        bool words_only, float* out) const {
  const int64_t width = config.width;
  const float* row = h.const_data_ptr<float>();
  std::vector<double> sum(static_cast<size_t>(width));
  for (const Rows::Group& group : rows.groups) {
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
  return digest_of(impl_->folder, impl_->config, impl_->files, impl_->adapter, impl_->cross,
                   /*every_byte=*/true);
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
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(texts.size());
  for (const std::string& text : texts)
    ids.push_back(impl_->tokenizer.encode(text, impl_->max_tokens));
  float* vectors = out.mutable_data_ptr<float>();
  in_parts(ids, [&](std::span<const int64_t> order) {
    Rows rows;
    for (const int64_t i : order) {
      const auto& text = ids[static_cast<size_t>(i)];
      rows.add(text, static_cast<int64_t>(text.size()));
    }
    impl_->pool(impl_->run(rows, impl_->blocks), rows, order.data(), words_only, vectors);
  });
  return out;
}

bool Reader::has_cross_encoder() const {
  return impl_->cross.has_value();
}

std::vector<double> Reader::judge(std::span<const ReadPair> pairs) const {
  constexpr int64_t kQuestion = 40, kWording = 32, kAnswer = 16;  // tokens that are read
  const at::NoGradGuard no_grad;
  if (!has_cross_encoder())
    throw Error(ErrorCode::kUnsupported,
                accrete::format("{}: this reader has no cross-encoder", impl_->folder),
                "use one that has");
  std::vector<double> out(pairs.size());
  std::vector<std::vector<int32_t>> ids;
  std::vector<int64_t> second;  // of each pair the first token of the fact
  for (const ReadPair& pair : pairs) {
    auto& to = ids.emplace_back(
        impl_->tokenizer.encode(pair.question, std::min(kQuestion + 2, impl_->max_tokens / 2)));
    second.push_back(static_cast<int64_t>(to.size()));
    const int32_t end = to.back();
    const auto add = [&](const std::string& text, int64_t most) {
      const auto tokens = impl_->tokenizer.encode(text, most + 2);
      to.insert(to.end(), tokens.begin() + 1, tokens.end() - 1);
    };
    for (size_t i = 0; i < pair.wordings.size(); ++i) {
      if (i > 0) to.insert(to.end(), impl_->border.begin(), impl_->border.end());
      add(pair.wordings[i], kWording);
    }
    to.push_back(end);
    add(pair.answer, kAnswer);
    to.resize(std::min(to.size(), static_cast<size_t>(impl_->max_tokens) - 1));
    to.push_back(end);
  }
  if (pairs.empty()) return out;
  const int64_t width = impl_->config.width;
  const float* head = impl_->head.const_data_ptr<float>();
  in_parts(ids, [&](std::span<const int64_t> order) {
    Rows rows;
    for (const int64_t i : order)
      rows.add(ids[static_cast<size_t>(i)], second[static_cast<size_t>(i)]);
    const at::Tensor h = impl_->run(rows, impl_->cross_blocks);
    const float* row = h.const_data_ptr<float>();
    for (const int64_t i : order) {
      const auto tokens = static_cast<int64_t>(ids[static_cast<size_t>(i)].size());
      const int64_t border = second[static_cast<size_t>(i)];
      double& z = out[static_cast<size_t>(i)];
      const auto add_mean = [&](int64_t begin, int64_t last, const float* weights) {
        double sum = 0;
        for (int64_t t = begin; t < last; ++t)
          for (int64_t k = 0; k < width; ++k) sum += double{row[t * width + k]} * weights[k];
        z += sum / static_cast<double>(std::max<int64_t>(last - begin, 1));
      };
      z = impl_->head_bias;
      add_mean(1, border - 1, head);
      add_mean(border, tokens - 1, head + width);
      if (!std::isfinite(z))
        throw Error(
            ErrorCode::kFormat,
            accrete::format("{}: the cross-encoder's results are not finite", impl_->folder),
            "its weights are damaged; fetch it again");
      row += tokens * width;
    }
  });
  return out;
}

}  // namespace accrete
