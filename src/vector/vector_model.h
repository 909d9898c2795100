// A model of vectors: its network, its address, what its memory adds, and how well it does.
//
// A policy says values (actions), a classifier the class whose score is largest, a table model one
// risk. Sets are made to fit: of a table model classes 0 and 1 become values.
//
// Non-goals: the ledger's transaction (vector_teach.h).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/vector_set.h"
#include "ledger/ledger.h"
#include "vector/network.h"
#include "vector/state.h"
#include "vector/winners.h"

namespace accrete {

// Whether accrete/memory.json says so.
bool has_vector_memory(const std::filesystem::path& folder);

class VectorModel {
 public:
  // Reads network and memory, no updates. Throws kNotFound, kFormat (the network is not the one
  // that the memory was made for), kUnsupported.
  static VectorModel open(const std::filesystem::path& folder);

  const VectorNetwork& net() const { return net_; }
  const VectorPlace& place() const { return place_; }

  // The outputs [n, C] for rows [n, inputs], in the order of state.outputs.
  std::vector<float> answer(const VectorState& state, std::span<const float> inputs) const;
  // Of a classifier the place of the largest score in each row; of equal ones the first.
  static std::vector<int32_t> largest(std::span<const float> outputs, int64_t width);

  // Throws kInvalidArgument: the set's inputs, targets or metric are none for this model.
  void require_fit(const VectorSet& set) const;
  // By the set's metric, else the model's: the share of right classes ("accuracy"), the area under
  // the curve ("auc"), the share of the targets' variance that is explained ("fit"). In [0, 1].
  double score(const VectorState& state, const VectorSet& set) const;
  std::string metric_of(const VectorSet& set) const;

  // What an update of the set holds: accesses, or their sums where these are smaller.
  UpdateVectors lesson(const VectorSet& set) const;
  // Of inputs alone, at which the answers are to stay: no targets.
  UpdateVectors background(const VectorSet& set) const;
  // SHA-256 of network and sums.
  std::string digest(const VectorSums& sums) const;

 private:
  VectorModel(VectorNetwork net, VectorPlace place);
  // Outputs of a set's rows that the network already has, and others by name.
  UpdateVectors accesses_of(const VectorSet& set, std::vector<float>* base) const;

  VectorNetwork net_;
  VectorPlace place_;
  Winners winners_;
};

}  // namespace accrete
