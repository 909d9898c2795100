// A model's memory of facts that are addressed by the question: the reader, what was taught, and
// how an accepted fact is told to the model. It is a value: what is taught makes another one.
//
// On disk: `accrete/memory.json` of kind "questions" and the reader's folder `accrete/reader/`
// (docs/formats.md); what was taught is in the update files.
//
// An overlay's memory has two stores: its own, which is asked first, and beneath it the one that
// all share. Where no fact of its own is accepted the shared store decides as it does alone, to the
// bit; nothing of it is copied. Passages of its own come before shared passages, and behind every
// shared fact. What an overlay leaves to the model it leaves to what is beneath.
//
// Non-goals: teaching (learn/), the ledger's order (ledger/).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ledger/ledger.h"
#include "memory/fact_store.h"
#include "memory/readings.h"
#include "model/fact_sites.h"
#include "model/reader.h"

namespace accrete {

// How the model is told an accepted fact.
enum class Tell {
  kValue,  // by the fact's vectors
  kNote,   // by a note in front of the question
  kBoth,   // by vectors that were learned with the note there
};
std::string tell_name(Tell tell);
// Throws kInvalidArgument.
Tell parse_tell(const std::string& name);

// What memory.json says.
struct FactMemoryInfo {
  FactSites sites;
  Tell tell = Tell::kValue;
  double caution = 0;
  std::string reader_digest;
};
void save_fact_memory(const std::filesystem::path& folder, const FactMemoryInfo& info,
                      const nlohmann::json& more);
// Whether the folder's memory is of this kind.
bool has_fact_memory(const std::filesystem::path& folder);
// Throws kFormat, kUnsupported.
FactMemoryInfo load_fact_memory_info(const std::filesystem::path& folder, int64_t blocks);

// The facts of these updates, in order. Throws as Ledger::load does.
FactStore load_facts(const Ledger& ledger, std::span<const UpdateRecord> active);

class FactMemory {
 public:
  FactMemory(std::filesystem::path folder, FactMemoryInfo info);

  const FactMemoryInfo& info() const { return info_; }
  // What is taught goes into this one: of an overlay its own.
  const FactStore& store() const { return *store_; }
  // Of an overlay what is beneath; null: this is none.
  const FactStore* shared() const { return shared_.get(); }
  // The same reader and settings with another store, over what is beneath.
  FactMemory with(FactStore store) const;
  // An overlay with these facts over this memory's store.
  FactMemory overlaid(FactStore own) const;
  // Without what is beneath; what is beneath, alone; with no facts at all.
  FactMemory alone() const;
  FactMemory beneath() const;
  FactMemory untaught() const;
  // The facts of both stores, as a Choice names them: those of store(), behind them the shared.
  int64_t size() const;
  const StoredFact& fact(int64_t i) const;
  bool is_shared(int64_t fact) const { return shared_ != nullptr && fact >= store_->size(); }
  // With one more update. Throws kFormat.
  FactMemory plus(const std::string& update_id, Update update) const;

  // Opened at its first use. Throws kNotFound, kFormat, kConflict (not the one of the keys).
  const Reader& reader() const;
  // Of each question what it asks for; `more_caution` is added to the model's own.
  std::vector<Choice> choose(std::span<const Question> questions, double more_caution = 0) const;
  // [vectors, d] float32.
  at::Tensor vectors(int64_t fact) const;

 private:
  struct LazyReader;
  std::vector<Choice> choose_in(const FactStore& store, std::span<const Question> questions,
                                double caution) const;
  std::vector<Choice> choose_each(const FactStore& store, std::span<const Reading> readings,
                                  double caution) const;
  std::filesystem::path folder_;
  FactMemoryInfo info_;
  std::shared_ptr<LazyReader> reader_;
  std::shared_ptr<const FactStore> store_, shared_;
};

}  // namespace accrete
