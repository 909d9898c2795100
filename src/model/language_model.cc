#include "model/language_model.h"

#include <ATen/Parallel.h>
#include <fmt/ranges.h>

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

// The rows of all `parts` added in float32 in their order, in one pass over them: a table is never
// copied for the next update, so that opening a model takes time in proportion to its updates.
SparseRows sum_layers(const std::vector<const LayerDelta*>& parts) {
  SparseRows sum;
  if (parts.empty()) return sum;
  for (const LayerDelta* part : parts)
    sum.slots.insert(sum.slots.end(), part->indices.begin(), part->indices.end());
  std::sort(sum.slots.begin(), sum.slots.end());
  sum.slots.erase(std::unique(sum.slots.begin(), sum.slots.end()), sum.slots.end());
  const int64_t width = parts.front()->width;
  const auto count = static_cast<int64_t>(sum.slots.size());
  sum.values = at::empty({count, width}, at::kFloat);
  sum.index = SlotIndex(sum.slots);
  float* values = sum.values.data_ptr<float>();
  std::vector<bool> written(sum.slots.size(), false);
  for (const LayerDelta* part : parts)
    for (size_t i = 0; i < part->indices.size(); ++i) {
      const auto row = static_cast<size_t>(sum.index.find(static_cast<int32_t>(part->indices[i])));
      const float* from = part->delta.data() + i * static_cast<size_t>(width);
      float* to = values + row * static_cast<size_t>(width);
      if (!written[row])
        std::copy(from, from + width, to);
      else
        for (int64_t k = 0; k < width; ++k) to[k] += from[k];
      written[row] = true;
    }
  return sum;
}

// Throws kFormat.
void check_fits(const Memory& memory, const std::filesystem::path& folder, const Update& update) {
  const GateAnchors& gate = update.anchors;
  bool fits = gate.queries.empty() || gate.width == memory.keys.options().query_width;
  for (const LayerDelta& delta : update.layers)
    fits =
        fits && delta.width == memory.keys.width() && delta.indices.back() < memory.keys.slots() &&
        std::find(memory.blocks.begin(), memory.blocks.end(), delta.block) != memory.blocks.end();
  if (!fits)
    throw Error(ErrorCode::kFormat,
                fmt::format("an update does not fit the memory layers of {}", folder.string()),
                "it was made for another model");
}

// Anchors of many updates, joined once. Refers to the updates.
struct AnchorLists {
  std::vector<at::Tensor> subjects, texts;

  void add(const Update& update) {
    const GateAnchors& gate = update.anchors;
    if (gate.queries.empty()) return;
    (gate.text ? texts : subjects)
        .push_back(at::from_blob(
            const_cast<float*>(gate.queries.data()),
            {static_cast<int64_t>(gate.queries.size()) / gate.width, gate.width}, at::kFloat));
  }
  void join(Overlay& overlay) const {
    if (!subjects.empty()) overlay.add_anchors(at::cat(subjects), false);
    if (!texts.empty()) overlay.add_anchors(at::cat(texts), true);
  }
};

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
      m.use_overlay(m.load_overlay(ledger, options.from_updates));
    }
  }
  return m;
}

const Memory& LanguageModel::memory() const {
  if (!memory_)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has no memory layers", folder_.string()),
                "make them with `accrete retrofit SRC MODEL`");
  return *memory_;
}

SparseRows& Overlay::Rows::of(Reach reach) {
  switch (reach) {
    case Reach::kEverywhere:
      return open;
    case Reach::kSubjects:
      return gated;
    case Reach::kText:
      return text;
  }
  return open;
}

at::Tensor Overlay::gates(const Gate& gate, const at::Tensor& queries) const {
  if (!gated()) return {};
  return at::stack({gate(queries, anchors), gate(queries, text_anchors)}, 1);
}

void Overlay::add_anchors(const at::Tensor& more, bool text) {
  at::Tensor& to = text ? text_anchors : anchors;
  if (more.defined()) to = to.defined() ? at::cat({to, more}) : more;
}

at::Tensor Overlay::read(int64_t block, const Accesses& accesses, const at::Tensor& gates) const {
  at::Tensor y;
  const auto add = [&](const SparseRows& rows, const at::Tensor& weights) {
    const auto part = weighted_gather(rows.values, rows.index.rows(accesses.slots), weights);
    y = y.defined() ? y + part : part;
  };
  at::Tensor weights[2];
  for (const auto* tables : {&by_block, &on_trial}) {
    const auto it = tables->find(block);
    if (it == tables->end()) continue;
    if (!it->second.open.empty()) add(it->second.open, accesses.weights);
    for (const int64_t kind : {0, 1}) {
      const SparseRows& rows = kind == 0 ? it->second.gated : it->second.text;
      if (rows.empty() || !gates.defined()) continue;
      if (!weights[kind].defined()) weights[kind] = accesses.weights * gates.narrow(1, kind, 1);
      add(rows, weights[kind]);
    }
  }
  return y;
}

FfnSide LanguageModel::side(at::Tensor mask) const {
  if (!memory_ || memory_->overlay.empty())
    return [](int64_t, const at::Tensor&) { return at::Tensor(); };
  if (mask.defined()) mask = mask.reshape({-1});
  // What the address block found out, for the blocks above it in the same pass.
  struct Found {
    Accesses accesses;
    at::Tensor gates;
  };
  auto found = std::make_shared<Found>();
  return [this, mask, found](int64_t block, const at::Tensor& x) -> at::Tensor {
    const Memory& memory = *memory_;
    if (block == memory.address_block) {
      const auto flat = x.reshape({-1, x.size(-1)});
      found->accesses = memory.keys.lookup(flat, mask);
      if (memory.overlay.gated())
        found->gates = memory.overlay.gates(memory.gate, memory.keys.queries(flat));
    }
    const auto y = memory.read(block, found->accesses, found->gates);
    return y.defined() ? y.view(x.sizes()).to(x.scalar_type()) : y;
  };
}

Overlay LanguageModel::make_overlay(std::span<const Update* const> updates) const {
  const Memory& memory = this->memory();
  Overlay fresh;
  AnchorLists anchors;
  std::map<int64_t, std::map<Reach, std::vector<const LayerDelta*>>> parts;
  for (const Update* update : updates) {
    check_fits(memory, folder_, *update);
    for (const LayerDelta& delta : update->layers)
      parts[delta.block][reach_of(*update)].push_back(&delta);
    anchors.add(*update);
  }
  for (const auto& [block, by_reach] : parts)
    for (const auto& [reach, layers] : by_reach)
      fresh.by_block[block].of(reach) = sum_layers(layers);
  anchors.join(fresh);
  return fresh;
}

Overlay LanguageModel::overlay_with(const Update& update) const {
  Overlay all = memory().overlay;
  if (!all.on_trial.empty()) throw Error(ErrorCode::kInternal, "an update is on trial already");
  const Update* one = &update;
  Overlay added = make_overlay({&one, 1});
  all.on_trial = std::move(added.by_block);
  all.add_anchors(added.anchors, false);
  all.add_anchors(added.text_anchors, true);
  return all;
}

Overlay LanguageModel::overlay_of(const StateFile& state) const {
  Overlay overlay;
  if (state.tables().empty()) return overlay;
  const Memory& memory = this->memory();
  const auto table = state.table();
  // The map is read only; nothing writes to an overlay's values.
  const auto values = at::from_blob(
      const_cast<float*>(table.data()),
      {static_cast<int64_t>(table.size()) / state.width(), state.width()},
      [map = state.map()](void*) {}, at::kFloat);
  for (const StateFile::Table& t : state.tables()) {
    SparseRows rows;
    rows.slots = t.slots;
    rows.places = t.rows;
    rows.index = SlotIndex(t.slots, t.rows);
    rows.values = values;
    overlay.by_block[t.block].of(t.reach) = std::move(rows);
  }
  AnchorLists anchors;
  for (const StateFile::Record& record : state.records()) {
    check_fits(memory, folder_, record.outline);
    anchors.add(record.outline);
  }
  anchors.join(overlay);
  return overlay;
}

Overlay LanguageModel::load_overlay(const Ledger& ledger, bool from_updates) const {
  const auto active = ledger.active();
  if (!from_updates) {
    std::vector<std::string> ids;
    for (const auto& record : active) ids.push_back(record.id);
    if (const auto state = StateFile::open(ledger.folder(), ids)) return overlay_of(*state);
  }
  std::vector<Update> updates;
  std::vector<const Update*> all;
  for (const auto& record : active) updates.push_back(ledger.load(record.id));
  for (const Update& update : updates) all.push_back(&update);
  return make_overlay(all);
}

void LanguageModel::use_overlay(Overlay overlay) {
  (void)memory();  // throws when there is none
  memory_->overlay = std::move(overlay);
}

void LanguageModel::set_overlay(const std::vector<Update>& updates) {
  std::vector<const Update*> all;
  for (const Update& update : updates) all.push_back(&update);
  use_overlay(make_overlay(all));
}

void LanguageModel::add_update(const Update& update) {
  const Update* one = &update;
  const Overlay added = make_overlay({&one, 1});
  Overlay all = memory_->overlay;
  for (const auto& [block, rows] : added.by_block) {
    for (const Reach reach : kReaches)
      if (const SparseRows& more = rows.of(reach); !more.empty()) {
        SparseRows& sum = all.by_block[block].of(reach);
        sum = sum.plus(more.slots, more.values);
      }
  }
  all.add_anchors(added.anchors, false);
  all.add_anchors(added.text_anchors, true);
  use_overlay(std::move(all));
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
  if (!memory_) return hash.hex();
  for (const auto& [name, tensor] : memory_->keys.tensors())
    hash_tensor(hash, "memory." + name, tensor);
  for (const auto& [block, rows] : memory_->overlay.by_block)
    for (const auto& [name, table] :
         {std::pair{"open", &rows.open}, {"gated", &rows.gated}, {"text", &rows.text}}) {
      if (table->empty()) continue;
      const auto count = static_cast<int64_t>(table->slots.size());
      const std::string prefix = fmt::format("overlay.{}.{}.", block, name);
      hash_tensor(hash, prefix + "slots", "I64", {&count, 1},
                  std::as_bytes(std::span(table->slots)));
      hash_tensor(hash, prefix + "values", table->ordered_values());
    }
  if (memory_->overlay.anchors.defined())
    hash_tensor(hash, "overlay.anchors", memory_->overlay.anchors);
  if (memory_->overlay.text_anchors.defined())
    hash_tensor(hash, "overlay.text_anchors", memory_->overlay.text_anchors);
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
