// What the active updates add to the outputs of the memory blocks.
//
// An update without a gate is summed with the others: its rows speak wherever their slots are read.
// A gated update is a *part* and stays by itself: its rows speak at tokens near its own anchors
// (memory/gate.h), so what it writes into a slot cannot disturb another update that reads the same
// slot at another subject. Rows of parts are keyed by part and slot; to read them costs what the
// parts hold that are open at a token, however many there are.
//
// Non-goals: files (ledger/), which updates are active (language_model.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "ledger/update_file.h"
#include "memory/accesses.h"
#include "memory/gate.h"
#include "memory/growing_rows.h"
#include "memory/sparse_rows.h"

namespace accrete {

// The rows of many parts in one memory block. Tensors, so that copies of an overlay share them;
// nobody writes to one.
struct PartRows {
  at::Tensor keys;    // [R] int64: row_key(part, slot), strictly ascending; undefined: none
  at::Tensor values;  // [R, d] float32, row i of keys[i], or of keys[i] row places[i]
  at::Tensor places;  // [R] int32; undefined: row i

  int64_t size() const { return keys.defined() ? keys.size(0) : 0; }
  bool empty() const { return size() == 0; }
  std::span<const int64_t> key_span() const;
  // [R, d]: row i of keys[i].
  at::Tensor ordered_values() const;
  // slots [n, K] int32 of tokens at which part [n] int64 speaks -> rows [n, K] int32 of `values`,
  // -1 where absent.
  at::Tensor rows(const at::Tensor& slots, const at::Tensor& part) const;
  // Rows of later parts behind these.
  void append(const PartRows& more);
};

// The anchors of the parts of one kind.
struct PartAnchors {
  GrowingRows queries;  // [M, query_width]
  at::Tensor part;      // [M] int64, ascending; undefined: none
  int64_t parts = 0;
  // Copies where the network computes, if that is not the CPU, and their squared lengths;
  // undefined: none yet.
  at::Tensor device_queries, device_squares;

  // More parts; `own` [m] int64 counts them from 0.
  void append(const at::Tensor& more, const at::Tensor& own, int64_t more_parts);
  // Has the copies made, unless they are there.
  void copy_to(at::Device device);
  // The anchors that each of q [T, query_width] is near, by the copies where q is.
  std::vector<std::vector<Gate::Near>> near(const Gate& gate, const at::Tensor& q) const;
};

struct Overlay {
  struct Rows {
    SparseRows open;  // speaks wherever its slots are read
    PartRows gated;   // speaks near the anchors of its part
    PartRows text;    // the same for running text

    PartRows& of(Reach reach) { return reach == Reach::kText ? text : gated; }
    const PartRows& of(Reach reach) const { return reach == Reach::kText ? text : gated; }
  };
  std::map<int64_t, Rows> by_block;
  // An update that is being tried, beside the others rather than among them: to try one costs what
  // that one holds, whatever else is there.
  std::map<int64_t, Rows> on_trial;
  PartAnchors anchors;       // of updates about subjects
  PartAnchors text_anchors;  // of running text; both with those of the one on trial

  PartAnchors& anchors_of(Reach reach) { return reach == Reach::kText ? text_anchors : anchors; }
  const PartAnchors& anchors_of(Reach reach) const {
    return reach == Reach::kText ? text_anchors : anchors;
  }
  bool gated() const { return anchors.parts > 0 || text_anchors.parts > 0; }
  bool empty() const { return by_block.empty() && on_trial.empty(); }
  // Some of it speaks at every token that reads its slots.
  bool open_rows() const;
  int64_t parameters() const;  // values of all rows but those on trial
  // Keeps what a pass on `device` needs there.
  void copy_to(at::Device device);
  // Which parts speak at tokens with these queries, which may be on a device. A Gates::part is 2 p
  // for part p about subjects, 2 p + 1 for part p of running text. Undefined: nothing is gated.
  Gates gates(const Gate& gate, const at::Tensor& queries) const;
  // Gates::part of the last part of a kind.
  int64_t last_part(Reach reach) const;
  // What it adds to block `block`'s output, [T, d], for tokens with these accesses and (of a gated
  // overlay) gates. Undefined: nothing.
  at::Tensor read(int64_t block, const Accesses& accesses, const Gates& gates) const;

  // The parts of `updates` behind those that are there; of outlines too.
  void append_anchors(std::span<const Update* const> updates);

  // The overlay of `updates`, in order.
  static Overlay of(std::span<const Update* const> updates);
  // With `update` on trial. Throws kInternal when one is on trial already.
  Overlay with_trial(const Update& update) const;
  // The same for rows under way: `slots` ascending, `values` by block [t, d]; `queries` [m, w] are
  // the anchors of a text, undefined: the rows speak everywhere.
  Overlay with_trial(std::span<const int64_t> slots, const std::map<int64_t, at::Tensor>& values,
                     const at::Tensor& queries) const;
  // With a part about subjects behind the others that has anchors `queries` [m, w] and no rows: it
  // says nothing, but the others are heard beside it as they will be beside such an update.
  Overlay with_anchors(const at::Tensor& queries) const;
  // With one more update behind the others.
  Overlay plus(const Update& update) const;
};

}  // namespace accrete
