#include "model/state_digest.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/sha256.h"
#include "io/safetensors.h"
#include "model/fact_memory.h"

namespace accrete {
namespace {

// Tensors one after the other: name, type, shape, bytes.
class Digest {
 public:
  void tensor(std::string_view name, std::string_view dtype, std::span<const int64_t> shape,
              std::span<const std::byte> bytes) {
    head(name, dtype, shape);
    hash_.update(bytes);
  }
  void tensor(const std::string& name, const at::Tensor& tensor) {
    const auto t = tensor.to(at::kCPU, at::kFloat).contiguous();
    this->tensor(name, "F32", {t.sizes().data(), static_cast<size_t>(t.dim())},
                 {static_cast<const std::byte*>(t.data_ptr()), t.nbytes()});
  }
  void ids(const std::string& name, std::span<const int64_t> ids) {
    const auto count = static_cast<int64_t>(ids.size());
    tensor(name, "I64", {&count, 1}, std::as_bytes(ids));
  }
  // For who brings the bytes in pieces.
  void head(std::string_view name, std::string_view dtype, std::span<const int64_t> shape) {
    hash_.update(accrete::format("{}\n{}\n{}\n", name, dtype, accrete::joined(shape, ",")));
  }
  void bytes(std::span<const std::byte> bytes) { hash_.update(bytes); }
  void text(std::string_view text) { hash_.update(text); }
  std::string hex() { return hash_.hex(); }

 private:
  Sha256 hash_;
};

void add_memory(Digest& digest, const Memory& memory) {
  for (const auto& [name, tensor] : memory.keys.tensors()) digest.tensor("memory." + name, tensor);
}

std::string prefix(int64_t block) {
  return accrete::format("overlay.{}.", block);
}

void add_open(Digest& digest, int64_t block, const SparseRows& rows) {
  if (rows.empty()) return;
  digest.ids(prefix(block) + "open.slots", rows.slots);
  digest.tensor(prefix(block) + "open.values", rows.ordered_values());
}

constexpr std::pair<Reach, const char*> kKinds[] = {{Reach::kSubjects, "gated"},
                                                    {Reach::kText, "text"}};

void add_parts(Digest& digest, int64_t block, const char* kind, const PartRows& rows) {
  if (rows.empty()) return;
  digest.ids(prefix(block) + kind + ".keys", rows.key_span());
  const int64_t n = rows.size(), width = rows.values.size(1);
  const int64_t shape[] = {n, width};
  digest.head(prefix(block) + kind + ".values", "F32", shape);
  // In pieces: they may lie in a file that is larger than memory.
  constexpr int64_t kRows = 1 << 14;
  for (int64_t at = 0; at < n; at += kRows) {
    const int64_t count = std::min(kRows, n - at);
    const auto some =
        (rows.places.defined() ? rows.values.index_select(0, rows.places.narrow(0, at, count))
                               : rows.values.narrow(0, at, count))
            .to(at::kCPU)
            .contiguous();
    digest.bytes({static_cast<const std::byte*>(some.const_data_ptr()), some.nbytes()});
  }
}

void add_anchors(Digest& digest, const Overlay& overlay) {
  for (const auto& [name, anchors] :
       {std::pair{"anchors", &overlay.anchors}, {"text_anchors", &overlay.text_anchors}}) {
    if (anchors->parts == 0) continue;
    digest.tensor(accrete::format("overlay.{}", name), anchors->queries.joined());
    const auto part = anchors->part.contiguous();
    digest.ids(accrete::format("overlay.{}.part", name),
               {part.const_data_ptr<int64_t>(), static_cast<size_t>(part.numel())});
  }
}

// Every fact of a store: texts, keys, values.
void digest_store(Digest& digest, const FactStore& store) {
  for (int64_t i = 0; i < store.size(); ++i) {
    const StoredFact& fact = store.fact(i);
    const UpdateFacts& facts = fact.update->facts;
    digest.text("fact " + fact.id + "\n");
    const auto part = [&](const auto& all, int64_t begin, int64_t count) {
      digest.bytes(std::as_bytes(
          std::span(all).subspan(static_cast<size_t>(begin), static_cast<size_t>(count))));
    };
    const int64_t w = facts.key_width;
    part(facts.whole, fact.first_key * w, fact.keys() * w);
    part(facts.masked, fact.first_key * w, fact.keys() * w);
    part(facts.scales, fact.first_key * 2, fact.keys() * 2);
    part(facts.answers, static_cast<int64_t>(fact.item) * w, w);
    part(facts.answer_scales, static_cast<int64_t>(fact.item), 1);
    part(facts.values, fact.first_vector * facts.width, fact.vectors() * facts.width);
  }
}

// Reader and settings, then the facts; of an overlay those beneath, then its own.
void digest_facts(Digest& digest, const FactMemory& memory) {
  const FactMemoryInfo& info = memory.info();
  if (memory.size() == 0) return;  // the base, to the bit
  digest.text(accrete::format("facts {} {} {} {} {} {}\n", info.reader_digest, info.sites.block,
                              info.sites.at_end, info.sites.every, tell_name(info.tell),
                              info.caution));
  if (memory.shared() == nullptr) return digest_store(digest, memory.store());
  digest_store(digest, *memory.shared());
  if (memory.store().empty()) return;
  digest.text("overlay\n");
  digest_store(digest, memory.store());
}

// A gated update: all but its rows' values, and where these lie.
struct Gated {
  Update outline;
  int64_t first_part = 0;
  std::optional<SafetensorsFile> file;
  std::map<int, std::span<const std::byte>> values;  // by block
};

Gated gated(const Ledger& ledger, const std::string& id, Update update, int64_t first_part) {
  Gated out;
  for (LayerDelta& layer : update.layers) std::vector<float>().swap(layer.delta);
  out.outline = std::move(update);
  out.first_part = first_part;
  out.file = SafetensorsFile::open(ledger.folder() / "updates" / update_file_name(id));
  for (const LayerDelta& layer : out.outline.layers)
    out.values[layer.block] = out.file->at(accrete::format("{}.delta", layer.block)).bytes;
  return out;
}

}  // namespace

std::string LanguageModel::base_digest() const {
  Digest digest;
  for (const TensorView* t : net_.base_tensors())
    digest.tensor(t->name, dtype_name(t->dtype), t->shape, t->bytes);
  return digest.hex();
}

std::string LanguageModel::state_digest() const {
  Digest digest;
  digest.text(base_digest());
  if (facts_) digest_facts(digest, *facts_);
  if (!memory_) return digest.hex();
  add_memory(digest, *memory_);
  const Overlay& overlay = memory_->overlay;
  for (const auto& [block, rows] : overlay.by_block) {
    add_open(digest, block, rows.open);
    for (const auto& [reach, kind] : kKinds) add_parts(digest, block, kind, rows.of(reach));
  }
  add_anchors(digest, overlay);
  return digest.hex();
}

std::string state_digest(const LanguageModel& model, const Ledger& ledger) {
  if (model.has_facts()) {
    Digest digest;
    digest.text(model.base_digest());
    digest_facts(digest, model.facts().with(load_facts(ledger, ledger.active())));
    return digest.hex();
  }
  // The updates without a gate are summed in memory, as a model does; of the others the values are
  // hashed where they are.
  std::vector<Update> open;
  std::map<Reach, std::vector<Gated>> parts;
  std::map<Reach, int64_t> count;
  std::vector<int> blocks;
  const int64_t width = model.memory().keys.width();
  for (const UpdateRecord& record : ledger.active()) {
    Update update = ledger.load(record.id);
    model.check_fits(update);
    for (const LayerDelta& layer : update.layers) blocks.push_back(layer.block);
    const Reach reach = reach_of(update);
    if (reach == Reach::kEverywhere) {
      open.push_back(std::move(update));
    } else {
      const int64_t more = parts_of(update);
      parts[reach].push_back(gated(ledger, record.id, std::move(update), count[reach]));
      count[reach] += more;
    }
  }
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  std::vector<const Update*> all;
  for (const Update& update : open) all.push_back(&update);
  Overlay overlay = model.make_overlay(all);
  for (const auto& [reach, kind] : kKinds) {
    std::vector<const Update*> outlines;
    for (const Gated& g : parts[reach]) outlines.push_back(&g.outline);
    overlay.append_anchors(outlines);
  }

  Digest digest;
  digest.text(model.base_digest());
  add_memory(digest, model.memory());
  for (const int block : blocks) {
    if (const auto it = overlay.by_block.find(block); it != overlay.by_block.end())
      add_open(digest, block, it->second.open);
    for (const auto& [reach, kind] : kKinds) {
      std::vector<int64_t> keys;
      for (const Gated& g : parts[reach])
        for (const LayerDelta& layer : g.outline.layers)
          if (layer.block == block)
            for (const int64_t key : layer.indices) keys.push_back(key + row_key(g.first_part, 0));
      if (keys.empty()) continue;
      digest.ids(prefix(block) + kind + ".keys", keys);
      const int64_t shape[] = {static_cast<int64_t>(keys.size()), width};
      digest.head(prefix(block) + kind + ".values", "F32", shape);
      for (const Gated& g : parts[reach])
        if (const auto it = g.values.find(block); it != g.values.end()) digest.bytes(it->second);
    }
  }
  add_anchors(digest, overlay);
  return digest.hex();
}

}  // namespace accrete
