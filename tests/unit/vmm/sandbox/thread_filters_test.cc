#include "vmm/sandbox/thread_filters.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "tests/support/temporary_directory.h"
#include "vmm/base/linux_abi.h"
#include "vmm/base/thread_priority.h"
#include "vmm/sandbox/allowed_calls.h"
#include "vmm/sandbox/privileges.h"
#include "vmm/sandbox/violation.h"

namespace pacsvisor {
namespace {

void StartAndJoinThread() {
  pthread_t thread = {};
  const auto body = [](void*) -> void* { return nullptr; };
  CHECK(pthread_create(&thread, nullptr, body, nullptr) == 0);
  CHECK(pthread_join(thread, nullptr) == 0);
}

// In a process of its own: ends with 0 when `body` returns.
[[noreturn]] void RunConfined(ThreadKind kind, const std::function<void()>& body) {
  StartAndJoinThread();  // with the first one glibc sets up signals of its own
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

TEST_P(EveryKind, StartsNoOtherProcess) {
  EXPECT_EXIT(RunConfined(GetParam(), [] { syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: clone");
  EXPECT_EXIT(RunConfined(GetParam(), [] { syscall(SYS_fork); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: fork");
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

// The figures of vmm/sandbox/README.md.
TEST_P(EveryKind, IsCompiled) {
  std::set<int> calls;
  for (const AllowedCall& call : AllowedCalls(GetParam())) {
    calls.insert(call.number);
  }
  const size_t instructions = ThreadFilters::Compile().value().InstructionCount(GetParam());
  fmt::print("{}: {} system calls, {} instructions\n", ThreadKindName(GetParam()), calls.size(),
             instructions);
  EXPECT_GT(instructions, calls.size());
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
  // Whatever the wide one asks for, the narrow one asks for too.
  return wide.number == narrow.number &&
         std::all_of(wide.rules.begin(), wide.rules.end(), [&](const ArgumentRule& asked) {
           return std::any_of(narrow.rules.begin(), narrow.rules.end(),
                              [&](const ArgumentRule& rule) { return same(asked, rule); });
         });
}

// A thread inherits the filter of the one that starts it.
TEST(AllowedCalls, TheMainThreadMayWhatTheOthersMay) {
  const std::vector<AllowedCall> main = AllowedCalls(ThreadKind::kMain);
  for (const ThreadKind kind : kThreadKinds) {
    for (const AllowedCall& call : AllowedCalls(kind)) {
      EXPECT_TRUE(call.error != 0 ||
                  std::any_of(main.begin(), main.end(),
                              [&call](const AllowedCall& wide) { return Covers(wide, call); }))
          << ThreadKindName(kind) << ": call " << call.number;
    }
  }
}

TEST(ThreadFilters, OnlyTheNetworkThreadOpensConnections) {
  const auto connect = [] { close(socket(AF_INET, SOCK_STREAM, 0)); };
  EXPECT_EXIT(RunConfined(ThreadKind::kNetwork, connect), testing::ExitedWithCode(0), "");
  for (const ThreadKind kind :
       {ThreadKind::kVcpu, ThreadKind::kDevice, ThreadKind::kDiskIo, ThreadKind::kControl,
        ThreadKind::kSnapshot, ThreadKind::kStore, ThreadKind::kFault}) {
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

TEST(ThreadFilters, TheOthersGetNoFileAndGoOn) {
  for (const ThreadKind kind :
       {ThreadKind::kVcpu, ThreadKind::kDevice, ThreadKind::kDiskIo, ThreadKind::kControl,
        ThreadKind::kSnapshot, ThreadKind::kStore, ThreadKind::kFault}) {
    EXPECT_EXIT(RunConfined(kind,
                            [] {
                              CHECK(open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC) == -1);
                              CHECK(errno == EACCES);
                            }),
                testing::ExitedWithCode(0), "");
    EXPECT_EXIT(RunConfined(kind, [] { open("/dev/null", O_WRONLY | O_CLOEXEC); }),
                testing::ExitedWithCode(kViolationStatus), "not allowed: openat");
  }
}

// What fills guest memory and lets go of it. The descriptor is none here: the call is not refused.
TEST(ThreadFilters, FaultAndSnapshotThreadsServeUserfaultsButMakeNone) {
  for (const ThreadKind kind : {ThreadKind::kFault, ThreadKind::kSnapshot}) {
    EXPECT_EXIT(RunConfined(kind,
                            [] {
                              for (const unsigned long request :
                                   {static_cast<unsigned long>(UFFDIO_REGISTER),
                                    static_cast<unsigned long>(UFFDIO_COPY),
                                    static_cast<unsigned long>(UFFDIO_ZEROPAGE),
                                    static_cast<unsigned long>(UFFDIO_WRITEPROTECT)}) {
                                CHECK(ioctl(-1, request, nullptr) == -1 && errno == EBADF);
                              }
                            }),
                testing::ExitedWithCode(0), "");
    EXPECT_EXIT(RunConfined(kind, [] { ioctl(-1, USERFAULTFD_IOC_NEW, 0); }),
                testing::ExitedWithCode(kViolationStatus), "not allowed: ioctl");
    EXPECT_EXIT(RunConfined(kind, [] { syscall(SYS_userfaultfd, 0); }),
                testing::ExitedWithCode(kViolationStatus), "not allowed: userfaultfd");
  }
  EXPECT_EXIT(RunConfined(ThreadKind::kVcpu, [] { ioctl(-1, UFFDIO_COPY, nullptr); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: ioctl");
}

TEST(ThreadFilters, ThoseThatServeAStoreLowerThemselvesAndNobodyElse) {
  for (const ThreadKind kind : {ThreadKind::kStore, ThreadKind::kSnapshot}) {
    EXPECT_EXIT(RunConfined(kind,
                            [] {
                              LowerCpuPriority();
                              LowerIoPriority();
                              CHECK(getpriority(PRIO_PROCESS, 0) >= 5);
                            }),
                testing::ExitedWithCode(0), "");
    EXPECT_EXIT(RunConfined(kind, [] { setpriority(PRIO_PROCESS, 1, 19); }),
                testing::ExitedWithCode(kViolationStatus), "not allowed: setpriority");
  }
  EXPECT_EXIT(RunConfined(ThreadKind::kStore, [] { ioctl(-1, KVM_RUN, 0); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: ioctl");
  EXPECT_EXIT(RunConfined(ThreadKind::kStore, [] { unlinkat(0, "file", 0); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: unlinkat");
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

TEST(ThreadFilters, TheSnapshotThreadWorksInDirectoriesThatAreOpen) {
  const TemporaryDirectory directory;
  const int base = open(directory.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_GE(base, 0);
  const auto work = [base] {
    CHECK(mkdirat(base, "packs", 0700) == 0);
    const int file = openat(base, "packs/new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(file >= 0 && pwrite(file, "bytes", 5, 0) == 5 && ftruncate(file, 4) == 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0};
    CHECK(fcntl(file, F_OFD_SETLK, &lock) == 0 && flock(file, LOCK_EX) == 0);
    struct stat status = {};
    CHECK(fstat(file, &status) == 0 && status.st_size == 4);
    CHECK(fdatasync(file) == 0 && fsync(base) == 0);
    CHECK(renameat(base, "packs/new", base, "packs/old") == 0);
    CHECK(unlinkat(base, "packs/old", 0) == 0 && unlinkat(base, "packs", AT_REMOVEDIR) == 0);
  };
  EXPECT_EXIT(RunConfined(ThreadKind::kSnapshot, work), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunConfined(ThreadKind::kSnapshot, [] { renameat(AT_FDCWD, "a", AT_FDCWD, "b"); }),
              testing::ExitedWithCode(kViolationStatus), "not allowed: renameat");
  close(base);
}

TEST(ThreadFilters, OnlyTheSnapshotThreadHarvestsThroughPageTables) {
  // Refused by the kernel: there is no such descriptor.
  const auto harvest = [] { CHECK(ioctl(-1, kPagemapScan, nullptr) == -1 && errno == EBADF); };
  const auto protect = [] {
    CHECK(ioctl(-1, UFFDIO_WRITEPROTECT, nullptr) == -1 && errno == EBADF);
  };
  EXPECT_EXIT(RunConfined(ThreadKind::kSnapshot, harvest), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(RunConfined(ThreadKind::kSnapshot, protect), testing::ExitedWithCode(0), "");
  for (const ThreadKind kind : {ThreadKind::kVcpu, ThreadKind::kDevice, ThreadKind::kControl}) {
    EXPECT_EXIT(RunConfined(kind, harvest), testing::ExitedWithCode(kViolationStatus), "ioctl");
    EXPECT_EXIT(RunConfined(kind, protect), testing::ExitedWithCode(kViolationStatus), "ioctl");
  }
}

TEST(ThreadFilters, MainControlAndSnapshotStartThreads) {
  for (const ThreadKind kind : {ThreadKind::kMain, ThreadKind::kControl, ThreadKind::kSnapshot}) {
    EXPECT_EXIT(RunConfined(kind, StartAndJoinThread), testing::ExitedWithCode(0), "");
  }
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
