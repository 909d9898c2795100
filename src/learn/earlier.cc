#include "learn/earlier.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "text/wording.h"

namespace accrete {
namespace {

struct Said {
  size_t update = 0;
  size_t item = 0;
};

// Who answers each question now: the last active update that taught it.
std::map<std::string, Said> answers_now(std::span<const EarlierUpdate> earlier) {
  std::map<std::string, Said> now;
  for (size_t u = 0; u < earlier.size(); ++u) {
    const auto& taught = earlier[u].update.taught.items;
    for (size_t i = 0; i < taught.size(); ++i)
      for (const auto& prompt : taught[i].prompts) now[question_key(prompt)] = {u, i};
  }
  return now;
}

// Which update a taught item came with: of a fold the member.
std::string origin(const UpdateRecord& record, size_t item) {
  if (const auto folds = record.measurements.find("folds");
      folds != record.measurements.end() && folds->is_array())
    for (const auto& fold : *folds) {
      const auto count = fold.value("taught", size_t{0});
      if (item < count) return fold.value("id", record.id);
      item -= count;
    }
  return record.id;
}

bool same_answer(const Item& item, const TaughtItem& taught) {
  return std::any_of(taught.answers.begin(), taught.answers.end(),
                     [&](const auto& answer) { return same_text(answer, item.answers.front()); });
}

struct Concerned {
  std::set<std::string> subjects, questions;
  bool has(const TaughtItem& taught) const {
    return (!taught.subject.empty() && subjects.contains(subject_key(taught.subject))) ||
           asks(taught);
  }
  bool asks(const TaughtItem& taught) const {
    return std::any_of(taught.prompts.begin(), taught.prompts.end(),
                       [&](const auto& p) { return questions.contains(question_key(p)); });
  }
};

Concerned concerned_by(std::span<const Item> items) {
  Concerned out;
  for (const Item& item : items) {
    if (item.kind != Item::Kind::kFact) continue;
    if (!item.subject.empty()) out.subjects.insert(subject_key(item.subject));
    for (const auto& prompt : item.prompts) out.questions.insert(question_key(prompt));
  }
  return out;
}

}  // namespace

std::string subject_key(const std::string& subject) {
  std::string key = name_key(subject);
  return key.empty() ? subject : key;
}

std::vector<EarlierUpdate> load_earlier(const Ledger& ledger) {
  return load_earlier(ledger, ledger.active());
}

std::vector<EarlierUpdate> load_earlier(const Ledger& ledger, std::vector<UpdateRecord> active) {
  std::vector<EarlierUpdate> out;
  for (auto& record : active) {
    Update update = ledger.load(record.id);
    out.push_back({std::move(record), std::move(update)});
  }
  return out;
}

std::vector<EarlierUpdate> outlines_of(std::vector<UpdateRecord> active, StateFile& state) {
  auto records = state.take_records();
  std::vector<EarlierUpdate> out;
  for (size_t i = 0; i < active.size(); ++i)
    out.push_back({std::move(active[i]), std::move(records[i].outline)});
  return out;
}

std::vector<EarlierUpdate> load_members(const Ledger& ledger) {
  std::vector<EarlierUpdate> out;
  const auto add = [&](const auto& self, const UpdateRecord& record) -> void {
    const auto folds = folds_of(record);
    const size_t before = out.size();
    try {
      for (const auto& id : folds) self(self, ledger.find(id));
    } catch (const Error&) {  // a member's file is gone: the fold speaks for it
      out.resize(before);
    }
    if (out.size() == before) out.push_back({record, ledger.load(record.id)});
  };
  for (const auto& record : ledger.active()) add(add, record);
  return out;
}

std::vector<Update> updates_of(std::span<const EarlierUpdate> earlier) {
  std::vector<Update> out;
  for (const EarlierUpdate& e : earlier) out.push_back(e.update);
  return out;
}

std::vector<Conflict> find_conflicts(std::span<const Item> items,
                                     std::span<const EarlierUpdate> earlier) {
  const auto now = answers_now(earlier);
  std::vector<Conflict> out;
  for (const Item& item : items) {
    if (item.kind != Item::Kind::kFact) continue;
    for (const auto& prompt : item.prompts) {
      const auto it = now.find(question_key(prompt));
      if (it == now.end()) continue;
      const EarlierUpdate& e = earlier[it->second.update];
      const TaughtItem& taught = e.update.taught.items[it->second.item];
      if (same_answer(item, taught)) continue;
      out.push_back({prompt, item.answers.front(), item.line, origin(e.record, it->second.item),
                     taught.line, taught.answers.front(), e.record.source});
    }
  }
  return out;
}

std::vector<Companion> find_companions(std::span<const Item> items,
                                       std::span<const EarlierUpdate> earlier,
                                       int64_t per_subject) {
  const Concerned concerned = concerned_by(items);
  const auto now = answers_now(earlier);
  // How the new set writes a subject: companions join under that name.
  std::map<std::string, std::string> written;
  for (const Item& item : items)
    if (!item.subject.empty()) written.emplace(subject_key(item.subject), item.subject);
  std::map<std::string, int64_t> found;
  std::vector<Companion> out;
  for (size_t u = earlier.size(); u-- > 0;) {
    const auto& taught = earlier[u].update.taught.items;
    for (size_t i = taught.size(); i-- > 0;) {
      const TaughtItem& t = taught[i];
      const auto subject = written.find(subject_key(t.subject));
      if (t.subject.empty() || t.prompts.empty() || subject == written.end()) continue;
      // One of its questions is asked again, now or since: it no longer stands, or is there anyway.
      const bool stands = std::all_of(t.prompts.begin(), t.prompts.end(), [&](const auto& p) {
        const Said& said = now.at(question_key(p));
        return said.update == u && said.item == i;
      });
      if (!stands || concerned.asks(t)) continue;
      if (++found[subject->first] > per_subject) continue;
      Companion companion;
      companion.item.prompts = t.prompts;
      companion.item.answers = t.answers;
      companion.item.subject = t.subject;
      companion.raw = t.raw;
      out.push_back(std::move(companion));
    }
  }
  return out;
}

void set_taught_accesses(Taught& taught, const Accesses& accesses, const at::Tensor& owner) {
  const auto slots = accesses.slots.to(at::kCPU, at::kInt).contiguous();
  const auto weights = accesses.weights.to(at::kCPU, at::kHalf).contiguous();
  const auto who = owner.to(at::kCPU, at::kInt).contiguous();
  taught.per_token = slots.size(1);
  taught.slots.assign(slots.data_ptr<int32_t>(), slots.data_ptr<int32_t>() + slots.numel());
  const auto* bits = reinterpret_cast<const uint16_t*>(weights.data_ptr<at::Half>());
  taught.weights.assign(bits, bits + weights.numel());
  taught.owner.assign(who.data_ptr<int32_t>(), who.data_ptr<int32_t>() + who.numel());
}

Accesses taught_accesses(const Taught& taught, const std::vector<bool>& keep) {
  std::vector<int64_t> rows;
  for (size_t i = 0; i < taught.owner.size(); ++i)
    if (keep.empty() || keep[static_cast<size_t>(taught.owner[i])])
      rows.push_back(static_cast<int64_t>(i));
  if (rows.empty()) return {};
  const int64_t n = taught.tokens(), K = taught.per_token;
  const auto which = at::tensor(rows, at::kLong);
  Accesses out;
  out.slots = at::from_blob(const_cast<int32_t*>(taught.slots.data()), {n, K}, at::kInt)
                  .index_select(0, which);
  out.weights = at::from_blob(const_cast<uint16_t*>(taught.weights.data()), {n, K}, at::kHalf)
                    .index_select(0, which)
                    .to(at::kFloat);
  return out;
}

namespace {

// Which parts of a kind have an anchor within the gate's radius of `queries`: the new one is heard
// at their sites, which lie within a sixth of the radius of their anchors.
std::vector<bool> parts_near(const Memory& memory, const Speaks& where) {
  const PartAnchors& anchors = memory.overlay.anchors_of(where.reach);
  std::vector<bool> near(static_cast<size_t>(anchors.parts), false);
  if (anchors.parts == 0) return near;
  const auto part = anchors.part.contiguous();
  for (const auto& around : anchors.near(memory.gate, where.queries))
    for (const Gate::Near& a : around)
      near[static_cast<size_t>(part.const_data_ptr<int64_t>()[a.anchor])] = true;
  return near;
}

}  // namespace

void protect_earlier(AccessLog& log, std::span<const EarlierUpdate> earlier,
                     std::span<const Item> items, const Memory& memory, double weight,
                     const Speaks& where) {
  const Concerned concerned = concerned_by(items);
  const bool gated = where.reach != Reach::kEverywhere;
  const std::vector<bool> near = gated ? parts_near(memory, where) : std::vector<bool>();
  size_t next_part = 0;  // of the reach
  std::vector<Accesses> all;
  for (const EarlierUpdate& e : earlier) {
    const Taught& taught = e.update.taught;
    const Reach there = reach_of(e.update);
    if (gated && there == where.reach) {
      const auto parts = static_cast<size_t>(parts_of(e.update));
      const auto first = near.begin() + static_cast<std::ptrdiff_t>(next_part);
      next_part += parts;
      if (std::none_of(first, first + static_cast<std::ptrdiff_t>(parts), [](bool n) { return n; }))
        continue;
    } else if (gated && there != Reach::kEverywhere) {
      continue;
    }
    std::vector<bool> keep;
    for (const TaughtItem& item : taught.items) keep.push_back(!concerned.has(item));
    if (keep.empty()) continue;
    all.push_back(taught_accesses(taught, keep));
    if (!all.back().defined()) continue;
    if (all.back().per_token() != memory.keys.accesses_per_token() ||
        all.back().slots.max().item<int>() >= memory.keys.slots())
      throw Error(ErrorCode::kFormat,
                  accrete::format("update {} does not fit the model's keys", e.record.id),
                  "it was made for another model");
  }
  const Accesses joined = concat(all);
  if (joined.defined()) log.append(joined, weight, false);
}

}  // namespace accrete
