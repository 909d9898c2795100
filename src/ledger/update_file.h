// Update files: what one committed `teach` changed, and where it came from.
//
// A safetensors file with, for every memory layer b it touches, `b.indices` I64 [t] (slot ids,
// strictly ascending; row keys in a fold) and `b.delta` F32 [t, d] (added to the value rows), or
// the tensors of facts (facts.h) or of vectors (vectors.h), what was taught (taught.h), and string
// metadata (base digest, parent, data digest, seed, method, measurements; keys in docs/formats.md).
// Content-addressed: the id is the first 16 hex digits of the SHA-256 of the file's bytes, so the
// same teach gives the same id. That is also why nothing that differs between two runs (time of
// day, seconds taken, paths) belongs into the metadata: such things are the ledger's.
//
// Non-goals: order, activity and time of updates (ledger.h); signing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"
#include "ledger/facts.h"
#include "ledger/taught.h"
#include "ledger/vectors.h"

namespace accrete {

// A fold of gated updates (learn/compact.h) keeps each of them as a part, for the rows of each
// speak near its own anchors. A row of it is named by part and slot; of other updates, which are
// part 0 of themselves, that is the slot.
constexpr int64_t row_key(int64_t part, int64_t slot) {
  return part << 32 | slot;
}
constexpr int64_t slot_of(int64_t key) {
  return key & 0xffffffff;
}
constexpr int64_t part_of(int64_t key) {
  return key >> 32;
}

struct LayerDelta {
  int block = 0;                 // the transformer block whose memory layer this is
  int64_t width = 0;             // d
  std::vector<int64_t> indices;  // [t] strictly ascending row keys
  std::vector<float> delta;      // [t, d] row-major
};

// Where a gated update speaks: near these queries and nowhere else (memory/gate.h).
struct GateAnchors {
  int64_t width = 0;           // of a query
  std::vector<float> queries;  // [m, width] row-major; empty: the update is not gated
  bool text = false;           // they are tokens of running text, not subjects of facts
  std::vector<int32_t> parts;  // [m] of a fold: the part of each, ascending from 0 without a gap
};

struct Update {
  std::vector<LayerDelta> layers;  // strictly ascending by block, each with t >= 1; none of facts
  UpdateFacts facts;               // instead: facts addressed by the question
  UpdateVectors vectors;           // instead: rows of a memory of vectors
  GateAnchors anchors;  // the tensor `gate.anchors` or `gate.text_anchors` F32 [m, width], absent
                        // when empty, of a fold `gate.parts` I32 [m]
  Taught taught;        // the tensors `taught.*`, absent when empty
  Metadata metadata;
};

// Rows of all layers together; of facts their keys and vectors, or one for each that only takes
// others away; of vectors those that were taught.
int64_t rows_of(const Update& update);

// 1, but for a fold of gated updates.
int64_t parts_of(const Update& update);

// Where the rows of an update speak. Each kind of anchors has a gate of its own: the many tokens of
// a text must not silence what was written for subjects.
enum class Reach { kEverywhere, kSubjects, kText };
inline constexpr Reach kReaches[] = {Reach::kEverywhere, Reach::kSubjects, Reach::kText};
Reach reach_of(const Update& update);

// The metadata key that marks an update file, and its value. write_update adds it and read_update
// takes it away, so Update::metadata holds only the caller's keys.
inline constexpr std::string_view kUpdateFormatKey = "format";
inline constexpr std::string_view kUpdateFormat = "accrete-update/1";

// Writes atomically and returns the id. Throws kInvalidArgument (unsorted, empty, sizes, non-finite
// values, metadata that is not UTF-8 or uses kUpdateFormatKey), kNotFound (no such folder), kIo.
// The file is named `<id>.safetensors` in `folder`; if it is there already, it is replaced by the
// same bytes.
std::string write_update(const std::filesystem::path& folder, const Update& update);

// Strict: names, types, shapes, order, finite values, and (when `expected_id` is not empty) the id.
// Throws kFormat, kNotFound, kIo; kUnsupported for a later version of the format, or an earlier one
// with scopes.
Update read_update(const std::filesystem::path& file, const std::string& expected_id = "");

// What read_update does after mapping the file. `source` names the file in messages. The fuzz
// target calls it.
Update parse_update(std::span<const std::byte> bytes, std::string_view source,
                    const std::string& expected_id = "");

// An update without the values of its rows: what later teaches need to know of it. The bytes of a
// safetensors file like the above without `b.delta`.
std::string outline_bytes(const Update& update);
// As strict as parse_update; layers come with their indices and an empty delta. Without
// `with_taught`, what was taught is left out, and not looked at.
Update parse_outline(std::span<const std::byte> bytes, std::string_view source,
                     bool with_taught = true);

// An update file written to a temporary name, so that its id is known before anyone can see it;
// removed again unless publish() is called. The ledger commits with it; others use write_update.
class StagedUpdate {
 public:
  // Throws as write_update does.
  StagedUpdate(const std::filesystem::path& folder, const Update& update);
  ~StagedUpdate();
  StagedUpdate(const StagedUpdate&) = delete;
  StagedUpdate& operator=(const StagedUpdate&) = delete;

  const std::string& id() const { return id_; }
  // Renames to `<id>.safetensors` and syncs the folder. Throws kIo.
  void publish();
  // Under this name, in the folder that it was staged in; a file that is there is replaced.
  void publish_as(const std::filesystem::path& file);

 private:
  std::filesystem::path folder_;
  std::filesystem::path temporary_;
  std::string id_;
};

// 16 lower-case hex digits.
bool is_update_id(std::string_view text);
// `<id>.safetensors`.
std::string update_file_name(std::string_view id);

}  // namespace accrete
