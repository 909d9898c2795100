// A language model as accrete uses it: transformer, tokenizer, chat template, memory layers and
// their overlay.
//
// Opening a folder reads the base by memory map, the memory layers of `accrete/` if there are any,
// and puts the active updates of the ledger together to the overlay, always from the base, so that
// a state is reproducible bit for bit. Copies share the tensors: a model that nobody changes is a
// state that any number of threads may ask.
//
// Non-goals: changing anything on disk (learn/, ledger/), sampling (generate.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "ledger/ledger.h"
#include "ledger/state_file.h"
#include "memory/gate.h"
#include "memory/product_keys.h"
#include "model/open_options.h"
#include "model/overlay.h"
#include "model/transformer.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace accrete {

class FactMemory;  // model/fact_memory.h

// The memory layers of a model: one lookup, in the address block, whose accesses every memory block
// reads its own value table with. What is written can therefore never move an address.
struct Memory {
  int64_t address_block = 0;    // the lowest memory block
  std::vector<int64_t> blocks;  // ascending; blocks.front() == address_block
  ProductKeys keys;             // on the CPU
  ProductKeys device_keys;      // the same, where the network computes
  Gate gate;
  Overlay overlay;

  at::Tensor read(int64_t block, const Accesses& accesses, const Gates& gates) const {
    return overlay.read(block, accesses, gates);
  }
  // As ProductKeys does, for x on the CPU or where the network computes. Accesses come to the CPU,
  // where the rows are; queries stay with x.
  Accesses lookup(const at::Tensor& x, const at::Tensor& mask = {}) const;
  at::Tensor queries(const at::Tensor& x) const { return keys_at(x).queries(x); }

 private:
  const ProductKeys& keys_at(const at::Tensor& x) const { return x.is_cpu() ? keys : device_keys; }
};

class LanguageModel {
 public:
  // On a CUDA device the network computes there, and what is near an update's anchors is found
  // there; what updates say is read on the CPU, of the few tokens at which they speak. Sets
  // libtorch's number of threads and, for a CUDA device, its deterministic algorithms. Throws
  // kNotFound, kFormat, kUnsupported, kInvalidArgument (device, dtype).
  static LanguageModel open(const std::filesystem::path& folder, const OpenOptions& options = {});
  // In the state that these updates of `ledger` make, in ledger order, whatever it says by now.
  static LanguageModel open(const std::filesystem::path& folder, const OpenOptions& options,
                            const Ledger& ledger, const std::vector<UpdateRecord>& active);

  // The same network in the state that these updates of its ledger make: a copy that shares every
  // tensor of the base, and reads no update where it is in that state already.
  LanguageModel in_state(const Ledger& ledger, const std::vector<UpdateRecord>& active) const;
  // The name of the state (ledger.h, state_key); empty when what was taught was put in place by
  // hand (use_facts, set_overlay and their like).
  const std::string& state() const { return state_; }
  void name_state(std::string key) { state_ = std::move(key); }
  // The name of the state that these active updates would make of this model; of an overlay, whose
  // updates they are, with what is beneath, and that state's own name where there are none.
  std::string state_of(const std::vector<UpdateRecord>& active) const;

  // An overlay over this state: the facts of these updates of a ledger of its own, which answer
  // first (model/fact_memory.h). A copy that shares every tensor and every shared fact. Throws as
  // facts() and Ledger::load do, kFormat.
  LanguageModel overlaid(const Ledger& own, const std::vector<UpdateRecord>& active) const;

  const std::filesystem::path& folder() const { return folder_; }
  const Transformer& net() const { return net_; }
  // To train a copy of the network in memory (bench/baselines); digests stay those of the folder.
  void set_net(Transformer net) { net_ = std::move(net); }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  // Absent: the model has none, or one that is not known, which `uses_chat` then says.
  const std::optional<ChatTemplate>& chat() const { return chat_; }
  bool has_memory() const { return memory_.has_value(); }
  // Throws kInvalidArgument (hint: pretrain) when there is none.
  const Memory& memory() const;

  // A memory of facts that are addressed by the question, instead of memory layers.
  bool has_facts() const { return facts_ != nullptr; }
  // Throws kInvalidArgument (hint: retrofit) when there is none.
  const FactMemory& facts() const;
  void use_facts(FactMemory facts);  // throws kFormat when a value has another width

  // The side input of a forward pass: lookup and value read of each block whose overlay is not
  // empty. `mask` [B, T] bool: false is padding, which has no accesses; undefined: none. The result
  // refers to this model.
  FfnSide side(const at::Tensor& mask = {}) const;

  // Replaces the overlay by that of `updates`, in order. Throws kFormat when one does not fit
  // the layers.
  void set_overlay(const std::vector<Update>& updates);
  void use_overlay(Overlay overlay);
  // Throws kFormat when the update is not for these memory layers.
  void check_fits(const Update& update) const;
  // That overlay, without putting it in place: for trying a state. Throws as set_overlay does.
  Overlay make_overlay(std::span<const Update* const> updates) const;
  // The overlay with `update` on trial. Throws as set_overlay does, and kInternal when one is on
  // trial already.
  Overlay overlay_with(const Update& update) const;
  // The overlay that the ledger says, from the state file (ledger/state_file.h) where that is at
  // hand, else from the update files: the same bits. Throws as Ledger::load and set_overlay do.
  Overlay load_overlay(const Ledger& ledger, bool from_updates = false) const;
  // From the state file alone, whose tables it takes.
  Overlay overlay_of(StateFile& state) const;
  // One more update on top of the overlay: the same bits as set_overlay of all of them. Throws
  // kFormat and leaves the overlay as it was.
  void add_update(const Update& update);

  // SHA-256 over every tensor of the base: name, type, shape, bytes, sorted by name.
  std::string base_digest() const;
  // The same, then the memory layers' tensors and the overlay's rows. Equal digests: equal models.
  std::string state_digest() const;

  // Prompt text for a question: in the chat template unless `raw` or the model has none. Throws
  // kUnsupported when it has one that is not known: never a guess.
  std::string prompt_text(const std::string& prompt, bool raw) const;
  bool uses_chat(bool raw) const;
  // What a completion becomes after that prompt: followed by the end of turn in a chat; with one
  // space before it in raw text unless either brings its own.
  std::string completion_text(const std::string& prompt, const std::string& completion,
                              bool raw) const;
  // Ids that end a turn or text.
  std::vector<int64_t> stop_ids() const;

 private:
  // `given` null: the folder's own ledger, as it is now.
  static LanguageModel open(const std::filesystem::path& folder, const OpenOptions& options,
                            const Ledger* given, std::vector<UpdateRecord> records);

  std::filesystem::path folder_;
  std::string state_;
  std::optional<std::string> beneath_;  // of an overlay: the name of the state beneath
  Transformer net_;
  Tokenizer tokenizer_ = Tokenizer();
  std::optional<ChatTemplate> chat_;
  std::optional<Error> unknown_chat_;
  std::optional<Memory> memory_;
  std::shared_ptr<const FactMemory> facts_;
};

// The folder's model in the state that these updates of its ledger make: opened for that, or one
// that is open put into that state.
using ModelInState =
    std::function<LanguageModel(const Ledger& ledger, const std::vector<UpdateRecord>& active)>;
ModelInState open_in_state(const std::filesystem::path& folder, const OpenOptions& options);

at::Device parse_device(const std::string& name);
at::ScalarType parse_dtype(const std::string& name);

}  // namespace accrete
