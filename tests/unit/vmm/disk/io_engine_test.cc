#include "vmm/disk/io_engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <deque>
#include <thread>

#include "tests/support/temporary_directory.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kFileBytes = 1 << 20;

class IoEngineTest : public testing::TestWithParam<IoEngineKind> {
 protected:
  IoEngineTest()
      : fd_(::open(directory_.MakeFile("image", kFileBytes).c_str(), O_RDWR | O_CLOEXEC)),
        engine_(CreateIoEngine(GetParam()).value()),
        file_(engine_->AddFile(fd_.get()).value()) {}

  // Runs one operation to its end and returns what the host said.
  int64_t Run(IoOperation operation) {
    operation.file = file_;
    EXPECT_TRUE(engine_->Queue(operation));
    engine_->Submit();
    WaitFor(1);
    return operation.result;
  }
  void WaitFor(size_t count) {
    std::vector<IoOperation*> done;
    engine_->Reap(done);
    while (done.size() < count) {
      pollfd wait{.fd = engine_->wait_fd(), .events = POLLIN, .revents = 0};
      ASSERT_GE(::poll(&wait, 1, 30'000), 0);
      ASSERT_NE(wait.revents, 0) << "the engine went silent";
      engine_->Reap(done);
    }
  }
  int64_t Transfer(IoKind kind, uint64_t offset_bytes, std::vector<uint8_t>& bytes) {
    const iovec part{bytes.data(), bytes.size()};
    return Run({.kind = kind, .offset_bytes = offset_bytes, .iovecs = &part, .iovec_count = 1});
  }

  TemporaryDirectory directory_;
  UniqueFd fd_;
  std::unique_ptr<IoEngine> engine_;
  unsigned file_;
};

TEST_P(IoEngineTest, ReadsBackWhatItWrote) {
  std::vector<uint8_t> written(8192, 0x5a);
  std::vector<uint8_t> read(8192);
  EXPECT_EQ(Transfer(IoKind::kWrite, 4096, written), 8192);
  EXPECT_EQ(Transfer(IoKind::kRead, 4096, read), 8192);
  EXPECT_EQ(read, written);
}

TEST_P(IoEngineTest, WritesDurably) {
  std::vector<uint8_t> written(512, 0x11);
  const iovec part{written.data(), written.size()};
  EXPECT_EQ(Run({.kind = IoKind::kWrite, .durable = true, .iovecs = &part, .iovec_count = 1}), 512);
  EXPECT_EQ(Run({.kind = IoKind::kSync}), 0);
}

TEST_P(IoEngineTest, ReadsShortAtTheEndOfTheFile) {
  std::vector<uint8_t> read(8192);
  EXPECT_EQ(Transfer(IoKind::kRead, kFileBytes - 512, read), 512);
  EXPECT_EQ(Transfer(IoKind::kRead, kFileBytes, read), 0);
}

TEST_P(IoEngineTest, PunchedAndZeroedRangesReadAsZeroes) {
  std::vector<uint8_t> bytes(64 << 10, 0xff);
  for (const IoKind kind : {IoKind::kPunchHole, IoKind::kZeroRange}) {
    std::fill(bytes.begin(), bytes.end(), 0xff);
    ASSERT_EQ(Transfer(IoKind::kWrite, 0, bytes), 64 << 10);
    const int64_t result = Run({.kind = kind, .offset_bytes = 4096, .size_bytes = 8192});
    if (result == -EOPNOTSUPP) {
      GTEST_SKIP() << "the file system of the temporary directory makes no holes";
    }
    ASSERT_EQ(result, 0);
    ASSERT_EQ(Transfer(IoKind::kRead, 0, bytes), 64 << 10);
    for (size_t i = 0; i < bytes.size(); ++i) {
      ASSERT_EQ(bytes[i], i >= 4096 && i < 12288 ? 0 : 0xff) << i;
    }
  }
}

TEST_P(IoEngineTest, ReportsTheHostsError) {
  const UniqueFd read_only(::open((directory_.path() / "image").c_str(), O_RDONLY | O_CLOEXEC));
  const unsigned file = engine_->AddFile(read_only.get()).value();
  std::vector<uint8_t> bytes(512);
  const iovec part{bytes.data(), bytes.size()};
  IoOperation write{.kind = IoKind::kWrite, .file = file, .iovecs = &part, .iovec_count = 1};
  ASSERT_TRUE(engine_->Queue(write));
  engine_->Submit();
  WaitFor(1);
  EXPECT_EQ(write.result, -EBADF);
  engine_->RemoveFile(file);
}

// More than the ring holds: Queue says no, nothing is lost.
TEST_P(IoEngineTest, CarriesMoreThanItHoldsAtOnce) {
  constexpr size_t kCount = 3000;
  std::vector<uint8_t> bytes(kCount * 16);
  std::vector<iovec> iovecs(kCount);
  std::deque<IoOperation> operations(kCount);
  std::vector<IoOperation*> done;
  for (size_t i = 0; i < kCount; ++i) {
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(i * 16), 16, static_cast<uint8_t>(i % 251));
    iovecs[i] = {&bytes[i * 16], 16};
    operations[i] = {.kind = IoKind::kWrite,
                     .file = file_,
                     .offset_bytes = i * 16,
                     .iovecs = &iovecs[i],
                     .iovec_count = 1};
    while (!engine_->Queue(operations[i])) {
      engine_->Submit();
      engine_->Reap(done);
    }
  }
  engine_->Submit();
  const size_t left = kCount - done.size();
  WaitFor(left);
  EXPECT_EQ(engine_->in_flight(), 0u);
  std::vector<uint8_t> read(bytes.size());
  ASSERT_EQ(Transfer(IoKind::kRead, 0, read), static_cast<int64_t>(read.size()));
  EXPECT_EQ(read, bytes);
}

TEST_P(IoEngineTest, EndsOnlyWhenItsBuffersAreFree) {
  std::vector<uint8_t> bytes(256 << 10, 0x77);
  const iovec part{bytes.data(), bytes.size()};
  std::deque<IoOperation> operations(4);
  for (size_t i = 0; i < operations.size(); ++i) {
    operations[i] = {.kind = IoKind::kWrite,
                     .durable = true,
                     .file = file_,
                     .offset_bytes = i * bytes.size(),
                     .iovecs = &part,
                     .iovec_count = 1};
    ASSERT_TRUE(engine_->Queue(operations[i]));
  }
  engine_.reset();
  for (const IoOperation& operation : operations) {
    EXPECT_EQ(operation.result, static_cast<int64_t>(bytes.size()));
  }
}

TEST_P(IoEngineTest, RefusesMoreFilesThanItServes) {
  std::vector<unsigned> files;
  for (unsigned i = 1; i < IoEngine::kMaxFiles; ++i) {
    files.push_back(engine_->AddFile(fd_.get()).value());
  }
  EXPECT_EQ(engine_->AddFile(fd_.get()).error().code(), ErrorCode::kNoSpace);
  engine_->RemoveFile(files.back());
  EXPECT_TRUE(engine_->AddFile(fd_.get()).ok());
}

// Refuses io_uring_setup to the calling thread and those it starts, as container hosts do.
void RefuseUring() {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{.len = std::size(program), .filter = program};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

TEST(IoEngineChoice, HostThatRefusesUringGetsThreads) {
  std::thread([] {
    ASSERT_NO_FATAL_FAILURE(RefuseUring());
    EXPECT_EQ(CreateIoEngine(IoEngineKind::kAuto).value()->name(), "threads");
    const Result<std::unique_ptr<IoEngine>> ring = CreateIoEngine(IoEngineKind::kUring);
    ASSERT_FALSE(ring.ok());
    EXPECT_EQ(ring.error().error_number(), EPERM);
  }).join();
}

TEST(IoEngineChoice, UringIsTakenWhereTheHostHasIt) {
  EXPECT_EQ(CreateIoEngine(IoEngineKind::kAuto).value()->name(),
            CreateIoEngine(IoEngineKind::kUring).value()->name());
}

INSTANTIATE_TEST_SUITE_P(Engines, IoEngineTest,
                         testing::Values(IoEngineKind::kUring, IoEngineKind::kThreads),
                         [](const auto& kind) {
                           return kind.param == IoEngineKind::kUring ? "Uring" : "Threads";
                         });

}  // namespace
}  // namespace pacsvisor
