// A process that dies, or whose disk fails, at every single system call that writes.
//
// The operation runs in a child under ptrace. For k = 1, 2, ... the child is killed as it enters
// its k-th writing call (which does not happen any more), and again as it leaves it (which has
// happened); in a third round the call fails with ENOSPC. Afterwards the ledger is what it was
// before the operation or what it should be after it, never anything else.
#include <gtest/gtest.h>

#ifdef __x86_64__
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "ledger_testing.h"

namespace accrete {
namespace {

namespace fs = std::filesystem;
using testing::apply;
using testing::difference;
using testing::folder_difference;
using testing::Operation;
using testing::Reference;
using testing::TemporaryFolder;

bool writes(const user_regs_struct& regs) {
  switch (regs.orig_rax) {
    case SYS_write:
    case SYS_pwrite64:
    case SYS_writev:
    case SYS_pwritev:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_rename:
    case SYS_renameat:
    case SYS_renameat2:
    case SYS_unlink:
    case SYS_unlinkat:
    case SYS_ftruncate:
    case SYS_truncate:
    case SYS_fallocate:
    case SYS_mkdir:
    case SYS_mkdirat:
    case SYS_rmdir:
    case SYS_link:
    case SYS_linkat:
    case SYS_fchmod:
    case SYS_chmod:
      return true;
    case SYS_open:
      return (regs.rsi & (O_CREAT | O_TRUNC)) != 0;
    case SYS_openat:
      return (regs.rdx & (O_CREAT | O_TRUNC)) != 0;
    default:
      return false;
  }
}

enum class Fault { kNone, kKillBefore, kKillAfter, kNoSpace };

struct Run {
  int calls = 0;        // writing calls that were seen
  bool killed = false;  // by the fault
  int status = 0;       // exit status of the child otherwise
};

// The child says with a first SIGSTOP that it is ready, with a second that the operation is over.
template <typename F>
Run run_with_fault(F&& operation, Fault fault, int at) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    int status = 1;
    try {
      status = operation([] { ::raise(SIGSTOP); });
    } catch (...) {
    }
    ::_exit(status);
  }
  Run run;
  int status = 0;
  bool watching = false, entering = true, injected = false;
  const auto end = [&] {
    ::kill(child, SIGKILL);
    while (::waitpid(child, &status, 0) == child && !WIFSIGNALED(status) && !WIFEXITED(status)) {
    }
    run.killed = true;
  };
  while (::waitpid(child, &status, 0) == child) {
    if (WIFEXITED(status)) {
      run.status = WEXITSTATUS(status);
      return run;
    }
    if (WIFSIGNALED(status)) {
      run.status = 128 + WTERMSIG(status);
      return run;
    }
    int signal = 0;
    if (WSTOPSIG(status) == SIGSTOP) {
      if (!watching) ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD);
      watching = !watching;
      entering = true;  // a signal stops on the way out of the call that raised it
    } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
      user_regs_struct regs{};
      ::ptrace(PTRACE_GETREGS, child, nullptr, &regs);
      if (entering && watching && writes(regs)) {
        ++run.calls;
        if (run.calls == at && fault == Fault::kKillBefore) {
          end();
          return run;
        }
        if (run.calls == at && fault == Fault::kNoSpace) {
          regs.orig_rax = static_cast<unsigned long long>(-1);  // no such call
          ::ptrace(PTRACE_SETREGS, child, nullptr, &regs);
          injected = true;
        }
      } else if (!entering && watching && run.calls == at && fault == Fault::kKillAfter &&
                 writes(regs)) {
        end();
        return run;
      } else if (!entering && injected) {
        regs.rax = static_cast<unsigned long long>(-ENOSPC);
        ::ptrace(PTRACE_SETREGS, child, nullptr, &regs);
        injected = false;
      }
      entering = !entering;
    } else {
      signal = WSTOPSIG(status);
    }
    ::ptrace(watching ? PTRACE_SYSCALL : PTRACE_CONT, child, nullptr, signal);
  }
  return run;
}

// A ledger with a past: two updates, one of them undone, and a probe.
struct Scene {
  TemporaryFolder folder{TemporaryFolder::Place::kMemory};
  Reference before;

  Scene() {
    Ledger ledger = Ledger::create(folder.path());
    for (const Operation& op : {Operation{Operation::Kind::kCommit, 1, 0, false, ""},
                                Operation{Operation::Kind::kCommit, 2, 0, false, ""},
                                Operation{Operation::Kind::kAddProbe, 1, 0, false, "p"},
                                Operation{Operation::Kind::kUndo, 0, 1, false, ""}}) {
      apply(ledger, before, op);
      before.apply(op);
    }
  }
};

void fault_at_every_call(const Operation& op, const char* name) {
  int all = 0, old_state = 0, new_state = 0;
  for (const Fault fault : {Fault::kKillBefore, Fault::kKillAfter, Fault::kNoSpace})
    for (int at = 1;; ++at) {
      SCOPED_TRACE(::testing::Message()
                   << name << ", fault " << static_cast<int>(fault) << " at call " << at);
      const Scene scene;
      Reference after = scene.before;
      const auto want = after.apply(op);
      const Run run = run_with_fault(
          [&](auto&& mark) {
            Ledger ledger = Ledger::open(scene.folder.path(), Ledger::Mode::kWrite);
            mark();
            int status = 0;
            try {
              const auto got = apply(ledger, scene.before, op);
              if (!(got == want)) status = 2;  // refused, and said so
            } catch (...) {
              status = 3;
            }
            mark();
            return status;
          },
          fault, at);
      if (run.status == 99) GTEST_SKIP() << "ptrace is not allowed here";
      if (run.calls < at) {  // the operation has no more calls
        ASSERT_FALSE(run.killed);
        ASSERT_EQ(run.status, 0);
        all = at - 1;
        break;
      }
      if (fault != Fault::kNoSpace) {
        ASSERT_TRUE(run.killed);
      }
      // A reader first, which tidies nothing up; then the next writer.
      const Ledger reader = Ledger::open(scene.folder.path(), Ledger::Mode::kRead);
      const bool is_old = difference(reader, scene.before).empty();
      const bool is_new = difference(reader, after).empty();
      ASSERT_TRUE(is_old || is_new)
          << "old: " << difference(reader, scene.before) << "\nnew: " << difference(reader, after);
      (is_new ? new_state : old_state) += 1;
      // A clean end means that it took place (or that a file could not be tidied up yet).
      if (fault == Fault::kNoSpace && run.status == 0) {
        ASSERT_TRUE(is_new);
      }
      const Ledger writer = Ledger::open(scene.folder.path(), Ledger::Mode::kWrite);
      const Reference& now = is_new ? after : scene.before;
      ASSERT_EQ(difference(writer, now), "");
      ASSERT_EQ(folder_difference(writer, now), "");
    }
  printf("%s: %d writing calls, each with 3 faults: %d times the old state, %d times the new\n",
         name, all, old_state, new_state);
  EXPECT_GT(all, 2);
  EXPECT_GT(old_state, 0);
  EXPECT_GT(new_state, 0);
}

using Kind = Operation::Kind;

TEST(LedgerSyscalls, Commit) {
  fault_at_every_call({Kind::kCommit, 5, 0, false, ""}, "commit");
}
TEST(LedgerSyscalls, Undo) {
  fault_at_every_call({Kind::kUndo, 0, 1, false, ""}, "undo");
}
TEST(LedgerSyscalls, Redo) {
  fault_at_every_call({Kind::kRedo, 0, 1, false, ""}, "redo");
}
TEST(LedgerSyscalls, Tag) {
  fault_at_every_call({Kind::kTag, 0, 0, false, "name"}, "tag");
}
TEST(LedgerSyscalls, AddProbe) {
  fault_at_every_call({Kind::kAddProbe, 3, 0, false, "q"}, "probe add");
}
TEST(LedgerSyscalls, ReplaceProbe) {
  fault_at_every_call({Kind::kAddProbe, 4, 0, true, "p"}, "probe replace");
}
TEST(LedgerSyscalls, RemoveProbe) {
  fault_at_every_call({Kind::kRemoveProbe, 0, 0, false, "p"}, "probe remove");
}

}  // namespace
}  // namespace accrete
#endif
