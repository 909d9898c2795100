#include "model/language_model.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/sha256.h"
#include "base/threads.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

void hash_tensor(Sha256& hash, std::string_view name, std::string_view dtype,
                 std::span<const int64_t> shape, std::span<const std::byte> bytes) {
  hash.update(fmt::format("{}\n{}\n{}\n", name, dtype, fmt::join(shape, ",")));
  hash.update(bytes);
}

void hash_tensor(Sha256& hash, const std::string& name, const at::Tensor& tensor) {
  const auto t = tensor.to(at::kCPU, at::kFloat).contiguous();
  hash_tensor(hash, name, "F32", {t.sizes().data(), static_cast<size_t>(t.dim())},
              {static_cast<const std::byte*>(t.data_ptr()), t.nbytes()});
}

bool ends_with_space(const std::string& s) {
  return !s.empty() && std::strchr(" \t\n\r", s.back()) != nullptr;
}
bool begins_with_space(const std::string& s) {
  return !s.empty() && std::strchr(" \t\n\r", s.front()) != nullptr;
}

}  // namespace

at::Device parse_device(const std::string& name) {
  try {
    const at::Device device(name);
    if (device.is_cpu()) return device;
    if (device.is_cuda()) {
      if (!at::hasCUDA())
        throw Error(ErrorCode::kUnsupported, fmt::format("device {}: no CUDA device here", name),
                    "use --device cpu, or a libtorch built with CUDA and a visible GPU");
      return device;
    }
  } catch (const c10::Error&) {  // an unknown name: said below
  }
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not a device", name),
              "use cpu, cuda or cuda:N");
}

at::ScalarType parse_dtype(const std::string& name) {
  if (name == "float32" || name == "fp32") return at::kFloat;
  if (name == "bfloat16" || name == "bf16") return at::kBFloat16;
  if (name == "float16" || name == "fp16") return at::kHalf;
  throw Error(ErrorCode::kInvalidArgument, fmt::format("\"{}\" is not a compute type", name),
              "use float32, bfloat16 or float16");
}

LanguageModel LanguageModel::open(const std::filesystem::path& folder, const OpenOptions& options) {
  if (!std::filesystem::is_directory(folder))
    throw Error(ErrorCode::kNotFound, fmt::format("there is no model folder {}", folder.string()),
                "make one with `accrete retrofit SRC MODEL`");
  at::set_num_threads(options.threads > 0 ? options.threads : hardware_threads());
  LanguageModel m;
  m.folder_ = folder;
  m.net_ = Transformer::load(folder, parse_device(options.device), parse_dtype(options.dtype));
  m.tokenizer_ = Tokenizer::from_folder(folder);
  m.chat_ = ChatTemplate::from_folder(folder);
  if (m.tokenizer_.vocab_size() > m.net_.config().vocab_size)
    throw Error(ErrorCode::kFormat,
                fmt::format("{}: the tokenizer has {} entries, the model only {}", folder.string(),
                            m.tokenizer_.vocab_size(), m.net_.config().vocab_size),
                "the tokenizer belongs to another model");
  if (has_memory_files(folder)) {
    m.memory_ = load_memory(folder, m.net_.config());
    if (options.with_updates) {
      const auto ledger = Ledger::open(folder, Ledger::Mode::kRead);
      std::vector<Update> updates;
      for (const auto& record : ledger.active()) updates.push_back(ledger.load(record.id));
      m.set_overlay(updates);
    }
  }
  return m;
}

FfnSide LanguageModel::side(at::Tensor mask) const {
  if (mask.defined()) mask = mask.reshape({-1});
  return [this, mask](int64_t block, const at::Tensor& x) -> at::Tensor {
    const auto it = memory_.find(block);
    if (it == memory_.end() || it->second.rows.empty()) return {};
    const MemoryLayer& layer = it->second;
    const auto flat = x.reshape({-1, x.size(-1)});
    const Accesses a = layer.keys.lookup(flat, mask);
    const auto y = weighted_gather(layer.rows.values, layer.rows.index.rows(a.slots), a.weights);
    return y.view(x.sizes()).to(x.scalar_type());
  };
}

void LanguageModel::set_overlay(const std::vector<Update>& updates) {
  MemoryLayers fresh = memory_;
  for (auto& [block, layer] : fresh) layer.rows = {};
  for (const Update& update : updates) {
    for (const LayerDelta& delta : update.layers) {
      const auto it = fresh.find(delta.block);
      if (it == fresh.end() || delta.width != it->second.keys.width() ||
          delta.indices.back() >= it->second.keys.slots())
        throw Error(ErrorCode::kFormat,
                    fmt::format("an update for block {} does not fit the memory layers of {}",
                                delta.block, folder_.string()),
                    "it was made for another model");
      const auto values =
          at::from_blob(const_cast<float*>(delta.delta.data()),
                        {static_cast<int64_t>(delta.indices.size()), delta.width}, at::kFloat);
      it->second.rows = it->second.rows.plus(delta.indices, values);
    }
  }
  memory_ = std::move(fresh);
}

std::string LanguageModel::base_digest() const {
  Sha256 hash;
  for (const TensorView* t : net_.base_tensors())
    hash_tensor(hash, t->name, dtype_name(t->dtype), t->shape, t->bytes);
  return hash.hex();
}

std::string LanguageModel::state_digest() const {
  Sha256 hash;
  hash.update(base_digest());
  for (const auto& [block, layer] : memory_) {
    const std::string prefix = fmt::format("memory.{}.", block);
    for (const auto& [name, tensor] : layer.keys.tensors())
      hash_tensor(hash, prefix + name, tensor);
    const auto& slots = layer.rows.slots;
    const int64_t count = static_cast<int64_t>(slots.size());
    hash_tensor(hash, prefix + "slots", "I64", {&count, 1}, std::as_bytes(std::span(slots)));
    if (!layer.rows.empty()) hash_tensor(hash, prefix + "values", layer.rows.values);
  }
  return hash.hex();
}

std::string LanguageModel::prompt_text(const std::string& prompt, bool raw) const {
  if (!uses_chat(raw)) return prompt;
  const Message message{"user", prompt};
  return chat_->render({&message, 1}, /*add_generation_prompt=*/true);
}

std::string LanguageModel::completion_text(const std::string& prompt, const std::string& completion,
                                           bool raw) const {
  if (uses_chat(raw)) return completion + chat_->end_of_turn();
  if (prompt.empty() || ends_with_space(prompt) || begins_with_space(completion)) return completion;
  return " " + completion;
}

std::vector<int64_t> LanguageModel::stop_ids() const {
  std::vector<int64_t> ids = net_.config().eos_ids;
  const auto add = [&ids](std::optional<int32_t> id) {
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  };
  add(tokenizer_.eos());
  if (chat_) add(tokenizer_.token_id(chat_->end_of_turn()));
  return ids;
}

}  // namespace accrete
