#include "learn/audit.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/format.h"
#include "ledger/combine.h"

namespace accrete {
namespace {

// A row of one update: where it is and what it holds.
struct AuditedRow {
  int64_t block, slot;
  const float* values;
  int32_t update;
};

double norm_of(const float* values, int64_t width) {
  double sum = 0;
  for (int64_t k = 0; k < width; ++k) sum += static_cast<double>(values[k]) * values[k];
  return std::sqrt(sum);
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

void find_anomalies(const std::vector<EarlierUpdate>& active, AuditReport& report) {
  // What is far outside of what the other updates are, per item.
  std::vector<double> per_item;
  for (const OwnedSlots& u : report.updates)
    per_item.push_back(u.norm / std::sqrt(static_cast<double>(std::max<int64_t>(u.items, 1))));
  const double usual = median(per_item);
  constexpr size_t kFewest = 5;
  for (size_t i = 0; i < report.updates.size(); ++i) {
    const OwnedSlots& u = report.updates[i];
    if (report.updates.size() >= kFewest && per_item[i] > 4 * usual)
      report.anomalies.push_back(
          accrete::format("update {}: its rows are {:.1f} times as large as usual for {} item(s)",
                          u.update, per_item[i] / usual, u.items));
    if (active[i].update.taught.empty())
      report.anomalies.push_back(accrete::format(
          "update {} does not say what it was taught: later updates cannot spare it", u.update));
  }
  for (const SharedSlots& s : report.overlaps)
    if (s.cosine < -0.5 && s.shared >= 20)
      report.anomalies.push_back(accrete::format(
          "updates {} and {} pull {} shared slots in opposite directions (cosine {:.2f})", s.a, s.b,
          s.shared, s.cosine));
  for (const BlockUse& b : report.blocks)
    if (b.used > b.slots * 8 / 10)
      report.anomalies.push_back(
          accrete::format("block {}: {} of {} slots are in use", b.block, b.used, b.slots));
}

}  // namespace

AuditReport audit(const std::vector<EarlierUpdate>& active, const std::vector<int64_t>& blocks,
                  int64_t slots, size_t most) {
  AuditReport report;
  std::map<int64_t, std::vector<AuditedRow>> rows;  // by block
  std::map<int64_t, int64_t> widths;
  std::vector<Update> by_slot(active.size());  // of folds: an update owns a slot once
  for (size_t u = 0; u < active.size(); ++u) {
    if (parts_of(active[u].update) > 1) by_slot[u] = sum_updates({&active[u].update, 1});
    const Update& update = by_slot[u].layers.empty() ? active[u].update : by_slot[u];
    OwnedSlots own;
    own.update = active[u].record.id;
    own.tag = active[u].record.tag;
    own.source = active[u].record.source;
    own.items = active[u].record.items;
    if (update.anchors.width > 0)
      own.anchors = static_cast<int64_t>(update.anchors.queries.size()) / update.anchors.width;
    double square = 0;
    for (const LayerDelta& layer : update.layers) {
      widths[layer.block] = layer.width;
      own.rows += static_cast<int64_t>(layer.indices.size());
      for (size_t i = 0; i < layer.indices.size(); ++i) {
        const float* values = layer.delta.data() + i * static_cast<size_t>(layer.width);
        rows[layer.block].push_back(
            {layer.block, layer.indices[i], values, static_cast<int32_t>(u)});
        const double n = norm_of(values, layer.width);
        square += n * n;
        own.largest_row = std::max(own.largest_row, n);
      }
    }
    own.norm = std::sqrt(square);
    report.updates.push_back(own);
  }

  std::map<std::pair<int32_t, int32_t>, int64_t> met;
  for (const int64_t block : blocks) {
    BlockUse use;
    use.block = block;
    use.slots = slots;
    auto& all = rows[block];
    const int64_t width = widths[block];
    std::stable_sort(all.begin(), all.end(),
                     [](const AuditedRow& a, const AuditedRow& b) { return a.slot < b.slot; });
    double square = 0;
    std::vector<float> sum(static_cast<size_t>(width));
    for (size_t i = 0; i < all.size();) {
      size_t n = 1;
      while (i + n < all.size() && all[i + n].slot == all[i].slot) ++n;
      std::fill(sum.begin(), sum.end(), 0.0F);
      ContestedSlot slot;
      slot.block = block;
      slot.slot = all[i].slot;
      for (size_t k = 0; k < n; ++k) {
        const AuditedRow& row = all[i + k];
        for (int64_t c = 0; c < width; ++c) sum[static_cast<size_t>(c)] += row.values[c];
        slot.sum_of_norms += norm_of(row.values, width);
        slot.updates.push_back(active[static_cast<size_t>(row.update)].record.id);
        for (size_t j = 0; j < k; ++j) ++met[{all[i + j].update, row.update}];
      }
      slot.norm = norm_of(sum.data(), width);
      square += slot.norm * slot.norm;
      use.largest_row = std::max(use.largest_row, slot.norm);
      ++use.used;
      if (n == 1)
        ++report.updates[static_cast<size_t>(all[i].update)].exclusive;
      else
        report.contested.push_back(std::move(slot));
      i += n;
    }
    use.norm = std::sqrt(square);
    report.blocks.push_back(use);
  }
  std::stable_sort(report.contested.begin(), report.contested.end(),
                   [](const ContestedSlot& a, const ContestedSlot& b) {
                     if (a.updates.size() != b.updates.size())
                       return a.updates.size() > b.updates.size();
                     return a.sum_of_norms - a.norm > b.sum_of_norms - b.norm;
                   });
  if (report.contested.size() > most) report.contested.resize(most);

  std::vector<std::pair<int64_t, std::pair<int32_t, int32_t>>> pairs;
  for (const auto& [pair, shared] : met) pairs.emplace_back(shared, pair);
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  if (pairs.size() > most) pairs.resize(most);
  for (const auto& [shared, pair] : pairs) {
    const auto& a = active[static_cast<size_t>(pair.first)];
    const auto& b = active[static_cast<size_t>(pair.second)];
    const auto d = compare_updates(a.update, b.update, 0);
    report.overlaps.push_back({a.record.id, b.record.id, shared, d.shared_cosine()});
  }
  find_anomalies(active, report);
  return report;
}

}  // namespace accrete
