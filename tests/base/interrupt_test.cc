#include "base/interrupt.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>

#include "testing.h"

namespace accrete {
namespace {

using testing::run_in_child;
using testing::start_child;
using testing::wait_for;

// In children throughout: signals and dispositions are the process's.

TEST(Interrupt, FirstSignalSetsTheFlag) {
  for (const int number : {SIGINT, SIGTERM})
    EXPECT_EQ(0, run_in_child([number] {
                const InterruptHandler handler;
                const auto poll = handler.poll();
                if (handler.interrupted() || poll() || handler.signal() != 0) return 1;
                ::raise(number);
                if (!handler.interrupted() || !poll() || handler.signal() != number) return 2;
                return 0;
              }));
}

TEST(Interrupt, SecondSignalEndsTheProcess) {
  for (const int first : {SIGINT, SIGTERM})
    for (const int second : {SIGINT, SIGTERM}) {
      const int status = wait_for(start_child([=] {
        const InterruptHandler handler;
        ::raise(first);
        ::raise(second);
        return 0;
      }));
      ASSERT_TRUE(WIFSIGNALED(status));
      EXPECT_EQ(WTERMSIG(status), second);
    }
}

TEST(Interrupt, ResetAllowsAnother) {
  EXPECT_EQ(0, run_in_child([] {
              InterruptHandler handler;
              for (int i = 0; i < 3; ++i) {
                ::raise(SIGINT);
                if (!handler.interrupted()) return 1;
                handler.reset();
                if (handler.interrupted()) return 2;
              }
              return 0;
            }));
}

TEST(Interrupt, PutsBackWhatWasThere) {
  EXPECT_EQ(0, run_in_child([] {
              static volatile sig_atomic_t mine = 0;
              ::signal(SIGTERM, [](int) { mine = 1; });
              std::function<bool()> poll;
              {
                const InterruptHandler handler;
                poll = handler.poll();
                ::raise(SIGTERM);
                if (!handler.interrupted() || mine != 0) return 1;
              }
              if (poll()) return 2;
              ::raise(SIGTERM);
              if (mine != 1) return 3;
              const InterruptHandler again;
              return again.interrupted() ? 4 : 0;
            }));
}

TEST(Interrupt, IgnoredSignalsStayIgnored) {
  EXPECT_EQ(0, run_in_child([] {
              ::signal(SIGINT, SIG_IGN);
              const InterruptHandler handler;
              ::raise(SIGINT);
              ::raise(SIGINT);
              return handler.interrupted() ? 1 : 0;
            }));
}

TEST(Interrupt, OnlyOneAtATime) {
  EXPECT_EQ(0, run_in_child([] {
              const InterruptHandler handler;
              testing::expect_error(ErrorCode::kInternal, [] { const InterruptHandler second; });
              ::raise(SIGINT);
              return handler.interrupted() ? 0 : 1;
            }));
}

TEST(Interrupt, BlockedReadsGoOn) {
  EXPECT_EQ(0, run_in_child([] {
              const InterruptHandler handler;
              int ends[2];
              if (::pipe(ends) != 0) return 1;
              const pid_t parent = ::getpid();
              start_child([&] {
                ::usleep(20000);
                ::kill(parent, SIGINT);
                ::usleep(20000);
                return ::write(ends[1], "x", 1) == 1 ? 0 : 1;
              });
              char c = 0;
              if (::read(ends[0], &c, 1) != 1) return 2;
              return handler.interrupted() ? 0 : 3;
            }));
}

}  // namespace
}  // namespace accrete
