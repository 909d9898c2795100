#include "vector/vector_merge.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "ledger/merge_file.h"

namespace accrete {

namespace fs = std::filesystem;

namespace {

const char* const kOneModel =
    "sums add up between copies of one model alone: the same folder, --columns, --winners and "
    "--seed of retrofit";
const MadeForHints kSumHints = {kOneModel, kOneModel};

Update read_sums(const fs::path& file, const VectorModel& model) {
  Update update = read_update(file);
  if (update.vectors.empty())
    throw Error(ErrorCode::kInvalidArgument,
                accrete::format("{} holds no rows that can be taken over", file.string()),
                "give an update of a model of vectors: accrete/updates/ID.safetensors");
  const VectorMemory& memory = model.place().memory;
  require_made_for(file, update.metadata, "base_digest", memory.base_digest, "network", kSumHints);
  require_made_for(file, update.metadata, "memory", memory_name(memory), "memory", kSumHints);
  const std::vector<std::string>& first = model.net().outputs();
  const auto& outputs = update.vectors.outputs;
  const bool grows = model.net().kind() == VectorKind::kClassifier;
  if (outputs.size() < first.size() || !std::equal(first.begin(), first.end(), outputs.begin()) ||
      (!grows && outputs.size() != first.size()))
    throw Error(ErrorCode::kConflict,
                accrete::format("{} is of other outputs than this model", file.string()),
                "it was made for another model");
  return update;
}

}  // namespace

MergeVectorsResult merge_vectors(const VectorModel& model, std::span<const fs::path> files,
                                 const VectorStateOf& state_of, const std::string& tool_version,
                                 const Reporter& reporter) {
  if (files.empty())
    throw Error(ErrorCode::kInvalidArgument, "there is nothing to merge",
                "give an update of another copy of this model");
  Ledger ledger = Ledger::open(model.place().folder, Ledger::Mode::kWrite);
  const Snapshot snapshot = ledger.snapshot();
  // By the id of their bytes: the order in which they were named does not matter.
  std::map<std::string, std::pair<fs::path, Update>> incoming;
  for (const fs::path& file : files) {
    reporter.check_cancelled();
    const std::string id = update_id_of(file);
    if (!incoming.contains(id)) incoming.emplace(id, std::pair(file, read_sums(file, model)));
  }
  MergeVectorsResult result;
  result.files = static_cast<int64_t>(incoming.size());
  std::set<std::string> known;  // sets that are here
  for (const UpdateRecord& record : snapshot.active) known.insert(record.source_digest);
  std::erase_if(incoming, [&](const auto& entry) {
    const Metadata& metadata = entry.second.second.metadata;
    const auto digest = metadata.find("data_digest");
    return digest != metadata.end() && !known.insert(digest->second).second;
  });
  result.there = result.files - static_cast<int64_t>(incoming.size());
  if (incoming.empty()) return result;

  const VectorState before = state_of(ledger, snapshot.active, /*with_sums=*/true);
  VectorState after = before;
  for (const auto& [id, entry] : incoming) {
    reporter.check_cancelled();
    (void)count_repeated(entry.first.string(), entry.second.vectors, *after.seen);
    after = add_update(model.place(), after, id, entry.second.vectors);
  }
  auto probes = vector_probes_of(ledger, snapshot);
  for (VectorProbe& probe : probes) {
    reporter.check_cancelled();
    probe.before = model.score(before, probe.set);
    probe.after = model.score(after, probe.set);
  }
  require_floors(probes);

  std::string parent = snapshot.active.empty() ? "" : snapshot.active.back().id;
  for (const auto& [id, entry] : incoming) {
    const auto& [file, update] = entry;
    UpdateRecord record;
    record.items = update.vectors.rows;
    record.source = file.filename().string();
    if (const auto at = update.metadata.find("data_digest"); at != update.metadata.end())
      record.source_digest = at->second;
    record.parent = parent;
    record.method = "merge";
    record.tool_version = tool_version;
    for (const VectorProbe& probe : probes)
      record.measurements["kept"][probe.record.name] = {
          {"before", probe.before}, {"after", probe.after}, {"probe", probe.digest}};
    if (const auto at = update.metadata.find("task"); at != update.metadata.end())
      record.measurements["task"] = at->second;
    parent = ledger.commit(update, record).id;
    result.updates.push_back(parent);
  }
  result.after = std::move(after);
  try {
    save_state(model.place(), result.after);
  } catch (const Error&) {
    // It was merged all the same: whoever needs the sums makes them of the update files.
  }
  return result;
}

}  // namespace accrete
