#include "model/bert.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/error.h"
#include "base/format.h"
#include "base/threads.h"
#include "io/utf8.h"
#include "model/kernels/dense.h"

namespace accrete::bert {
namespace {

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

// A LoRA as peft saves it: names of its tensors that a layer took are noted.
struct Adapter {
  const std::optional<SafetensorsFile>& file;
  double scale;
  std::string folder;
  std::set<std::string> taken;

  // A factor, [rows, columns] one of which is its rank; undefined: there is none.
  at::Tensor factor(const std::string& layer, const char* which, int64_t rows, int64_t columns) {
    const std::string name = accrete::format("base_model.model.{}.{}.weight", layer, which);
    const TensorView* view = file ? file->find(name) : nullptr;
    if (view == nullptr) return {};
    if (view->shape.size() != 2 || (rows > 0 && view->shape[0] != rows) ||
        (columns > 0 && view->shape[1] != columns))
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: `{}` of the adapter has shape [{}]", folder, name,
                                  accrete::joined(view->shape, ", ")),
                  "the adapter belongs to another model; fetch both again");
    taken.insert(name);
    return mapped_tensor(*view, folder).to(at::kFloat);
  }
  // The weight of a linear layer, with what the adapter adds to it.
  at::Tensor added_to(const at::Tensor& own, const std::string& layer) {
    const at::Tensor a = factor(layer, "lora_A", 0, own.size(1)),
                     b = factor(layer, "lora_B", own.size(0), 0);
    if (!a.defined() && !b.defined()) return own;
    if (!a.defined() || !b.defined() || a.size(0) != b.size(1))
      throw Error(ErrorCode::kFormat,
                  accrete::format("{}: the adapter's two factors of `{}` do not go together",
                                  folder, layer),
                  "fetch the adapter again");
    return at::addmm(own, b, a, 1, scale);
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

at::Tensor indices(const std::vector<int64_t>& values) {
  return at::from_blob(const_cast<int64_t*>(values.data()), {static_cast<int64_t>(values.size())},
                       at::kLong);
}

at::Tensor attend(const Block& block, const at::Tensor& h, const Rows& rows, int64_t heads) {
  const int64_t head_dim = h.size(1) / heads;
  const at::Tensor q = block.q(h), k = block.k(h), v = block.v(h);
  at::Tensor out = at::empty_like(h);
  // Threads share the heads. What is MKL's in it may take one thread each, for the same results.
  at::parallel_for(0, heads, 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    const OneBlasThread one;
    for (const Rows::Group& group : rows.groups) {
      const auto some = [&](const at::Tensor& x) {  // [texts, heads, tokens, head_dim]
        return x.narrow(0, group.begin, group.texts * group.tokens)
            .view({group.texts, group.tokens, heads, head_dim})
            .narrow(2, begin, end - begin)
            .transpose(1, 2);
      };
      some(out).copy_(at::scaled_dot_product_attention(some(q), some(k), some(v)));
    }
  });
  return out;
}

}  // namespace

at::Tensor mapped_tensor(const TensorView& view, const std::string& folder) {
  return at::from_blob(const_cast<std::byte*>(view.bytes.data()), view.shape,
                       at::TensorOptions().dtype(float_type(view, folder)));
}

at::Tensor Loader::mapped(const std::string& name, const std::vector<int64_t>& shape) const {
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

at::Tensor Loader::get(const std::string& name, const std::vector<int64_t>& shape) const {
  return mapped(name, shape).to(at::kFloat);
}

at::Tensor Dense::operator()(const at::Tensor& x) const {
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

LayerNorm::LayerNorm(const Loader& loader, const std::string& name, const ReaderConfig& c)
    : weight(loader.get(name + ".weight", {c.width})),
      bias(loader.get(name + ".bias", {c.width})),
      eps(c.norm_eps) {}

at::Tensor LayerNorm::operator()(const at::Tensor& x) const {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

std::vector<Block> blocks(const Loader& loader, const ReaderConfig& c,
                          const std::optional<SafetensorsFile>& adapter, double scale,
                          std::span<const std::string> others) {
  Adapter added{adapter, scale, loader.folder, {others.begin(), others.end()}};
  const auto dense = [&](const std::string& name, int64_t out, int64_t in) {
    return Dense{added.added_to(loader.get(name + ".weight", {out, in}), name),
                 loader.get(name + ".bias", {out})};
  };
  std::vector<Block> out;
  for (int64_t i = 0; i < c.blocks; ++i) {
    const std::string p = accrete::format("encoder.layer.{}.", i);
    Block& block = out.emplace_back();
    block.q = dense(p + "attention.self.query", c.width, c.width);
    block.k = dense(p + "attention.self.key", c.width, c.width);
    block.v = dense(p + "attention.self.value", c.width, c.width);
    block.attended = dense(p + "attention.output.dense", c.width, c.width);
    block.after_attention = LayerNorm(loader, p + "attention.output.LayerNorm", c);
    block.up = dense(p + "intermediate.dense", c.ffn_width, c.width);
    block.down = dense(p + "output.dense", c.width, c.ffn_width);
    block.after_ffn = LayerNorm(loader, p + "output.LayerNorm", c);
  }
  if (adapter)
    for (const TensorView& view : adapter->tensors())
      if (!added.taken.contains(view.name))
        throw Error(ErrorCode::kFormat,
                    accrete::format("{}: `{}` of the adapter is of no linear layer of this encoder",
                                    loader.folder, view.name),
                    "the adapter belongs to another model; fetch both again");
  return out;
}

void Rows::add(const std::vector<int32_t>& text, int64_t second) {
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

at::Tensor pass(const Embeddings& embeddings, const std::vector<Block>& blocks,
                const ReaderConfig& c, const Rows& rows) {
  at::Tensor h = embeddings.words.index_select(0, indices(rows.ids)).to(at::kFloat);
  h.add_(embeddings.types.index_select(0, indices(rows.types)))
      .add_(embeddings.positions.index_select(0, indices(rows.positions)));
  h = embeddings.norm(h);
  for (const Block& block : blocks) {
    h = block.after_attention(block.attended(attend(block, h, rows, c.heads)).add_(h));
    const at::Tensor x = block.up(h);
    activate(c.activation, x);
    h = block.after_ffn(block.down(x).add_(h));
  }
  return h;
}

}  // namespace accrete::bert
