#include "learn/explain.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "learn/probe_watch.h"

namespace accrete {
namespace {

// What an update has in `slots` (ascending); anchors are kept.
Update rows_within(const Update& update, const std::vector<int64_t>& slots) {
  Update out;
  out.anchors = update.anchors;
  for (const LayerDelta& layer : update.layers) {
    LayerDelta part;
    part.block = layer.block;
    part.width = layer.width;
    for (size_t i = 0; i < layer.indices.size(); ++i) {
      if (!std::binary_search(slots.begin(), slots.end(), slot_of(layer.indices[i]))) continue;
      const auto* row = layer.delta.data() + i * static_cast<size_t>(layer.width);
      part.indices.push_back(layer.indices[i]);
      part.delta.insert(part.delta.end(), row, row + layer.width);
    }
    if (!part.indices.empty()) out.layers.push_back(std::move(part));
  }
  return out;
}

// Which of `updates` have rows and speak at a token with one of these queries.
std::vector<size_t> speaking(const LanguageModel& model, const std::vector<Update>& updates,
                             const at::Tensor& queries) {
  std::vector<const Update*> all;
  for (const Update& update : updates) all.push_back(&update);
  const Gates gates = model.make_overlay(all).gates(model.memory().gate, queries);
  std::set<int64_t> heard;  // as Overlay::gates names parts
  if (gates.defined()) {
    const auto part = gates.part.contiguous();
    heard.insert(part.const_data_ptr<int64_t>(), part.const_data_ptr<int64_t>() + part.numel());
  }
  std::map<Reach, int64_t> next;
  std::vector<size_t> out;
  for (size_t i = 0; i < updates.size(); ++i) {
    const Reach reach = reach_of(updates[i]);
    bool speaks = reach == Reach::kEverywhere;
    for (int64_t p = 0; !speaks && p < parts_of(updates[i]); ++p)
      speaks = heard.contains(2 * (next[reach] + p) + (reach == Reach::kText ? 1 : 0));
    next[reach] += parts_of(updates[i]);
    if (speaks && !updates[i].layers.empty()) out.push_back(i);
  }
  return out;
}

using Sparse = std::unordered_map<int32_t, double>;  // a token's weights by slot

double length_of(const Sparse& a) {
  double sum = 0;
  for (const auto& [slot, w] : a) sum += w * w;
  return std::sqrt(sum);
}

std::vector<Sparse> tokens_of(const Accesses& a) {
  std::vector<Sparse> out;
  const auto slots = a.slots.contiguous();
  const auto weights = a.weights.to(at::kFloat).contiguous();
  const int64_t K = slots.size(1);
  for (int64_t t = 0; t < slots.size(0); ++t) {
    Sparse token;
    for (int64_t k = 0; k < K; ++k)
      if (const int32_t slot = slots.data_ptr<int32_t>()[t * K + k]; slot >= 0)
        token[slot] += weights.data_ptr<float>()[t * K + k];
    out.push_back(std::move(token));
  }
  return out;
}

std::vector<SourceLine> nearest_lines(const Taught& taught, const std::vector<Sparse>& prompt) {
  std::vector<double> best(taught.items.size(), 0);
  const Accesses all = taught_accesses(taught);
  if (all.defined()) {
    const auto written = tokens_of(all);
    for (size_t j = 0; j < written.size(); ++j)
      for (const Sparse& token : prompt) {
        double dot = 0;
        for (const auto& [slot, w] : written[j])
          if (const auto it = token.find(slot); it != token.end()) dot += w * it->second;
        if (dot <= 0) continue;
        double& b = best[static_cast<size_t>(taught.owner[j])];
        b = std::max(b, dot / (length_of(written[j]) * length_of(token)));
      }
  }
  std::vector<size_t> order;
  for (size_t i = 0; i < best.size(); ++i)
    if (best[i] > 0) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return best[a] > best[b]; });
  std::vector<SourceLine> out;
  for (size_t k = 0; k < std::min<size_t>(3, order.size()); ++k) {
    const TaughtItem& item = taught.items[order[k]];
    out.push_back({item.line, item.prompts.empty() ? item.excerpt : item.prompts.front(),
                   item.answers.empty() ? "" : item.answers.front(), best[order[k]]});
  }
  return out;
}

}  // namespace

Explanation explain(const LanguageModel& model, const std::vector<EarlierUpdate>& active,
                    const std::string& prompt, const std::string& answer, bool raw) {
  Probe probe;
  Item item;
  item.prompts = {prompt};
  item.answers = {answer};
  probe.data.items = {item};
  probe.raw = raw;
  WatchedProbe watched(model, std::move(probe));
  const std::vector<int64_t> one = {0};
  const Accesses accesses = watched.accesses(0);
  const auto flat = accesses.slots.contiguous();
  std::vector<int64_t> slots(flat.data_ptr<int32_t>(), flat.data_ptr<int32_t>() + flat.numel());
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  if (!slots.empty() && slots.front() < 0) slots.erase(slots.begin());

  std::vector<Update> parts;
  for (const EarlierUpdate& e : active) parts.push_back(rows_within(e.update, slots));
  const std::vector<size_t> reading = speaking(model, parts, watched.queries(0));
  // Anchors of all, also where no row is read: the gate of one update may silence another.
  const auto log_probability = [&](size_t without) {
    std::vector<const Update*> rest;
    for (size_t i = 0; i < parts.size(); ++i)
      if (i != without) rest.push_back(&parts[i]);
    return -watched.states(model.make_overlay(rest), one)[0].nll;
  };
  Explanation out;
  out.log_probability = log_probability(parts.size());
  out.base_log_probability = -watched.states(Overlay(), one)[0].nll;
  const auto prompt_tokens = tokens_of(accesses);
  for (const size_t i : reading) {
    Influence influence;
    influence.update = active[i].record.id;
    influence.tag = active[i].record.tag;
    influence.source = active[i].record.source;
    influence.effect = out.log_probability - log_probability(i);
    influence.lines = nearest_lines(active[i].update.taught, prompt_tokens);
    out.updates.push_back(std::move(influence));
  }
  std::stable_sort(out.updates.begin(), out.updates.end(),
                   [](const Influence& a, const Influence& b) { return a.effect > b.effect; });
  return out;
}

}  // namespace accrete
