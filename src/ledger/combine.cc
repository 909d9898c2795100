#include "ledger/combine.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"

namespace accrete {
namespace {

[[noreturn]] void widths_differ() {
  throw Error(ErrorCode::kInvalidArgument, "two updates have rows of different width",
              "they were made for different models");
}

// The rows of `parts` added by slot, or with `by_part` by row key: then parts[i] begins with part
// first_part[i].
void add_layer(LayerDelta& sum, std::span<const LayerDelta* const> parts,
               std::span<const int64_t> first_part, bool by_part) {
  const auto name = [&](size_t p, int64_t key) {
    return by_part ? key + row_key(first_part[p], 0) : slot_of(key);
  };
  std::vector<int64_t> names;
  for (size_t p = 0; p < parts.size(); ++p) {
    if (parts[p]->width != sum.width) widths_differ();
    for (const int64_t key : parts[p]->indices) names.push_back(name(p, key));
  }
  if (!by_part) std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  const auto width = static_cast<size_t>(sum.width);
  sum.delta.assign(names.size() * width, 0.0F);
  std::vector<bool> written(names.size(), false);
  for (size_t p = 0; p < parts.size(); ++p)
    for (size_t i = 0; i < parts[p]->indices.size(); ++i) {
      const auto row = static_cast<size_t>(
          std::lower_bound(names.begin(), names.end(), name(p, parts[p]->indices[i])) -
          names.begin());
      if (parts[p]->delta.empty()) continue;  // an outline
      const float* from = parts[p]->delta.data() + i * width;
      float* to = sum.delta.data() + row * width;
      // The first value is taken as it is: 0 + x would lose the sign of -0.
      for (size_t k = 0; k < width; ++k) to[k] = written[row] ? to[k] + from[k] : from[k];
      written[row] = true;
    }
  sum.indices = std::move(names);
}

// With `by_part` the anchors name their parts, which count from `first_part` on.
void add_anchors(GateAnchors& sum, const GateAnchors& more, int64_t first_part, bool by_part) {
  if (more.queries.empty()) return;
  if (sum.width != 0 && sum.width != more.width) widths_differ();
  sum.width = more.width;
  sum.text = more.text;
  sum.queries.insert(sum.queries.end(), more.queries.begin(), more.queries.end());
  if (!by_part) return;
  const size_t count = more.queries.size() / static_cast<size_t>(more.width);
  for (size_t i = 0; i < count; ++i)
    sum.parts.push_back(static_cast<int32_t>(first_part) +
                        (more.parts.empty() ? 0 : more.parts[i]));
}

Update combine(std::span<const Update> updates, bool by_part) {
  Update sum;
  std::map<int, std::vector<const LayerDelta*>> parts;
  std::map<int, std::vector<int64_t>> first_part;
  int64_t part = 0;
  for (const Update& update : updates) {
    for (const LayerDelta& layer : update.layers) {
      parts[layer.block].push_back(&layer);
      first_part[layer.block].push_back(part);
    }
    add_anchors(sum.anchors, update.anchors, part, by_part);
    part += parts_of(update);
  }
  for (const auto& [block, layers] : parts) {
    LayerDelta layer;
    layer.block = block;
    layer.width = layers.front()->width;
    add_layer(layer, layers, first_part[block], by_part);
    sum.layers.push_back(std::move(layer));
  }
  return sum;
}

// `update` itself, or without parts in `room`.
const Update& by_slot(const Update& update, Update& room) {
  if (parts_of(update) == 1) return update;
  room = combine({&update, 1}, false);
  return room;
}

void add_taught(Taught& sum, const Taught& more) {
  const auto first = static_cast<int32_t>(sum.items.size());
  sum.items.insert(sum.items.end(), more.items.begin(), more.items.end());
  if (more.slots.empty()) return;
  if (!sum.slots.empty() && sum.per_token != more.per_token) widths_differ();
  sum.per_token = more.per_token;
  sum.slots.insert(sum.slots.end(), more.slots.begin(), more.slots.end());
  sum.weights.insert(sum.weights.end(), more.weights.begin(), more.weights.end());
  for (const int32_t owner : more.owner) sum.owner.push_back(first + owner);
}

double squared(const float* a, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * a[i];
  return sum;
}

double dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

double squared_difference(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    sum += d * d;
  }
  return sum;
}

// Row by row, not as |a|^2 + |b|^2 - 2 a.b: equal tables differ by exactly nothing.
BlockDifference compare_layers(const LayerDelta* a, const LayerDelta* b) {
  BlockDifference out;
  if (a != nullptr && b != nullptr && a->width != b->width) widths_differ();
  const LayerDelta& some = a != nullptr ? *a : *b;
  const auto width = static_cast<size_t>(some.width);
  out.block = some.block;
  out.rows_a = a != nullptr ? static_cast<int64_t>(a->indices.size()) : 0;
  out.rows_b = b != nullptr ? static_cast<int64_t>(b->indices.size()) : 0;
  const auto rows_a = static_cast<size_t>(out.rows_a), rows_b = static_cast<size_t>(out.rows_b);
  double aa = 0, bb = 0, shared_aa = 0, shared_bb = 0, difference = 0;
  for (size_t i = 0, j = 0; i < rows_a || j < rows_b;) {
    const float* x = i < rows_a ? a->delta.data() + i * width : nullptr;
    const float* y = j < rows_b ? b->delta.data() + j * width : nullptr;
    if (y == nullptr || (x != nullptr && a->indices[i] < b->indices[j])) {
      const double own = squared(x, width);
      aa += own;
      difference += own;
      ++i;
    } else if (x == nullptr || b->indices[j] < a->indices[i]) {
      const double own = squared(y, width);
      bb += own;
      difference += own;
      ++j;
    } else {
      ++out.shared;
      shared_aa += squared(x, width);
      shared_bb += squared(y, width);
      out.shared_dot += dot(x, y, width);
      difference += squared_difference(x, y, width);
      ++i;
      ++j;
    }
  }
  out.norm_a = std::sqrt(aa + shared_aa);
  out.norm_b = std::sqrt(bb + shared_bb);
  out.shared_norm_a = std::sqrt(shared_aa);
  out.shared_norm_b = std::sqrt(shared_bb);
  out.norm_difference = std::sqrt(difference);
  return out;
}

int64_t count(const GateAnchors& a) {
  return a.width > 0 ? static_cast<int64_t>(a.queries.size()) / a.width : 0;
}

int64_t count_near(const GateAnchors& a, const GateAnchors& b, double near) {
  if (a.queries.empty() || b.queries.empty()) return 0;
  if (a.width != b.width) widths_differ();
  const auto width = static_cast<size_t>(a.width);
  int64_t found = 0;
  for (size_t i = 0; i < a.queries.size(); i += width)
    for (size_t j = 0; j < b.queries.size(); j += width) {
      double distance = 0;
      for (size_t k = 0; k < width && distance <= near * near; ++k) {
        const double d = static_cast<double>(a.queries[i + k]) - b.queries[j + k];
        distance += d * d;
      }
      if (distance > near * near) continue;
      ++found;
      break;
    }
  return found;
}

template <typename Field>
double norm_over(const std::vector<BlockDifference>& blocks, Field field) {
  double sum = 0;
  for (const auto& b : blocks) sum += b.*field * (b.*field);
  return std::sqrt(sum);
}

template <typename Field>
int64_t count_over(const std::vector<BlockDifference>& blocks, Field field) {
  int64_t sum = 0;
  for (const auto& b : blocks) sum += b.*field;
  return sum;
}

}  // namespace

Update fold_updates(std::span<const Update> updates) {
  if (updates.empty()) return {};
  const Reach reach = reach_of(updates.front());
  for (const Update& update : updates)
    if (reach_of(update) != reach)
      throw Error(ErrorCode::kInvalidArgument,
                  "updates that speak at different kinds of places cannot be folded");
  Update fold = combine(updates, reach != Reach::kEverywhere);
  for (const Update& update : updates) add_taught(fold.taught, update.taught);
  return fold;
}

Update sum_updates(std::span<const Update> updates) {
  return combine(updates, false);
}

int64_t shared_slots(const Update& first, const Update& second) {
  Update room[2];
  const Update &a = by_slot(first, room[0]), &b = by_slot(second, room[1]);
  int64_t shared = 0;
  for (const LayerDelta& x : a.layers)
    for (const LayerDelta& y : b.layers) {
      if (x.block != y.block) continue;
      auto i = x.indices.begin();
      auto j = y.indices.begin();
      while (i != x.indices.end() && j != y.indices.end()) {
        if (*i == *j) ++shared;
        const int64_t slot = std::min(*i, *j);
        if (*i == slot) ++i;
        if (*j == slot) ++j;
      }
    }
  return shared;
}

UpdateDifference compare_updates(const Update& first, const Update& second, double near) {
  Update room[2];
  const Update &a = by_slot(first, room[0]), &b = by_slot(second, room[1]);
  std::map<int, std::pair<const LayerDelta*, const LayerDelta*>> blocks;
  for (const LayerDelta& layer : a.layers) blocks[layer.block].first = &layer;
  for (const LayerDelta& layer : b.layers) blocks[layer.block].second = &layer;
  UpdateDifference out;
  for (const auto& [block, pair] : blocks)
    out.blocks.push_back(compare_layers(pair.first, pair.second));
  out.anchors_a = count(a.anchors);
  out.anchors_b = count(b.anchors);
  out.anchors_near = count_near(a.anchors, b.anchors, near);
  return out;
}

int64_t UpdateDifference::rows_a() const {
  return count_over(blocks, &BlockDifference::rows_a);
}
int64_t UpdateDifference::rows_b() const {
  return count_over(blocks, &BlockDifference::rows_b);
}
int64_t UpdateDifference::shared() const {
  return count_over(blocks, &BlockDifference::shared);
}
double UpdateDifference::norm_a() const {
  return norm_over(blocks, &BlockDifference::norm_a);
}
double UpdateDifference::norm_b() const {
  return norm_over(blocks, &BlockDifference::norm_b);
}
double UpdateDifference::norm_difference() const {
  return norm_over(blocks, &BlockDifference::norm_difference);
}
double UpdateDifference::shared_cosine() const {
  double product = 0;
  for (const auto& b : blocks) product += b.shared_dot;
  const double norms = norm_over(blocks, &BlockDifference::shared_norm_a) *
                       norm_over(blocks, &BlockDifference::shared_norm_b);
  return norms > 0 ? product / norms : 0;
}

}  // namespace accrete
