// Audit: who owns which slots, where updates meet, what is left, and what looks odd.
//
// Non-goals: the model (no pass is made), repairing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "learn/earlier.h"

namespace accrete {

struct OwnedSlots {
  std::string update, tag, source;
  int64_t items = 0;
  int64_t rows = 0;        // over all blocks
  int64_t exclusive = 0;   // that no other active update writes
  int64_t anchors = 0;     // 0: it speaks everywhere
  double norm = 0;         // Frobenius norm of its rows
  double largest_row = 0;  // norm
};

struct SharedSlots {
  std::string a, b;  // ids
  int64_t shared = 0;
  double cosine = 0;  // of their rows there
};

struct BlockUse {
  int64_t block = 0;
  int64_t used = 0, slots = 0;  // rows that some update writes; all there are
  double norm = 0;              // of the sum of all updates
  double largest_row = 0;
};

struct ContestedSlot {
  int64_t block = 0, slot = 0;
  std::vector<std::string> updates;  // ids, in ledger order
  double norm = 0;                   // of the sum
  double sum_of_norms = 0;           // far above `norm`: they cancel one another
};

struct AuditReport {
  std::vector<OwnedSlots> updates;  // in ledger order
  std::vector<BlockUse> blocks;
  std::vector<SharedSlots> overlaps;     // most shared slots first
  std::vector<ContestedSlot> contested;  // most updates first, then most cancelled
  std::vector<std::string> anomalies;    // in words
};

// `slots`: N of the memory layers; `blocks` those of the model; at most `most` overlaps and
// contested slots are listed.
AuditReport audit(const std::vector<EarlierUpdate>& active, const std::vector<int64_t>& blocks,
                  int64_t slots, size_t most = 10);

}  // namespace accrete
