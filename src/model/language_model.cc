#include "model/language_model.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstring>
#include <future>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "base/threads.h"
#include "model/fact_memory.h"
#include "model/memory_files.h"

namespace accrete {
namespace {

// Throws kFormat.
void require_fit(bool fits, const std::filesystem::path& folder) {
  if (!fits)
    throw Error(ErrorCode::kFormat,
                accrete::format("an update does not fit the memory layers of {}", folder.string()),
                "it was made for another model");
}

bool anchors_fit(const Memory& memory, const GateAnchors& gate) {
  return gate.queries.empty() || gate.width == memory.keys.options().query_width;
}

bool rows_fit(const Memory& memory, int block, int64_t width, std::span<const int64_t> keys) {
  return width == memory.keys.width() &&
         std::find(memory.blocks.begin(), memory.blocks.end(), block) != memory.blocks.end() &&
         std::all_of(keys.begin(), keys.end(),
                     [&](int64_t key) { return slot_of(key) < memory.keys.slots(); });
}

// A tensor in the place of a vector, without a copy.
template <typename T>
at::Tensor tensor_of(std::vector<T>&& values, at::ScalarType type) {
  const auto held = std::make_shared<std::vector<T>>(std::move(values));
  return at::from_blob(held->data(), {static_cast<int64_t>(held->size())}, [held](void*) {}, type);
}

// What the ledger says is active, and the state file where that says the same.
struct ActiveUpdates {
  std::vector<UpdateRecord> records;
  std::optional<StateFile> state;
};

ActiveUpdates read_active(const Ledger& ledger, std::vector<UpdateRecord> active,
                          bool from_updates) {
  ActiveUpdates out{std::move(active), std::nullopt};
  if (from_updates) return out;
  std::vector<std::string> ids;
  for (const UpdateRecord& record : out.records) ids.push_back(record.id);
  out.state = StateFile::open(ledger.folder(), ids, StateFile::Detail::kRows);
  return out;
}

Overlay overlay_from(const LanguageModel& model, const Ledger& ledger, ActiveUpdates active) {
  if (active.state) return model.overlay_of(*active.state);
  std::vector<Update> updates;
  std::vector<const Update*> all;
  for (const UpdateRecord& record : active.records) updates.push_back(ledger.load(record.id));
  for (const Update& update : updates) all.push_back(&update);
  return model.make_overlay(all);
}

bool ends_with_space(const std::string& s) {
  return !s.empty() && std::strchr(" \t\n\r", s.back()) != nullptr;
}
bool begins_with_space(const std::string& s) {
  return !s.empty() && std::strchr(" \t\n\r", s.front()) != nullptr;
}

// The same bytes from the same passes on a GPU.
void compute_repeatably() {
  auto& context = at::globalContext();
  context.setDeterministicAlgorithms(true, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  // Its gradients are sums in any order unless the former is an error and not a warning.
  context.setSDPUseMemEfficient(false);
}

}  // namespace

at::Device parse_device(const std::string& name) {
  try {
    const at::Device device(name);
    if (device.is_cpu()) return device;
    if (device.is_cuda() && !at::hasCUDA())
      throw Error(ErrorCode::kUnsupported, accrete::format("device {}: no CUDA device here", name),
                  "use --device cpu, or a libtorch built with CUDA and a visible GPU");
    // One that a program has brought to libtorch does as well.
    if (device.is_cuda() ||
        (device.is_privateuseone() && c10::impl::hasDeviceGuardImpl(device.type())))
      return device;
  } catch (const c10::Error&) {  // an unknown name: said below
  }
  throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is not a device", name),
              "use cpu, cuda or cuda:N");
}

at::ScalarType parse_dtype(const std::string& name) {
  if (name == "float32" || name == "fp32") return at::kFloat;
  if (name == "bfloat16" || name == "bf16") return at::kBFloat16;
  if (name == "float16" || name == "fp16") return at::kHalf;
  throw Error(ErrorCode::kInvalidArgument, accrete::format("\"{}\" is not a compute type", name),
              "use float32, bfloat16 or float16");
}

LanguageModel LanguageModel::open(const std::filesystem::path& folder, const OpenOptions& options) {
  return open(folder, options, nullptr, {});
}

LanguageModel LanguageModel::open(const std::filesystem::path& folder, const OpenOptions& options,
                                  const Ledger& ledger, const std::vector<UpdateRecord>& active) {
  return open(folder, options, &ledger, active);
}

LanguageModel LanguageModel::open(const std::filesystem::path& folder, const OpenOptions& options,
                                  const Ledger* given, std::vector<UpdateRecord> records) {
  if (!std::filesystem::is_directory(folder))
    throw Error(ErrorCode::kNotFound,
                accrete::format("there is no model folder {}", folder.string()),
                "make one with `accrete retrofit SRC MODEL`");
  at::set_num_threads(options.threads > 0 ? options.threads : hardware_threads());
  LanguageModel m;
  m.folder_ = folder;
  const at::Device device = parse_device(options.device);
  if (!device.is_cpu()) compute_repeatably();
  // After many updates these take as long to read as the model: on a thread of their own.
  const bool of_facts = has_fact_memory(folder);
  const bool has_memory = !of_facts && has_memory_files(folder);
  std::optional<Ledger> own;
  const auto the_ledger = [&]() -> const Ledger& {
    if (given != nullptr) return *given;
    own = Ledger::open(folder, Ledger::Mode::kRead);
    records = own->active();
    return *own;
  };
  std::future<FactStore> facts;
  if (of_facts && options.with_updates)
    facts = beside([&] {
      const Ledger& ledger = the_ledger();
      return load_facts(ledger, records);
    });
  const Ledger* ledger = nullptr;
  std::future<ActiveUpdates> active;
  if (has_memory && options.with_updates)
    active = beside([&] {
      ledger = &the_ledger();
      return read_active(*ledger, records, options.from_updates);
    });
  m.net_ = Transformer::load(folder, device, parse_dtype(options.dtype));
  m.tokenizer_ = Tokenizer::from_folder(folder);
  try {
    m.chat_ = ChatTemplate::from_folder(folder);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kUnsupported) throw;
    m.unknown_chat_ = Error(e.code(), e.what(), "use the model with --raw");
  }
  if (m.tokenizer_.vocab_size() > m.net_.config().vocab_size)
    throw Error(
        ErrorCode::kFormat,
        accrete::format("{}: the tokenizer has {} entries, the model only {}", folder.string(),
                        m.tokenizer_.vocab_size(), m.net_.config().vocab_size),
        "the tokenizer belongs to another model");
  if (of_facts) {
    FactMemory memory(folder, load_fact_memory_info(folder, m.net_.config().blocks));
    if (facts.valid()) memory = memory.with(facts.get());
    m.use_facts(std::move(memory));
  }
  if (has_memory) {
    m.memory_ = load_memory(folder, m.net_.config());
    m.memory_->device_keys = m.memory_->keys.to(device);
    if (active.valid()) {
      ActiveUpdates read = active.get();
      m.use_overlay(overlay_from(m, *ledger, std::move(read)));
    }
  }
  m.state_ = options.with_updates ? state_key(records) : state_key({});
  return m;
}

ModelInState open_in_state(const std::filesystem::path& folder, const OpenOptions& options) {
  return [folder, options](const Ledger& ledger, const std::vector<UpdateRecord>& active) {
    return LanguageModel::open(folder, options, ledger, active);
  };
}

LanguageModel LanguageModel::in_state(const Ledger& ledger,
                                      const std::vector<UpdateRecord>& active) const {
  LanguageModel out = *this;
  std::string key = state_of(active);
  if (key == state_) return out;
  if (facts_) out.use_facts(facts_->with(load_facts(ledger, active)));
  if (memory_) out.use_overlay(overlay_from(*this, ledger, read_active(ledger, active, false)));
  out.state_ = std::move(key);
  return out;
}

std::string LanguageModel::state_of(const std::vector<UpdateRecord>& active) const {
  if (!beneath_) return state_key(active);
  if (active.empty()) return *beneath_;
  return Sha256().update(*beneath_).update("\n").update(state_key(active)).hex();
}

LanguageModel LanguageModel::overlaid(const Ledger& own,
                                      const std::vector<UpdateRecord>& active) const {
  LanguageModel out = *this;
  out.use_facts(facts().overlaid(load_facts(own, active)));
  out.beneath_ = state_;
  out.state_ = out.state_of(active);
  return out;
}

Accesses Memory::lookup(const at::Tensor& x, const at::Tensor& mask) const {
  const Accesses found = keys_at(x).lookup(x, mask);
  return {found.slots.to(at::kCPU), found.weights.to(at::kCPU)};
}

const FactMemory& LanguageModel::facts() const {
  if (!facts_)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} has no memory of facts", folder_.string()),
                "make it with `accrete retrofit SRC MODEL`");
  return *facts_;
}

void LanguageModel::use_facts(FactMemory facts) {
  for (int64_t i = 0; i < facts.store().size(); ++i) {
    const StoredFact& fact = facts.store().fact(i);
    require_fit(fact.vectors() == 0 || fact.update->facts.width == net_.config().width, folder_);
  }
  facts_ = std::make_shared<const FactMemory>(std::move(facts));
  state_.clear();
}

const Memory& LanguageModel::memory() const {
  if (!memory_)
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} has no memory layers", folder_.string()),
                "models that `accrete pretrain` makes have them; others are taught facts after "
                "`accrete retrofit SRC MODEL`");
  return *memory_;
}

namespace {

// What an overlay adds in one pass. The address block's input says which tokens read it, and what,
// for all blocks; where only gated updates are active that is mostly no token, and no slot is
// looked up.
class OverlayPass {
 public:
  OverlayPass(const Memory& memory, const at::Tensor& mask) : memory_(memory), mask_(mask) {
    if (mask_.defined()) mask_ = mask_.reshape({-1});
  }

  // x [T, d], the address block's input.
  void see(const at::Tensor& x) {
    const Overlay& overlay = memory_.overlay;
    count_ = x.size(0);
    gates_ = overlay.gates(memory_.gate, overlay.gated() ? memory_.queries(x) : at::Tensor());
    tokens_ = at::empty({0}, at::kLong);
    if (gates_.defined() && gates_.part.size(1) > 0) {
      auto speaks = (gates_.part >= 0).any(1);
      if (mask_.defined()) speaks.logical_and_(mask_);
      tokens_ = speaks.nonzero().view({-1});
    }
    if (overlay.open_rows()) {
      tokens_ = at::Tensor();
      accesses_ = memory_.lookup(x, mask_);
      return;
    }
    if (tokens_.size(0) == 0) return;
    accesses_ = memory_.lookup(x.index_select(0, tokens_.to(x.device())));
    gates_ = {gates_.part.index_select(0, tokens_), gates_.weight.index_select(0, tokens_)};
  }

  // [T, d] on `device` for the tokens seen; undefined: nothing.
  at::Tensor read(int64_t block, at::Device device) const {
    if (tokens_.defined() && tokens_.size(0) == 0) return {};
    const auto y = memory_.read(block, accesses_, gates_);
    if (!y.defined()) return y;
    if (!tokens_.defined()) return y.to(device);
    return at::zeros({count_, y.size(1)}, y.options().device(device))
        .index_copy_(0, tokens_.to(device), y.to(device));
  }

 private:
  const Memory& memory_;
  at::Tensor mask_;
  int64_t count_ = 0;  // T
  at::Tensor tokens_;  // [n] int64, those that read it; undefined: all do
  Accesses accesses_;
  Gates gates_;
};

}  // namespace

FfnSide LanguageModel::side(const at::Tensor& mask) const {
  if (!memory_ || memory_->overlay.empty())
    return [](int64_t, const at::Tensor&) { return at::Tensor(); };
  const auto pass = std::make_shared<OverlayPass>(*memory_, mask);
  return [this, pass](int64_t block, const at::Tensor& x) -> at::Tensor {
    if (block == memory_->address_block) pass->see(x.reshape({-1, x.size(-1)}));
    const auto y = pass->read(block, x.device());
    return y.defined() ? y.view(x.sizes()).to(x.scalar_type()) : y;
  };
}

void LanguageModel::check_fits(const Update& update) const {
  const Memory& memory = this->memory();
  bool fits = anchors_fit(memory, update.anchors);
  for (const LayerDelta& delta : update.layers)
    fits = fits && rows_fit(memory, delta.block, delta.width, delta.indices);
  require_fit(fits, folder_);
}

Overlay LanguageModel::make_overlay(std::span<const Update* const> updates) const {
  (void)memory();  // throws when there is none
  for (const Update* update : updates) check_fits(*update);
  return Overlay::of(updates);
}

Overlay LanguageModel::overlay_with(const Update& update) const {
  check_fits(update);
  return memory().overlay.with_trial(update);
}

Overlay LanguageModel::overlay_of(StateFile& state) const {
  Overlay overlay;
  if (state.tables().empty()) return overlay;
  const Memory& memory = this->memory();
  const auto table = state.table();
  // The map is read only; nothing writes to an overlay's values.
  const auto values = at::from_blob(
      const_cast<float*>(table.data()),
      {static_cast<int64_t>(table.size()) / state.width(), state.width()},
      [map = state.map()](void*) {}, at::kFloat);
  auto tables = state.take_tables();
  for (StateFile::Table& t : tables) {
    require_fit(rows_fit(memory, t.block, state.width(), t.keys), folder_);
    if (t.reach == Reach::kEverywhere) {
      SparseRows& rows = overlay.by_block[t.block].open;
      rows.index = SlotIndex(t.keys, t.rows);
      rows.slots = std::move(t.keys);
      rows.places = std::move(t.rows);
      rows.values = values;
    } else {
      overlay.by_block[t.block].of(t.reach) = {tensor_of(std::move(t.keys), at::kLong), values,
                                               tensor_of(std::move(t.rows), at::kInt)};
    }
  }
  std::vector<const Update*> outlines;
  for (const StateFile::Record& record : state.records()) {
    require_fit(anchors_fit(memory, record.outline.anchors), folder_);
    outlines.push_back(&record.outline);
  }
  overlay.append_anchors(outlines);
  return overlay;
}

Overlay LanguageModel::load_overlay(const Ledger& ledger, bool from_updates) const {
  return overlay_from(*this, ledger, read_active(ledger, ledger.active(), from_updates));
}

void LanguageModel::use_overlay(Overlay overlay) {
  (void)memory();  // throws when there is none
  memory_->overlay = std::move(overlay);
  state_.clear();
  memory_->overlay.copy_to(net_.device());
}

void LanguageModel::set_overlay(const std::vector<Update>& updates) {
  std::vector<const Update*> all;
  for (const Update& update : updates) all.push_back(&update);
  use_overlay(make_overlay(all));
}

void LanguageModel::add_update(const Update& update) {
  check_fits(update);
  use_overlay(memory().overlay.plus(update));
}

bool LanguageModel::uses_chat(bool raw) const {
  if (!raw && unknown_chat_) throw Error(*unknown_chat_);
  return !raw && chat_.has_value();
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
  if (chat_ && !chat_->end_of_turn().empty()) add(tokenizer_.token_id(chat_->end_of_turn()));
  return ids;
}

}  // namespace accrete
