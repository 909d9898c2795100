// The ledger against a reference model in memory, under random operations.
#include <gtest/gtest.h>

#include "ledger_testing.h"

namespace accrete {
namespace {

using testing::apply;
using testing::difference;
using testing::folder_difference;
using testing::Operation;
using testing::Reference;
using testing::TemporaryFolder;

TEST(LedgerModel, RandomOperations) {
  constexpr uint64_t kSequences = 40;
  constexpr int kOperations = 60;
  for (uint64_t sequence = 0; sequence < kSequences; ++sequence) {
    SCOPED_TRACE(sequence);
    Rng rng(sequence, 1);
    const TemporaryFolder model(TemporaryFolder::Place::kMemory);
    std::optional<Ledger> ledger = Ledger::create(model.path());
    Ledger reader = Ledger::open(model.path(), Ledger::Mode::kRead);
    Reference reference;
    uint64_t next_number = 0;
    for (int i = 0; i < kOperations; ++i) {
      SCOPED_TRACE(i);
      const Operation op = testing::random_operation(rng, reference, next_number);
      const auto got = apply(*ledger, reference, op);
      const auto want = reference.apply(op);
      ASSERT_EQ(got.ids, want.ids) << static_cast<int>(op.kind);
      ASSERT_EQ(got.error, want.error) << static_cast<int>(op.kind);
      ASSERT_EQ(difference(*ledger, reference), "") << static_cast<int>(op.kind);
      if (rng.below(4) == 0) {
        ASSERT_EQ(difference(reader, reference), "");
      }
      if (rng.below(10) == 0) {
        ledger.reset();
        ledger = Ledger::open(model.path(), Ledger::Mode::kWrite);
        ASSERT_EQ(difference(*ledger, reference), "");
      }
    }
    EXPECT_EQ(folder_difference(*ledger, reference), "");
    // What is left of the redo order comes back in that order.
    while (!reference.redo.empty()) {
      const Operation op{Operation::Kind::kRedo, 0, 1, false, ""};
      const auto got = apply(*ledger, reference, op);
      ASSERT_EQ(got.ids, reference.apply(op).ids);
    }
    testing::expect_error(ErrorCode::kInvalidArgument, [&] { ledger->redo(); });
  }
}

}  // namespace
}  // namespace accrete
