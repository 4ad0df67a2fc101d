#include "vmm/sandbox/thread_filters.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>

#include "vmm/sandbox/allowed_calls.h"
#include "vmm/sandbox/privileges.h"
#include "vmm/sandbox/violation.h"

namespace pacsvisor {
namespace {

// In a process of its own: ends with 0 when `body` returns.
[[noreturn]] void RunConfined(ThreadKind kind, const std::function<void()>& body) {
  const ThreadFilters filters = ThreadFilters::Compile().value();
  ReportViolations().value();
  GiveUpPrivileges().value();
  filters.Apply(kind).value();
  body();
  _exit(0);
}

class EveryKind : public testing::TestWithParam<ThreadKind> {};

TEST_P(EveryKind, MayDoWhatTheLibrariesDo) {
  EXPECT_EXIT(RunConfined(GetParam(),
                          [] {
                            std::string text(1 << 20, 'x');  // mapped and unmapped
                            void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                            CHECK(page != MAP_FAILED);
                            CHECK(mprotect(page, 4096, PROT_READ) == 0);
                            std::this_thread::yield();
                          }),
              testing::ExitedWithCode(0), "");
}

TEST_P(EveryKind, RunsNoOtherProgram) {
  EXPECT_EXIT(RunConfined(GetParam(), [] { execl("/bin/true", "true", nullptr); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: execve");
}

TEST_P(EveryKind, MakesNoCodeOfData) {
  EXPECT_EXIT(RunConfined(GetParam(),
                          [] {
                            mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                          }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: mmap");
}

TEST_P(EveryKind, SignalsNoOtherProcess) {
  const pid_t other = getppid();
  EXPECT_EXIT(RunConfined(GetParam(), [other] { syscall(SYS_tgkill, other, other, 0); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: tgkill");
  EXPECT_EXIT(RunConfined(GetParam(), [other] { kill(other, 0); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: kill");
}

TEST_P(EveryKind, IsCompiled) {
  EXPECT_GT(ThreadFilters::Compile().value().InstructionCount(GetParam()), 20u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKind, testing::ValuesIn(kThreadKinds), [](const auto& one) {
  std::string name(ThreadKindName(one.param));
  name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
  return name;
});

bool Covers(const AllowedCall& wide, const AllowedCall& narrow) {
  const auto same = [](const ArgumentRule& left, const ArgumentRule& right) {
    return left.index == right.index && left.mask == right.mask && left.value == right.value;
  };
  return wide.number == narrow.number &&
         (wide.rules.empty() || std::equal(wide.rules.begin(), wide.rules.end(),
                                           narrow.rules.begin(), narrow.rules.end(), same));
}

// A thread inherits the filter of the one that starts it.
TEST(AllowedCalls, TheMainThreadMayWhatTheOthersMay) {
  const std::vector<AllowedCall> main = AllowedCalls(ThreadKind::kMain);
  for (const ThreadKind kind : kThreadKinds) {
    for (const AllowedCall& call : AllowedCalls(kind)) {
      EXPECT_TRUE(std::any_of(main.begin(), main.end(),
                              [&call](const AllowedCall& wide) { return Covers(wide, call); }))
          << ThreadKindName(kind) << ": call " << call.number;
    }
  }
}

TEST(ThreadFilters, OnlyTheNetworkThreadOpensConnections) {
  const auto connect = [] { close(socket(AF_INET, SOCK_STREAM, 0)); };
  EXPECT_EXIT(RunConfined(ThreadKind::kNetwork, connect), testing::ExitedWithCode(0), "");
  for (const ThreadKind kind :
       {ThreadKind::kVcpu, ThreadKind::kDevice, ThreadKind::kDiskIo, ThreadKind::kControl}) {
    EXPECT_EXIT(RunConfined(kind, connect), testing::ExitedWithCode(kViolationStatus),
                "not allowed: socket");
  }
}

TEST(ThreadFilters, TheNetworkThreadReadsFilesButMakesNone) {
  EXPECT_EXIT(RunConfined(ThreadKind::kNetwork,
                          [] { close(open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC)); }),
              testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunConfined(ThreadKind::kNetwork, [] { open("/dev/null", O_WRONLY | O_CLOEXEC); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: openat");
}

// A plain thread: what checks std::thread's type under the undefined-behaviour sanitizer makes a
// pipe.
TEST(ThreadFilters, AThreadIsConfinedAlone) {
  EXPECT_EXIT(
      {
        ThreadFilters filters = ThreadFilters::Compile().value();
        ReportViolations().value();
        GiveUpPrivileges().value();
        pthread_t thread = {};
        const auto body = [](void* argument) -> void* {
          static_cast<ThreadFilters*>(argument)->Apply(ThreadKind::kVcpu).value();
          return nullptr;
        };
        CHECK(pthread_create(&thread, nullptr, body, &filters) == 0);
        CHECK(pthread_join(thread, nullptr) == 0);
        close(socket(AF_INET, SOCK_STREAM, 0));
        _exit(0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(ThreadFilters, TheThreadIsNamed) {
  EXPECT_EXIT(RunConfined(ThreadKind::kVcpu,
                          [] {
                            pthread_setname_np(pthread_self(), "vcpu7");
                            syscall(SYS_ptrace, 0, 0, 0, 0);
                          }),
              testing::ExitedWithCode(kViolationStatus),
              "thread vcpu7 made a system call that it is not allowed: ptrace");
}

}  // namespace
}  // namespace pacsvisor
