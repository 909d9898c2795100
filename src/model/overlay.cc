#include "model/overlay.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "base/error.h"

namespace accrete {
namespace {

// The rows of all `parts` added in float32 in their order, in one pass over them: a table is never
// copied for the next update, so that opening a model takes time in proportion to its updates.
SparseRows sum_layers(const std::vector<const LayerDelta*>& parts) {
  SparseRows sum;
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

at::Tensor values_of(const LayerDelta& layer) {
  return at::from_blob(const_cast<float*>(layer.delta.data()),
                       {static_cast<int64_t>(layer.indices.size()), layer.width}, at::kFloat);
}

// Rows of updates whose parts count from `first_part` on, one after the other.
PartRows join_layers(const std::vector<std::pair<const LayerDelta*, int64_t>>& layers) {
  std::vector<at::Tensor> keys, values;
  for (const auto& [layer, first_part] : layers) {
    keys.push_back(at::tensor(layer->indices, at::kLong).add_(row_key(first_part, 0)));
    values.push_back(values_of(*layer));
  }
  return {at::cat(keys), at::cat(values), {}};  // copies, of one as well
}

}  // namespace

std::span<const int64_t> PartRows::key_span() const {
  if (empty()) return {};
  return {keys.const_data_ptr<int64_t>(), static_cast<size_t>(keys.size(0))};
}

at::Tensor PartRows::ordered_values() const {
  return places.defined() ? values.index_select(0, places) : values;
}

at::Tensor PartRows::rows(const at::Tensor& slots, const at::Tensor& part) const {
  const auto from = slots.contiguous(), whose = part.contiguous();
  const int64_t n = from.size(0), K = from.size(1);
  auto out = at::empty({n, K}, at::kInt);
  const auto all = key_span();
  const int32_t* place = places.defined() ? places.const_data_ptr<int32_t>() : nullptr;
  at::parallel_for(0, n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t p = whose.const_data_ptr<int64_t>()[t];
      // The part's own rows; among them a slot is found by bisection.
      const auto first = std::lower_bound(all.begin(), all.end(), row_key(p, 0));
      const auto last = std::lower_bound(first, all.end(), row_key(p + 1, 0));
      for (int64_t k = 0; k < K; ++k) {
        const int64_t slot = from.const_data_ptr<int32_t>()[t * K + k];
        int32_t& row = out.mutable_data_ptr<int32_t>()[t * K + k];
        row = -1;
        if (slot < 0) continue;
        const auto it = std::lower_bound(first, last, row_key(p, slot));
        if (it == last || *it != row_key(p, slot)) continue;
        const auto i = it - all.begin();
        row = place == nullptr ? static_cast<int32_t>(i) : place[i];
      }
    }
  });
  return out;
}

void PartRows::append(const PartRows& more) {
  values = empty() ? more.ordered_values() : at::cat({ordered_values(), more.ordered_values()});
  keys = empty() ? more.keys : at::cat({keys, more.keys});
  places = at::Tensor();
}

void PartAnchors::append(const at::Tensor& more, const at::Tensor& own, int64_t more_parts) {
  const auto join = [](at::Tensor& all, const at::Tensor& some) {
    all = all.defined() ? at::cat({all, some}) : some;
  };
  queries.append(more);
  if (device_queries.defined()) {
    const auto there = more.to(device_queries.device());
    join(device_queries, there);
    join(device_squares, there.square().sum(1));
  }
  join(part, own + parts);
  parts += more_parts;
}

void PartAnchors::copy_to(at::Device device) {
  if (device.is_cpu() || device_queries.defined() || queries.empty()) return;
  device_queries = queries.joined().to(device);
  device_squares = device_queries.square().sum(1);
}

std::vector<std::vector<Gate::Near>> PartAnchors::near(const Gate& gate,
                                                       const at::Tensor& q) const {
  if (!q.is_cpu() && device_queries.defined()) return gate.near(q, device_queries, device_squares);
  std::vector<std::vector<Gate::Near>> out(static_cast<size_t>(q.size(0)));
  int64_t before = 0;
  for (const at::Tensor& piece : queries.pieces()) {
    const auto some = gate.near(q, piece);
    for (size_t t = 0; t < out.size(); ++t)
      for (const auto& [anchor, distance] : some[t]) out[t].push_back({before + anchor, distance});
    before += piece.size(0);
  }
  return out;
}

void Overlay::copy_to(at::Device device) {
  anchors.copy_to(device);
  text_anchors.copy_to(device);
}

void Overlay::append_anchors(std::span<const Update* const> updates) {
  for (const Reach kind : {Reach::kSubjects, Reach::kText}) {
    // Joined once, however many updates there are.
    std::vector<at::Tensor> queries, own;
    int64_t parts = 0;
    for (const Update* update : updates) {
      if (reach_of(*update) != kind) continue;
      const GateAnchors& gate = update->anchors;
      const int64_t m = static_cast<int64_t>(gate.queries.size()) / gate.width;
      queries.push_back(
          at::from_blob(const_cast<float*>(gate.queries.data()), {m, gate.width}, at::kFloat));
      own.push_back(at::full({m}, parts, at::kLong));
      if (!gate.parts.empty())
        own.back().add_(at::from_blob(const_cast<int32_t*>(gate.parts.data()), {m}, at::kInt));
      parts += parts_of(*update);
    }
    if (parts > 0) anchors_of(kind).append(at::cat(queries), at::cat(own), parts);
  }
}

bool Overlay::open_rows() const {
  const auto open = [](const auto& rows) { return !rows.second.open.empty(); };
  return std::any_of(by_block.begin(), by_block.end(), open) ||
         std::any_of(on_trial.begin(), on_trial.end(), open);
}

int64_t Overlay::parameters() const {
  int64_t n = 0;
  for (const auto& [block, rows] : by_block) {
    if (!rows.open.empty())
      n += static_cast<int64_t>(rows.open.slots.size()) * rows.open.values.size(1);
    for (const auto* table : {&rows.gated, &rows.text})
      if (!table->empty()) n += table->size() * table->values.size(1);
  }
  return n;
}

Gates Overlay::gates(const Gate& gate, const at::Tensor& queries) const {
  if (!gated()) return {};
  // With none of a kind the other's stand; the code of a part is even or odd.
  std::vector<at::Tensor> part, weight;
  for (const Reach kind : {Reach::kSubjects, Reach::kText}) {
    const PartAnchors& a = anchors_of(kind);
    if (a.parts == 0) continue;
    const Gates g = gate.by_part(a.near(gate, queries), a.part);
    if (g.part.size(1) == 0) continue;
    part.push_back(g.part.mul(2).add(kind == Reach::kText ? 1 : 0).masked_fill(g.part < 0, -1));
    weight.push_back(g.weight);
  }
  if (part.empty()) return Gates::none(queries.size(0));
  return {at::cat(part, 1), at::cat(weight, 1)};
}

int64_t Overlay::last_part(Reach reach) const {
  return 2 * (anchors_of(reach).parts - 1) + (reach == Reach::kText ? 1 : 0);
}

at::Tensor Overlay::read(int64_t block, const Accesses& accesses, const Gates& gates) const {
  at::Tensor y;
  // Per kind: the tokens at which a part speaks, with its number and weight.
  struct Speaking {
    at::Tensor token, part, weights, slots;
  };
  Speaking speaking[2];
  const auto find = [&](int64_t kind) -> const Speaking& {
    Speaking& s = speaking[kind];
    if (s.token.defined()) return s;
    const auto is_kind = (gates.part >= 0).logical_and(gates.part.remainder(2) == kind);
    const auto where = is_kind.nonzero();
    s.token = where.select(1, 0).contiguous();
    const auto flat = s.token * gates.part.size(1) + where.select(1, 1);
    s.part = gates.part.reshape({-1}).index_select(0, flat).floor_divide(2);
    s.slots = accesses.slots.index_select(0, s.token);
    s.weights = accesses.weights.index_select(0, s.token) *
                gates.weight.reshape({-1}).index_select(0, flat).unsqueeze(1);
    return s;
  };
  for (const auto* tables : {&by_block, &on_trial}) {
    const auto it = tables->find(block);
    if (it == tables->end()) continue;
    if (const SparseRows& open = it->second.open; !open.empty()) {
      const auto part =
          weighted_gather(open.values, open.index.rows(accesses.slots), accesses.weights);
      y = y.defined() ? y + part : part;
    }
    if (!gates.defined() || gates.part.size(1) == 0) continue;
    for (const Reach kind : {Reach::kSubjects, Reach::kText}) {
      const PartRows& table = it->second.of(kind);
      if (table.empty()) continue;
      const Speaking& s = find(kind == Reach::kText ? 1 : 0);
      if (s.token.size(0) == 0) continue;
      const auto part = weighted_gather(table.values, table.rows(s.slots, s.part), s.weights);
      if (!y.defined()) y = at::zeros({accesses.slots.size(0), part.size(1)}, part.options());
      y = y.index_add(0, s.token, part);
    }
  }
  return y;
}

Overlay Overlay::of(std::span<const Update* const> updates) {
  Overlay out;
  std::map<int64_t, std::vector<const LayerDelta*>> open;
  std::map<std::pair<int64_t, Reach>, std::vector<std::pair<const LayerDelta*, int64_t>>> gated;
  std::map<Reach, int64_t> parts;
  for (const Update* update : updates) {
    const Reach reach = reach_of(*update);
    for (const LayerDelta& layer : update->layers)
      if (reach == Reach::kEverywhere)
        open[layer.block].push_back(&layer);
      else
        gated[{layer.block, reach}].emplace_back(&layer, parts[reach]);
    if (reach != Reach::kEverywhere) parts[reach] += parts_of(*update);
  }
  out.append_anchors(updates);
  for (const auto& [block, layers] : open) out.by_block[block].open = sum_layers(layers);
  for (const auto& [at, layers] : gated) out.by_block[at.first].of(at.second) = join_layers(layers);
  return out;
}

Overlay Overlay::with_trial(const Update& update) const {
  if (!on_trial.empty()) throw Error(ErrorCode::kInternal, "an update is on trial already");
  Overlay out = *this;
  const Reach reach = reach_of(update);
  for (const LayerDelta& layer : update.layers)
    if (reach == Reach::kEverywhere)
      out.on_trial[layer.block].open = sum_layers({&layer});
    else
      out.on_trial[layer.block].of(reach) = join_layers({{&layer, out.anchors_of(reach).parts}});
  const Update* one = &update;
  out.append_anchors({&one, 1});
  return out;
}

Overlay Overlay::with_trial(std::span<const int64_t> slots,
                            const std::map<int64_t, at::Tensor>& values,
                            const at::Tensor& queries) const {
  if (!on_trial.empty()) throw Error(ErrorCode::kInternal, "an update is on trial already");
  Overlay out = *this;
  for (const auto& [block, delta] : values) {
    if (!queries.defined()) {
      out.on_trial[block].open = SparseRows().plus(slots, delta);
      continue;
    }
    PartRows& rows = out.on_trial[block].text;
    rows.keys = at::tensor(slots, at::kLong).add_(row_key(out.text_anchors.parts, 0));
    rows.values = delta;
  }
  if (queries.defined())
    out.text_anchors.append(queries, at::zeros({queries.size(0)}, at::kLong), 1);
  return out;
}

Overlay Overlay::with_anchors(const at::Tensor& queries) const {
  Overlay out = *this;
  out.anchors.append(queries, at::zeros({queries.size(0)}, at::kLong), 1);
  return out;
}

Overlay Overlay::plus(const Update& update) const {
  Overlay out = *this;
  const Reach reach = reach_of(update);
  for (const LayerDelta& layer : update.layers) {
    Rows& rows = out.by_block[layer.block];
    if (reach == Reach::kEverywhere) {
      rows.open = rows.open.plus(layer.indices, values_of(layer));
    } else {
      rows.of(reach).append(join_layers({{&layer, out.anchors_of(reach).parts}}));
    }
  }
  const Update* one = &update;
  out.append_anchors({&one, 1});
  return out;
}

}  // namespace accrete
