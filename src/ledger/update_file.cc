#include "ledger/update_file.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/sha256.h"
#include "io/utf8.h"

namespace accrete {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little-endian");

constexpr std::string_view kIndices = ".indices";
constexpr std::string_view kDelta = ".delta";
constexpr std::string_view kAnchors = "gate.anchors";
constexpr std::string_view kTextAnchors = "gate.text_anchors";
constexpr std::string_view kParts = "gate.parts";
constexpr std::string_view kTaughtSlots = "taught.slots";
constexpr std::string_view kTaughtWeights = "taught.weights";
constexpr std::string_view kTaughtOwner = "taught.owner";
constexpr std::string_view kTaughtItems = "taught.items";
constexpr size_t kIdDigits = 16;
// No transformer comes near; it keeps block numbers canonical and far from overflow.
constexpr int kMaxBlock = 1 << 20;

[[noreturn]] void refuse(std::string_view source, std::string_view what) {
  throw Error(ErrorCode::kFormat, accrete::format("{}: {}", source, what),
              "the update file is damaged, was changed, or is not one of accrete's; get it again");
}

[[noreturn]] void invalid(const std::string& what) {
  throw Error(ErrorCode::kInvalidArgument, "cannot write an update: " + what);
}

bool strictly_ascending_slots(std::span<const int64_t> indices) {
  return indices.front() >= 0 && std::adjacent_find(indices.begin(), indices.end(),
                                                    std::greater_equal<>()) == indices.end();
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

bool ascends_from_0_without_a_gap(std::span<const int32_t> numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    const int32_t before = i == 0 ? 0 : numbers[i - 1];
    if (numbers[i] != before && (i == 0 || numbers[i] != before + 1)) return false;
  }
  return true;
}

// Empty when rows and anchors name the same parts, else what does not fit.
std::string parts_fault(const Update& update) {
  const GateAnchors& anchors = update.anchors;
  if (!anchors.parts.empty()) {
    if (anchors.parts.size() * static_cast<size_t>(anchors.width) != anchors.queries.size())
      return "gate.parts has not one entry an anchor";
    if (!ascends_from_0_without_a_gap(anchors.parts))
      return "gate.parts does not ascend from 0 without a gap";
  }
  const int64_t parts = parts_of(update);
  for (const LayerDelta& layer : update.layers) {
    if (part_of(layer.indices.back()) >= parts)
      return accrete::format("block {} has rows of part {} of {}", layer.block,
                             part_of(layer.indices.back()), parts);
    for (const int64_t key : layer.indices)
      if (slot_of(key) > std::numeric_limits<int32_t>::max())
        return accrete::format("block {}: slot {} is out of range", layer.block, slot_of(key));
  }
  return {};
}

// How many of layers, facts and vectors it has: one.
int kinds_of(const Update& update) {
  return !update.layers.empty() + !update.facts.empty() + !update.vectors.empty();
}

void check_writable(const Update& update) {
  if (kinds_of(update) != 1) invalid("it has not just one of layers, facts and vectors");
  if (const std::string what = fault(update.vectors); !what.empty()) invalid(what);
  if (const std::string what = fault(update.facts, update.taught.items); !what.empty())
    invalid(what);
  int previous = -1;
  for (const LayerDelta& layer : update.layers) {
    if (layer.block <= previous) invalid("its blocks are not ascending from 0");
    if (layer.block > kMaxBlock) invalid(accrete::format("there is no block {}", layer.block));
    previous = layer.block;
    if (layer.indices.empty()) invalid(accrete::format("block {} has no rows", layer.block));
    if (!strictly_ascending_slots(layer.indices))
      invalid(accrete::format("block {}: slot ids are not strictly ascending from 0", layer.block));
    // Divided rather than multiplied: the product may overflow.
    if (layer.width <= 0 || layer.delta.size() % layer.indices.size() != 0 ||
        layer.delta.size() / layer.indices.size() != static_cast<size_t>(layer.width))
      invalid(accrete::format("block {}: {} values are not {} rows of width {}", layer.block,
                              layer.delta.size(), layer.indices.size(), layer.width));
    if (!all_finite(layer.delta))
      invalid(accrete::format("block {} holds values that are not finite", layer.block));
  }
  const GateAnchors& anchors = update.anchors;
  if (!anchors.queries.empty() &&
      (anchors.width <= 0 || anchors.queries.size() % static_cast<size_t>(anchors.width) != 0))
    invalid(accrete::format("{} values are no gate anchors of width {}", anchors.queries.size(),
                            anchors.width));
  if (!all_finite(anchors.queries)) invalid("its gate anchors are not finite");
  if (const std::string what = parts_fault(update); !what.empty()) invalid(what);
  if (const std::string what = fault(update.taught); !what.empty()) invalid(what);
  for (const auto& [key, value] : update.metadata) {
    if (key == kUpdateFormatKey) invalid(accrete::format("the metadata key '{}' is reserved", key));
    if (!is_utf8(key) || !is_utf8(value)) invalid("its metadata is not UTF-8");
  }
}

// `items` and `names` are what the views of the taught items and of the outputs' names point into.
std::vector<TensorView> tensor_views(const Update& update, const std::string& items,
                                     const std::string& names, bool with_values) {
  // All indices before all deltas, so that every tensor starts at a multiple of its element's size.
  std::vector<TensorView> views;
  for (const LayerDelta& layer : update.layers)
    views.push_back({std::to_string(layer.block) + std::string(kIndices),
                     DType::kI64,
                     {static_cast<int64_t>(layer.indices.size())},
                     std::as_bytes(std::span(layer.indices))});
  for (const LayerDelta& layer : update.layers) {
    if (!with_values) continue;
    views.push_back({std::to_string(layer.block) + std::string(kDelta),
                     DType::kF32,
                     {static_cast<int64_t>(layer.indices.size()), layer.width},
                     std::as_bytes(std::span(layer.delta))});
  }
  if (const GateAnchors& a = update.anchors; !a.queries.empty())
    views.push_back({std::string(a.text ? kTextAnchors : kAnchors),
                     DType::kF32,
                     {static_cast<int64_t>(a.queries.size()) / a.width, a.width},
                     std::as_bytes(std::span(a.queries))});
  if (const GateAnchors& a = update.anchors; !a.parts.empty())
    views.push_back({std::string(kParts),
                     DType::kI32,
                     {static_cast<int64_t>(a.parts.size())},
                     std::as_bytes(std::span(a.parts))});
  const Taught& t = update.taught;
  if (!t.slots.empty()) {
    views.push_back(
        {std::string(kTaughtOwner), DType::kI32, {t.tokens()}, std::as_bytes(std::span(t.owner))});
    views.push_back({std::string(kTaughtSlots),
                     DType::kI32,
                     {t.tokens(), t.per_token},
                     std::as_bytes(std::span(t.slots))});
    views.push_back({std::string(kTaughtWeights),
                     DType::kF16,
                     {t.tokens(), t.per_token},
                     std::as_bytes(std::span(t.weights))});
  }
  append_tensors(update.facts, views);
  append_tensors(update.vectors, names, views);
  if (!items.empty())
    views.push_back({std::string(kTaughtItems),
                     DType::kU8,
                     {static_cast<int64_t>(items.size())},
                     std::as_bytes(std::span(items))});
  return views;
}

// "12.indices" -> 12 for the suffix ".indices"; -1 if the name is another.
int block_of(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return -1;
  name.remove_suffix(suffix.size());
  int block = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), block);
  // Printed again: refuses "+1", "01" and the like, which would give one block two names.
  if (error != std::errc() || block < 0 || block > kMaxBlock || std::to_string(block) != name)
    return -1;
  return block;
}

template <typename T>
std::vector<T> copy_values(const TensorView& view) {
  std::vector<T> values(view.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), view.bytes.data(), values.size() * sizeof(T));
  return values;
}

LayerDelta parse_indices(int block, const TensorView& indices, std::string_view source) {
  if (indices.dtype != DType::kI64 || indices.shape.size() != 1 || indices.shape[0] < 1)
    refuse(source, accrete::format("{} is not I64 [t] with t >= 1", indices.name));
  LayerDelta layer;
  layer.block = block;
  layer.indices = copy_values<int64_t>(indices);
  if (!strictly_ascending_slots(layer.indices))
    refuse(source, accrete::format("{} is not strictly ascending from 0", indices.name));
  return layer;
}

LayerDelta parse_layer(int block, const TensorView& indices, const TensorView& delta,
                       std::string_view source) {
  LayerDelta layer = parse_indices(block, indices, source);
  if (delta.dtype != DType::kF32 || delta.shape.size() != 2 || delta.shape[0] != indices.shape[0] ||
      delta.shape[1] < 1)
    refuse(source,
           accrete::format("{} is not F32 [t, d] with the t of {}", delta.name, indices.name));
  layer.width = delta.shape[1];
  layer.delta = copy_values<float>(delta);
  if (!all_finite(layer.delta))
    refuse(source, accrete::format("{} holds values that are not finite", delta.name));
  return layer;
}

void parse_anchors(const TensorView& tensor, std::string_view source, GateAnchors& anchors) {
  if (!anchors.queries.empty()) refuse(source, "it has gate anchors of both kinds");
  if (tensor.dtype != DType::kF32 || tensor.shape.size() != 2 || tensor.shape[0] < 1 ||
      tensor.shape[1] < 1)
    refuse(source, accrete::format("{} is not F32 [m, width] with m >= 1", tensor.name));
  anchors.width = tensor.shape[1];
  anchors.queries = copy_values<float>(tensor);
  anchors.text = tensor.name == kTextAnchors;
  if (!all_finite(anchors.queries))
    refuse(source, accrete::format("{} holds values that are not finite", tensor.name));
}

std::vector<int32_t> parse_numbers(const TensorView& tensor, std::string_view source) {
  if (tensor.dtype != DType::kI32 || tensor.shape.size() != 1 || tensor.shape[0] < 1)
    refuse(source, accrete::format("{} is not I32 [m] with m >= 1", tensor.name));
  return copy_values<int32_t>(tensor);
}

// The four tensors of what was taught, as far as they are there.
struct TaughtTensors {
  const TensorView* slots = nullptr;
  const TensorView* weights = nullptr;
  const TensorView* owner = nullptr;
  const TensorView* items = nullptr;
};

Taught parse_taught(const TaughtTensors& tensors, std::string_view source) {
  Taught taught;
  if (tensors.items != nullptr) {
    if (tensors.items->dtype != DType::kU8 || tensors.items->shape.size() != 1)
      refuse(source, "taught.items is not U8 [bytes]");
    const auto& bytes = tensors.items->bytes;
    taught.items =
        taught_items_from_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, source);
  }
  if (tensors.slots == nullptr && tensors.weights == nullptr && tensors.owner == nullptr)
    return taught;
  if (tensors.slots == nullptr || tensors.weights == nullptr || tensors.owner == nullptr)
    refuse(source, "it has not all of taught.slots, taught.weights and taught.owner");
  if (tensors.owner->dtype != DType::kI32 || tensors.owner->shape.size() != 1 ||
      tensors.owner->shape[0] < 1)
    refuse(source, "taught.owner is not I32 [n] with n >= 1");
  const int64_t n = tensors.owner->shape[0];
  for (const TensorView* t : {tensors.slots, tensors.weights})
    if (t->dtype != (t == tensors.slots ? DType::kI32 : DType::kF16) || t->shape.size() != 2 ||
        t->shape[0] != n || t->shape[1] < 1 || t->shape != tensors.slots->shape)
      refuse(source,
             accrete::format("{} is not I32 or F16 [n, K] with the n of taught.owner", t->name));
  taught.per_token = tensors.slots->shape[1];
  taught.slots = copy_values<int32_t>(*tensors.slots);
  taught.weights = copy_values<uint16_t>(*tensors.weights);
  taught.owner = copy_values<int32_t>(*tensors.owner);
  if (const std::string what = fault(taught); !what.empty()) refuse(source, what);
  return taught;
}

void check_format(Metadata& metadata, std::string_view source) {
  const auto format = metadata.find(std::string(kUpdateFormatKey));
  if (format == metadata.end()) refuse(source, "it is not an update file (no format is named)");
  if (format->second != kUpdateFormat) {
    const std::string family(kUpdateFormat.substr(0, kUpdateFormat.find('/') + 1));
    if (format->second.starts_with(family))
      throw Error(ErrorCode::kUnsupported,
                  accrete::format("{}: its format {} is not {}", source, shown(format->second),
                                  kUpdateFormat),
                  "a newer accrete wrote it: update this one");
    refuse(source, "it is a safetensors file, but not an update");
  }
  metadata.erase(format);
}

Update parse(std::span<const std::byte> bytes, std::string_view source, bool with_values,
             bool with_taught) {
  Update update;
  std::vector<TensorView> tensors;
  parse_safetensors(bytes, source, tensors, update.metadata);
  check_format(update.metadata, source);

  struct Pair {
    const TensorView* indices = nullptr;
    const TensorView* delta = nullptr;
  };
  std::map<int, Pair> blocks;
  TaughtTensors taught;
  const TensorView* parts = nullptr;
  for (const TensorView& tensor : tensors) {
    if (const int block = block_of(tensor.name, kIndices); block >= 0)
      blocks[block].indices = &tensor;
    else if (const int other = block_of(tensor.name, kDelta); other >= 0)
      blocks[other].delta = &tensor;
    else if (tensor.name == kAnchors || tensor.name == kTextAnchors)
      parse_anchors(tensor, source, update.anchors);
    else if (tensor.name == kParts)
      parts = &tensor;
    else if (tensor.name == kTaughtSlots)
      taught.slots = &tensor;
    else if (tensor.name == kTaughtWeights)
      taught.weights = &tensor;
    else if (tensor.name == kTaughtOwner)
      taught.owner = &tensor;
    else if (tensor.name == kTaughtItems)
      taught.items = &tensor;
    else if (tensor.name == "gate.subjects" || tensor.name.starts_with("scope."))
      throw Error(
          ErrorCode::kUnsupported,
          accrete::format("{}: it has a scope, as updates of an earlier accrete had", source),
          "run `accrete upgrade OLD NEW` on its model: what it was taught is taught again");
    else if (!take_tensor(tensor, source, update.facts) &&
             !take_tensor(tensor, source, update.vectors))
      refuse(source, accrete::format("an update has no tensor {}", shown(tensor.name)));
  }
  const int kinds = !blocks.empty() + !update.facts.empty() + !update.vectors.empty();
  if (kinds > 1 || (kinds == 0 && with_values))
    refuse(source, "it has not just one of layers, facts and vectors");
  if (const std::string what = fault(update.vectors); !what.empty()) refuse(source, what);
  for (const auto& [block, pair] : blocks) {
    if (pair.indices == nullptr || (pair.delta == nullptr) == with_values)
      refuse(source, accrete::format("block {} has not just its indices{}", block,
                                     with_values ? " and delta" : ""));
    update.layers.push_back(with_values ? parse_layer(block, *pair.indices, *pair.delta, source)
                                        : parse_indices(block, *pair.indices, source));
  }
  if (parts != nullptr) {
    if (update.anchors.queries.empty()) refuse(source, "it has parts but no gate anchors");
    update.anchors.parts = parse_numbers(*parts, source);
  }
  if (const std::string what = parts_fault(update); !what.empty()) refuse(source, what);
  if (with_taught || !update.facts.empty()) update.taught = parse_taught(taught, source);
  if (const std::string what = fault(update.facts, update.taught.items); !what.empty())
    refuse(source, what);
  return update;
}

}  // namespace

Reach reach_of(const Update& update) {
  if (update.anchors.queries.empty()) return Reach::kEverywhere;
  return update.anchors.text ? Reach::kText : Reach::kSubjects;
}

int64_t rows_of(const Update& update) {
  int64_t rows = update.facts.keys() + update.vectors.rows;
  for (const int32_t n : update.facts.vectors) rows += n;
  for (const LayerDelta& layer : update.layers) rows += static_cast<int64_t>(layer.indices.size());
  // What only takes facts away is written all the same.
  if (rows == 0) rows = update.facts.facts();
  return rows;
}

int64_t parts_of(const Update& update) {
  return update.anchors.parts.empty() ? 1 : int64_t{update.anchors.parts.back()} + 1;
}

bool is_update_id(std::string_view text) {
  return text.size() == kIdDigits &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string update_file_name(std::string_view id) {
  return std::string(id) + ".safetensors";
}

StagedUpdate::StagedUpdate(const std::filesystem::path& folder, const Update& update)
    : folder_(folder) {
  check_writable(update);
  Metadata metadata = update.metadata;
  metadata.emplace(kUpdateFormatKey, kUpdateFormat);
  temporary_ = create_temporary_beside(folder / "staged.safetensors");
  try {
    write_safetensors(temporary_,
                      tensor_views(update, taught_items_to_text(update.taught.items),
                                   names_of(update.vectors), true),
                      metadata);
    id_ = sha256_hex(MappedFile(temporary_).bytes()).substr(0, kIdDigits);
  } catch (...) {  // the destructor does not run when a constructor throws
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
    throw;
  }
}

StagedUpdate::~StagedUpdate() {
  std::error_code ignored;
  if (!temporary_.empty()) std::filesystem::remove(temporary_, ignored);
}

void StagedUpdate::publish() {
  publish_as(folder_ / update_file_name(id_));
}

void StagedUpdate::publish_as(const std::filesystem::path& file) {
  rename_durably(temporary_, file);
  temporary_.clear();
}

std::string write_update(const std::filesystem::path& folder, const Update& update) {
  StagedUpdate staged(folder, update);
  staged.publish();
  return staged.id();
}

std::string outline_bytes(const Update& update) {
  return safetensors_bytes("an outline",
                           tensor_views(update, taught_items_to_text(update.taught.items),
                                        names_of(update.vectors), false),
                           {{std::string(kUpdateFormatKey), std::string(kUpdateFormat)}});
}

Update parse_update(std::span<const std::byte> bytes, std::string_view source,
                    const std::string& expected_id) {
  if (!expected_id.empty()) {
    const std::string id = sha256_hex(bytes).substr(0, kIdDigits);
    if (id != expected_id)
      refuse(source, accrete::format("its content has the id {}, not {}", id, expected_id));
  }
  return parse(bytes, source, true, true);
}

Update parse_outline(std::span<const std::byte> bytes, std::string_view source, bool with_taught) {
  return parse(bytes, source, false, with_taught);
}

Update read_update(const std::filesystem::path& file, const std::string& expected_id) {
  const MappedFile mapped(file);
  return parse_update(mapped.bytes(), file.string(), expected_id);
}

}  // namespace accrete
