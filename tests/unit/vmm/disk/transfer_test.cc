#include "vmm/disk/transfer.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/fault_engine.h"
#include "tests/support/temporary_directory.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kTransferBytes = 256 << 10;

class TransferTest : public testing::Test {
 protected:
  TransferTest()
      : fd_(::open(directory_.MakeFile("image", kTransferBytes).c_str(), O_RDWR | O_CLOEXEC)) {
    auto engine = std::make_unique<FaultEngine>();
    faults_ = engine.get();
    runner_ = std::make_unique<TransferRunner>(std::move(engine));
    file_.buffered = file_.direct = runner_->engine().AddFile(fd_.get()).value();
    std::iota(pattern_.begin(), pattern_.end(), 1);
  }

  // The errno that one transfer ends with.
  int Run(Transfer transfer) {
    transfer.file = file_;
    runner_->Start(transfer);
    runner_->Kick();
    std::vector<TransferRunner::Finished> finished;
    while (finished.empty() && runner_->engine().in_flight() > 0) {
      runner_->Poll(finished);
    }
    EXPECT_EQ(finished.size(), 1u);
    return finished.empty() ? -1 : finished[0].error_number;
  }
  int RunData(BlockOperation operation, std::vector<uint8_t>& bytes, bool durable = false) {
    // In three uneven parts.
    const std::vector<iovec> parts = {{bytes.data(), 1000},
                                      {bytes.data() + 1000, 3096},
                                      {bytes.data() + 4096, bytes.size() - 4096}};
    return Run({.operation = operation,
                .durable = durable,
                .offset_bytes = 4096,
                .size_bytes = bytes.size(),
                .iovecs = parts});
  }
  std::vector<uint8_t> FileBytes(uint64_t offset_bytes, size_t size_bytes) {
    std::vector<uint8_t> bytes(size_bytes);
    EXPECT_EQ(::pread(fd_.get(), bytes.data(), size_bytes, static_cast<off_t>(offset_bytes)),
              static_cast<ssize_t>(size_bytes));
    return bytes;
  }
  std::vector<IoKind> Kinds() {
    std::vector<IoKind> kinds;
    for (const IoOperation& operation : faults_->trace()) {
      kinds.push_back(operation.kind);
    }
    return kinds;
  }

  TemporaryDirectory directory_;
  UniqueFd fd_;
  FaultEngine* faults_;
  std::unique_ptr<TransferRunner> runner_;
  TransferFile file_;
  std::vector<uint8_t> pattern_ = std::vector<uint8_t>(8192);
};

TEST_F(TransferTest, GoesOnAfterShortWritesOfEveryLength) {
  for (uint64_t bytes = 1; bytes < 8192; bytes += 61) {
    std::fill(pattern_.begin(), pattern_.end(), static_cast<uint8_t>(bytes));
    std::iota(pattern_.begin(), pattern_.begin() + 256, static_cast<uint8_t>(bytes));
    faults_->SetPolicy([bytes](const IoOperation&, uint64_t) { return Fault::Short(bytes); });
    ASSERT_EQ(RunData(BlockOperation::kWrite, pattern_), 0);
    ASSERT_EQ(FileBytes(4096, 8192), pattern_) << bytes;
  }
}

TEST_F(TransferTest, GoesOnAfterShortReadsOfEveryLength) {
  ASSERT_EQ(RunData(BlockOperation::kWrite, pattern_), 0);
  for (uint64_t bytes = 1; bytes < 8192; bytes += 61) {
    std::vector<uint8_t> read(8192);
    faults_->SetPolicy([bytes](const IoOperation&, uint64_t) { return Fault::Short(bytes); });
    ASSERT_EQ(RunData(BlockOperation::kRead, read), 0);
    ASSERT_EQ(read, pattern_) << bytes;
  }
}

TEST_F(TransferTest, ReportsTheErrorOfEveryStep) {
  for (const int error_number : {EIO, ENOSPC, EDQUOT}) {
    for (uint64_t step = 0; step < 8; ++step) {
      const uint64_t first = faults_->operation_count();
      faults_->SetPolicy([=](const IoOperation&, uint64_t count) {
        return count - first == step ? Fault::Fail(error_number) : Fault::Short(1024);
      });
      EXPECT_EQ(RunData(BlockOperation::kWrite, pattern_), error_number) << step;
      EXPECT_EQ(faults_->operation_count() - first, step + 1) << "nothing follows an error";
    }
  }
}

TEST_F(TransferTest, TriesAgainWhenInterrupted) {
  for (const int error_number : {EINTR, EAGAIN}) {
    faults_->SetPolicy([=](const IoOperation&, uint64_t count) {
      return count % 3 != 2 ? Fault::Fail(error_number) : Fault::Short(4096);
    });
    EXPECT_EQ(RunData(BlockOperation::kWrite, pattern_), 0);
    EXPECT_EQ(FileBytes(4096, 8192), pattern_);
  }
}

TEST_F(TransferTest, GivesUpOnAHostThatNeverGetsOn) {
  faults_->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Fail(EAGAIN); });
  EXPECT_EQ(RunData(BlockOperation::kWrite, pattern_), EAGAIN);
  EXPECT_EQ(faults_->operation_count(), TransferRunner::kMaxRetries + 1);
}

TEST_F(TransferTest, ReadBehindTheEndOfAFileThatShrankIsAnError) {
  ASSERT_EQ(::ftruncate(fd_.get(), 8192), 0);
  std::vector<uint8_t> read(8192);
  EXPECT_EQ(RunData(BlockOperation::kRead, read), EIO);
}

TEST_F(TransferTest, DurableWriteIsOneOperation) {
  EXPECT_EQ(RunData(BlockOperation::kWrite, pattern_, true), 0);
  ASSERT_EQ(faults_->trace().size(), 1u);
  EXPECT_TRUE(faults_->trace()[0].durable);
}

TEST_F(TransferTest, DurableHoleIsSynced) {
  EXPECT_EQ(Run({.operation = BlockOperation::kDiscard, .durable = true, .size_bytes = 8192}), 0);
  EXPECT_EQ(Kinds(), (std::vector{IoKind::kPunchHole, IoKind::kSync}));
}

TEST_F(TransferTest, FailedSyncOfADurableHoleIsReported) {
  faults_->SetPolicy([](const IoOperation& operation, uint64_t) {
    return operation.kind == IoKind::kSync ? Fault::Fail(EIO) : Fault::None();
  });
  EXPECT_EQ(Run({.operation = BlockOperation::kDiscard, .durable = true, .size_bytes = 8192}), EIO);
}

TEST_F(TransferTest, FlushIsASync) {
  EXPECT_EQ(Run({.operation = BlockOperation::kFlush}), 0);
  EXPECT_EQ(Kinds(), std::vector{IoKind::kSync});
}

TEST_F(TransferTest, RefusedDiscardIsDone) {
  ASSERT_EQ(RunData(BlockOperation::kWrite, pattern_), 0);
  faults_->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Fail(EOPNOTSUPP); });
  EXPECT_EQ(Run({.operation = BlockOperation::kDiscard, .offset_bytes = 4096, .size_bytes = 8192}),
            0);
  EXPECT_EQ(FileBytes(4096, 8192), pattern_);
}

// Whatever the file system refuses, and however short its writes are, the range ends as zeroes and
// its neighbours as they were.
TEST_F(TransferTest, ZeroesBySomeMeansOrOther) {
  constexpr uint64_t kRange = 160 << 10;
  for (const int refused : {0, 1, 2}) {
    for (const bool may_unmap : {false, true}) {
      for (const uint64_t short_bytes : {uint64_t{5000}, kRange}) {
        std::vector<uint8_t> ones(kTransferBytes, 0xff);
        ASSERT_EQ(::pwrite(fd_.get(), ones.data(), ones.size(), 0),
                  static_cast<ssize_t>(kTransferBytes));
        faults_->SetPolicy([=](const IoOperation& operation, uint64_t) {
          if ((operation.kind == IoKind::kPunchHole && refused >= 1) ||
              (operation.kind == IoKind::kZeroRange && refused >= 2)) {
            return Fault::Fail(EOPNOTSUPP);
          }
          return operation.kind == IoKind::kWrite ? Fault::Short(short_bytes) : Fault::None();
        });
        ASSERT_EQ(Run({.operation = BlockOperation::kWriteZeroes,
                       .durable = true,
                       .may_unmap = may_unmap,
                       .offset_bytes = 512,
                       .size_bytes = kRange}),
                  0);
        std::vector<uint8_t> expected = ones;
        std::fill_n(expected.begin() + 512, kRange, 0);
        ASSERT_EQ(FileBytes(0, kTransferBytes), expected) << refused << may_unmap << short_bytes;
      }
    }
  }
}

TEST_F(TransferTest, ZeroesWithoutUnmapKeepTheirSpace) {
  EXPECT_EQ(Run({.operation = BlockOperation::kWriteZeroes, .size_bytes = 8192}), 0);
  EXPECT_EQ(Kinds(), std::vector{IoKind::kZeroRange});
}

TEST_F(TransferTest, UnalignedRequestsGoThroughThePageCache) {
  const unsigned direct = runner_->engine().AddFile(fd_.get()).value();
  file_ = {.buffered = file_.buffered,
           .direct = direct,
           .memory_alignment_bytes = 512,
           .offset_alignment_bytes = 4096};
  alignas(4096) static std::array<uint8_t, 8192> buffer;
  const auto file_of = [this](uint64_t offset_bytes, uint8_t* address, size_t size_bytes) {
    const iovec part{address, size_bytes};
    EXPECT_EQ(Run({.operation = BlockOperation::kWrite,
                   .offset_bytes = offset_bytes,
                   .size_bytes = size_bytes,
                   .iovecs = {&part, 1}}),
              0);
    return faults_->trace().back().file;
  };
  EXPECT_EQ(file_of(4096, buffer.data(), 4096), direct);
  EXPECT_EQ(file_of(4096, buffer.data() + 512, 4096), direct);
  EXPECT_EQ(file_of(512, buffer.data(), 4096), file_.buffered);
  EXPECT_EQ(file_of(4096, buffer.data(), 512), file_.buffered);
  EXPECT_EQ(file_of(4096, buffer.data() + 8, 4096), file_.buffered);
}

}  // namespace
}  // namespace pacsvisor
