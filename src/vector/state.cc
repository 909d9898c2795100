#include "vector/state.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/safetensors.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSumsFormat = "accrete-sums/1";

fs::path sums_path(const VectorPlace& place) {
  return place.folder / "accrete" / kSumsFile;
}

VectorSums empty_sums(const VectorPlace& place) {
  VectorSums sums(place.memory.columns, place.first);
  if (place.background) sums.add(place.background->vectors);
  return sums;
}

std::string key_of(const VectorPlace& place) {
  return accrete::format("{} {} {} {} {} {}", place.memory.base_digest, place.memory.columns,
                         place.memory.winners, place.memory.ridge, place.memory.seed,
                         place.memory.background);
}

void add_seen(SeenRows& seen, const std::string& id, const UpdateVectors& update) {
  for (size_t i = 0; i < update.inputs.size(); ++i)
    seen.emplace(update.inputs[i],
                 SeenRow{id, update.outputs[static_cast<size_t>(update.classes[i])],
                         static_cast<int64_t>(i)});
}

template <typename T>
std::vector<T> copied(const TensorView& view) {
  std::vector<T> out(view.bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), view.bytes.data(), view.bytes.size());
  return out;
}

// The file, where it is whole and of this memory; else an empty one. What is damaged is not there.
class SavedState {
 public:
  explicit SavedState(const VectorPlace& place) : place_(place) {
    try {
      file_.emplace(SafetensorsFile::open(sums_path(place)));
      names_ = nlohmann::json::parse(file_->metadata().at("state"));
      good_ = file_->metadata().at("format") == kSumsFormat && names_.at("of") == key_of(place);
      if (good_) ids_ = names_.at("updates").get<std::set<std::string>>();
    } catch (const std::exception&) {
      good_ = false;
    }
  }

  const std::set<std::string>& ids() const { return ids_; }
  bool good() const { return good_; }

  // nullopt: they are damaged.
  std::optional<VectorState> values() const {
    try {
      VectorState state;
      state.ids = ids_;
      state.outputs = names_.at("outputs").get<std::vector<std::string>>();
      const TensorView& view = checked("values");
      state.values =
          at::from_blob(const_cast<std::byte*>(view.bytes.data()),
                        {place_.memory.columns, static_cast<int64_t>(state.outputs.size())},
                        at::kFloat)
              .clone();
      if (view.bytes.size() != state.values.nbytes()) return std::nullopt;
      return state;
    } catch (const std::exception&) {
      return std::nullopt;
    }
  }

  // Into `state`, which has values; false: they are damaged.
  bool add_sums(VectorState& state) const {
    try {
      const int64_t n = place_.memory.columns;
      auto gram = copied<double>(checked("gram"));
      const auto all = copied<double>(checked("cross"));
      const auto users = names_.at("users").get<std::vector<int64_t>>();
      if (gram.size() != half_row(n, n) || users.size() != state.outputs.size() ||
          all.size() != users.size() * static_cast<size_t>(n))
        return false;
      std::vector<std::vector<double>> cross;
      for (size_t c = 0; c < users.size(); ++c)
        cross.emplace_back(all.begin() + static_cast<int64_t>(c) * n,
                           all.begin() + static_cast<int64_t>(c + 1) * n);
      state.sums = std::make_shared<const VectorSums>(
          VectorSums::restore(n, place_.first, names_.at("rows").get<int64_t>(), std::move(gram),
                              state.outputs, users, cross));
      auto seen = std::make_shared<SeenRows>();
      if (file_->find("seen") != nullptr) {
        const auto inputs = copied<int64_t>(checked("seen"));
        const auto where = copied<int32_t>(checked("seen_where"));
        const auto updates = names_.at("updates").get<std::vector<std::string>>();
        if (where.size() != 3 * inputs.size()) return false;
        for (size_t i = 0; i < inputs.size(); ++i)
          seen->emplace(inputs[i], SeenRow{updates.at(static_cast<size_t>(where[3 * i])),
                                           state.outputs.at(static_cast<size_t>(where[3 * i + 1])),
                                           where[3 * i + 2]});
      }
      state.seen = seen;
      return true;
    } catch (const std::exception&) {
      return false;
    }
  }

 private:
  const TensorView& checked(const char* name) const {
    const TensorView& view = file_->at(name);
    if (sha256_hex(view.bytes) != file_->metadata().at(std::string("sha256.") + name))
      throw Error(ErrorCode::kFormat, "damaged");
    return view;
  }

  const VectorPlace& place_;
  std::optional<SafetensorsFile> file_;
  nlohmann::json names_;
  std::set<std::string> ids_;
  bool good_ = false;
};

std::set<std::string> ids_of(const std::vector<UpdateRecord>& active) {
  std::set<std::string> ids;
  for (const auto& record : active) ids.insert(record.id);
  return ids;
}

// How many updates differ.
size_t distance(const std::set<std::string>& a, const std::set<std::string>& b) {
  size_t n = 0;
  for (const auto& id : a) n += !b.contains(id);
  for (const auto& id : b) n += !a.contains(id);
  return n;
}

// `from`, which has its sums, made the state of these updates.
VectorState move_state(const VectorPlace& place, const Ledger& ledger,
                       const std::set<std::string>& wanted, const VectorState& from) {
  VectorSums sums = *from.sums;
  auto seen = std::make_shared<SeenRows>(*from.seen);
  bool gone = false;
  for (const auto& id : from.ids)
    if (!wanted.contains(id)) {
      sums.take_away(ledger.load(id).vectors);
      gone = true;
    }
  if (gone)
    std::erase_if(*seen, [&](const auto& row) { return !wanted.contains(row.second.update); });
  for (const auto& id : wanted)
    if (!from.ids.contains(id)) {
      const Update update = ledger.load(id);
      sums.add(update.vectors);
      add_seen(*seen, id, update.vectors);
    }
  VectorState out;
  out.ids = wanted;
  out.outputs = sums.outputs();
  out.values = sums.solve(place.memory.ridge);
  out.sums = std::make_shared<const VectorSums>(std::move(sums));
  out.seen = std::move(seen);
  return out;
}

}  // namespace

VectorState make_state(const VectorPlace& place, const Ledger& ledger,
                       const std::vector<UpdateRecord>& active, bool with_sums,
                       const VectorState* known) {
  const std::set<std::string> wanted = ids_of(active);
  if (known != nullptr && known->ids == wanted && (known->sums || !with_sums)) return *known;
  const SavedState saved(place);
  if (saved.good() && saved.ids() == wanted)
    if (auto state = saved.values(); state && (!with_sums || saved.add_sums(*state))) return *state;
  // The nearest of what is at hand, in memory, in the file, or nothing.
  VectorState from;
  const bool from_known =
      known != nullptr && known->sums &&
      (!saved.good() || distance(known->ids, wanted) <= distance(saved.ids(), wanted));
  if (from_known) {
    from = *known;
  } else if (saved.good()) {
    auto state = saved.values();
    if (state && saved.add_sums(*state)) from = std::move(*state);
  }
  if (!from.sums || distance(from.ids, wanted) > wanted.size()) {
    from = {};
    from.sums = std::make_shared<const VectorSums>(empty_sums(place));
    from.seen = std::make_shared<const SeenRows>();
  }
  return move_state(place, ledger, wanted, from);
}

VectorState add_update(const VectorPlace& place, const VectorState& before, const std::string& id,
                       const UpdateVectors& update) {
  VectorSums sums = *before.sums;
  sums.add(update);
  auto seen = std::make_shared<SeenRows>(*before.seen);
  add_seen(*seen, id, update);
  VectorState out;
  out.ids = before.ids;
  out.ids.insert(id);
  out.outputs = sums.outputs();
  out.values = sums.solve(place.memory.ridge);
  out.sums = std::make_shared<const VectorSums>(std::move(sums));
  out.seen = std::move(seen);
  return out;
}

VectorSums sums_of_files(const VectorPlace& place, const Ledger& ledger,
                         const std::vector<UpdateRecord>& active) {
  VectorSums sums = empty_sums(place);
  for (const auto& record : active) sums.add(ledger.load(record.id).vectors);
  return sums;
}

void save_state(const VectorPlace& place, const VectorState& state) {
  const VectorSums& sums = *state.sums;
  const std::vector<std::string> updates(state.ids.begin(), state.ids.end());
  std::vector<double> cross;
  std::vector<int64_t> users, seen;
  for (const auto& output : state.outputs) {
    cross.insert(cross.end(), sums.cross(output).begin(), sums.cross(output).end());
    users.push_back(sums.users(output));
  }
  std::vector<int32_t> where;
  for (const auto& [input, row] : *state.seen) {
    const auto index = [](const std::vector<std::string>& all, const std::string& one) {
      return static_cast<int32_t>(std::find(all.begin(), all.end(), one) - all.begin());
    };
    seen.push_back(input);
    where.insert(where.end(), {index(updates, row.update), index(state.outputs, row.label),
                               static_cast<int32_t>(row.row)});
  }
  const nlohmann::json names = {{"of", key_of(place)},
                                {"updates", updates},
                                {"outputs", state.outputs},
                                {"users", users},
                                {"rows", sums.rows()}};
  Metadata metadata = {{"format", kSumsFormat}, {"state", names.dump()}};
  std::vector<TensorView> views;
  const auto add = [&](const char* name, DType dtype, std::vector<int64_t> shape,
                       std::span<const std::byte> bytes) {
    metadata[std::string("sha256.") + name] = sha256_hex(bytes);
    views.push_back({name, dtype, std::move(shape), bytes});
  };
  const auto outputs = static_cast<int64_t>(state.outputs.size());
  const int64_t n = place.memory.columns;
  add("gram", DType::kF64, {static_cast<int64_t>(sums.gram().size())},
      std::as_bytes(std::span(sums.gram())));
  add("cross", DType::kF64, {outputs, n}, std::as_bytes(std::span(cross)));
  if (!seen.empty()) {
    const auto rows = static_cast<int64_t>(seen.size());
    add("seen", DType::kI64, {rows}, std::as_bytes(std::span(seen)));
    add("seen_where", DType::kI32, {rows, 3}, std::as_bytes(std::span(where)));
  }
  const at::Tensor values = state.values.contiguous();
  add("values", DType::kF32, {n, outputs},
      {static_cast<const std::byte*>(values.data_ptr()), values.nbytes()});
  write_safetensors(sums_path(place), views, metadata);
}

}  // namespace accrete
