// A disk whose blocks come from a source while the guest uses it.
#include <sys/stat.h>

#include <bit>

#include "tests/support/fault_engine.h"
#include "tests/support/memory_block_source.h"
#include "tests/unit/vmm/disk/layered_disk_fixture.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kSourceBlocks = 600;
constexpr uint64_t kSourceBytes = kSourceBlocks * 4096 + 512;  // the last block is a short one

// Data in blocks 0 to 99, 400 to 419, and in the last one.
std::vector<uint8_t> SourceBytes() {
  std::vector<uint8_t> bytes(kSourceBytes);
  for (uint64_t at = 0; at < bytes.size(); ++at) {
    const uint64_t block = at / 4096;
    if (block < 100 || (block >= 400 && block < 420) || block == kSourceBlocks) {
      bytes[at] = static_cast<uint8_t>(1 + (at / 512) % 251);
    }
  }
  return bytes;
}

class LayeredSourceTest : public testing::Test {
 protected:
  LayeredSourceTest() {
    CHECK(fixture_.BeginFromSource(source_).ok());
    Open();
  }
  ~LayeredSourceTest() override {
    source_->HoldOneIn(0);
    source_->Release();
    faults_->SetPolicy({});
    faults_->ReleaseAll();
    fixture_.Close();
  }

  void Open() {
    faults_ = std::make_shared<FaultEngine>();
    const Status opened = fixture_.Open(faults_);
    CHECK(opened.ok(), "{}", opened.error().message());
  }
  // As a kill leaves it: what is in flight ends, nothing more is recorded.
  void Kill() { fixture_.Close(); }

  // Merging stands still in the first quarter of the disk until Release; the guest's fetches come.
  void HoldMerging() {
    source_->HoldNext();
    while (source_->held() == 0) {
      fixture_.Work();
      std::this_thread::yield();
    }
  }
  // Of data nothing comes before Mend; of zeroes it is known that they are.
  void Fail() { source_->FailFrom(0, UINT64_MAX); }

  int Change(BlockOperation operation, uint64_t offset, uint64_t size, uint8_t fill) {
    LayeredRequest request(operation, offset, size, fill);
    const int error = fixture_.Run(request);
    if (error == 0) {
      std::fill_n(model_.begin() + static_cast<ptrdiff_t>(offset), size, fill);
    }
    return error;
  }
  // On a thread of its own: pieces of merging from before the instant must come to their end.
  Result<std::vector<uint8_t>> ReadView() {
    Result<std::vector<uint8_t>> view = std::vector<uint8_t>();
    (void)fixture_.BesideWorker([&] {
      view = fixture_.ReadView(30'000);
      return Status();
    });
    return view;
  }
  LayeredDisk& disk() { return fixture_.disk(); }

  LayeredDiskFixture fixture_{kSourceBytes};
  std::shared_ptr<MemoryBlockSource> source_ = std::make_shared<MemoryBlockSource>(SourceBytes());
  std::shared_ptr<FaultEngine> faults_;
  std::vector<uint8_t> model_ = SourceBytes();
};

TEST_F(LayeredSourceTest, DiskIsWholeBeforeAnythingIsFetched) {
  EXPECT_EQ(disk().blocks_in_source(), kSourceBlocks + 1);
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  EXPECT_EQ(
      fixture_.Read(50 * 4096 + 512, 1024),
      std::vector<uint8_t>(model_.begin() + 50 * 4096 + 512, model_.begin() + 50 * 4096 + 1536));
}

TEST_F(LayeredSourceTest, EverythingComesHomeAndTheImageStaysSparse) {
  fixture_.WaitFetched();
  EXPECT_EQ(disk().blocks_in_source(), 0u);
  fixture_.WaitMerged();
  EXPECT_EQ(fixture_.ImageBytes(), model_);
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_TRUE(fixture_.LayerFiles().empty());
  struct stat status {};
  ASSERT_EQ(::stat(fixture_.path().c_str(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, 200 * 4096) << "121 blocks are data";
  std::vector<uint64_t> words(disk().dirty().word_count());
  disk().dirty().TakeInto(words);
  EXPECT_THAT(words, testing::Each(0u)) << "fetching changes nothing";
  EXPECT_TRUE((fixture_.Close(), DiskImage::Open({.path = fixture_.path(), .owner = {}}).ok()));
}

TEST_F(LayeredSourceTest, ChangesBesideWhatIsNotFetchedBringTheRestAlong) {
  HoldMerging();
  EXPECT_EQ(Change(BlockOperation::kWrite, 402 * 4096 + 512, 8192, 7), 0);
  EXPECT_EQ(Change(BlockOperation::kWriteZeroes, 410 * 4096 + 1024, 12288, 0), 0);
  EXPECT_EQ(Change(BlockOperation::kDiscard, 418 * 4096, 8192, 0), 0);
  EXPECT_EQ(Change(BlockOperation::kWrite, kSourceBytes - 512, 512, 9), 0);
  source_->Release();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  fixture_.WaitFetched();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, MergingThatHangsHoldsUpNobodyElse) {
  HoldMerging();
  EXPECT_EQ(Change(BlockOperation::kWrite, 500 * 4096, 4096, 5), 0);
  EXPECT_EQ(Change(BlockOperation::kWrite, 400 * 4096 + 512, 512, 5), 0);
  EXPECT_EQ(fixture_.Flush(), 0);
  EXPECT_EQ(fixture_.Read(500 * 4096, 512)[0], 5);
  EXPECT_EQ(fixture_.Read(405 * 4096, 512)[0], model_[405 * 4096]);
  fixture_.Snapshot();
  EXPECT_EQ(Change(BlockOperation::kWrite, 501 * 4096, 4096, 6), 0);
  EXPECT_EQ(Change(BlockOperation::kWrite, 410 * 4096 + 512, 512, 6), 0);
  EXPECT_EQ(fixture_.Read(501 * 4096, 512)[0], 6);
  disk().Release();
  EXPECT_EQ(source_->held(), 1u);
  source_->Release();
  fixture_.WaitFetched();
  fixture_.WaitMerged();
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, SnapshotWhileBlocksAreFetchedIsWholeAndSmall) {
  Fail();
  EXPECT_EQ(Change(BlockOperation::kWrite, 450 * 4096, 4096, 5), 0);
  const std::vector<uint64_t> words = fixture_.Snapshot();
  source_->Mend();
  const std::vector<uint8_t> then = model_;
  EXPECT_EQ(Change(BlockOperation::kWrite, 10 * 4096 + 512, 1024, 7), 0);
  EXPECT_EQ(Change(BlockOperation::kWriteZeroes, 405 * 4096, 4096, 0), 0);
  EXPECT_GE(disk().blocks_in_source(), 119u) << "the blocks of data but those just changed";
  EXPECT_EQ(ReadView().value(), then);
  uint64_t dirty = 0;
  for (const uint64_t word : words) {
    dirty += static_cast<uint64_t>(std::popcount(word));
  }
  EXPECT_EQ(dirty, 1u) << "what is in the source is in the parent";
  disk().Release();
  fixture_.WaitFetched();
  fixture_.WaitMerged();
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, FetchingThatHasStoppedGoesOnWhenItIsToldTo) {
  Fail();
  fixture_.WorkUntil([this] { return source_->failures() > 0; });
  const uint64_t failures = source_->failures();
  // Told before the disk knows of the failure it has nothing to do.
  fixture_.WorkUntil([&] {
    disk().FetchAgain();
    return source_->failures() > failures;
  });
  source_->Mend();
  while (disk().needs_source()) {
    disk().FetchAgain();
    fixture_.Work();
  }
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, ViewThatCannotBeFetchedSaysWhy) {
  Fail();
  fixture_.Snapshot();
  const Result<std::vector<uint8_t>> view = ReadView();
  ASSERT_FALSE(view.ok());
  EXPECT_THAT(view.error().message(), HasSubstr("fails its check"));
  disk().Release();
}

TEST_F(LayeredSourceTest, LayersGoThoughTheSourceHasFailed) {
  Fail();
  for (uint8_t snapshot = 0; snapshot < 3 * kMaxLayers; ++snapshot) {
    fixture_.Snapshot();
    EXPECT_EQ(Change(BlockOperation::kWrite, 4096 * (snapshot % 9), 4096,
                     static_cast<uint8_t>(100 + snapshot)),
              0);
    disk().Release();
    fixture_.WaitMerged();
  }
  EXPECT_GT(disk().blocks_in_source(), 0u);
  EXPECT_TRUE(disk().needs_source());
  source_->Mend();
  while (disk().needs_source()) {
    EXPECT_EQ(fixture_.Flush(), 0);  // a reason to try again
  }
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

// ---- failures

TEST_F(LayeredSourceTest, FetchThatFailsIsThatRequestsErrorAndNeverAWrongByte) {
  for (uint64_t failing = 0; failing < 12; ++failing) {
    source_->FailFrom(failing, 3);
    for (uint64_t block = 0; block < 100; block += 3) {
      LayeredRequest read(BlockOperation::kRead, block * 4096 + 512, 8192, 0xee);
      const auto at = model_.begin() + static_cast<ptrdiff_t>(block * 4096 + 512);
      const int error = fixture_.Run(read);
      ASSERT_TRUE(error == 0 || error == EIO) << error;
      for (ptrdiff_t i = 0; i < 8192; ++i) {
        const uint8_t byte = read.bytes[static_cast<size_t>(i)];
        ASSERT_TRUE(byte == at[i] || (error != 0 && byte == 0xee)) << i;
      }
      if (block % 9 == 0) {
        (void)Change(BlockOperation::kWrite, block * 4096 + 1024, 512,
                     static_cast<uint8_t>(failing * 16 + block % 16));
      }
    }
    (void)fixture_.Flush();
  }
  EXPECT_GT(source_->failures(), 0u);
  source_->Mend();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  while (!disk().MergeAll().ok()) {
  }
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, MergingAllNamesTheSourceThatFails) {
  Fail();
  const Status merged = disk().MergeAll();
  ASSERT_FALSE(merged.ok());
  EXPECT_THAT(merged.error().message(), HasSubstr("snapshot 1 of /store"));
  source_->Mend();
  EXPECT_TRUE(disk().MergeAll().ok());
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

// The host's disk fails at each operation in turn, and then the process is killed.
TEST(LayeredSourceSweep, FailureOfEachOperationInTurnLosesNothing) {
  for (uint64_t failing = 0;; ++failing) {
    LayeredDiskFixture fixture(kSourceBytes);
    auto source = std::make_shared<MemoryBlockSource>(SourceBytes());
    ASSERT_TRUE(fixture.BeginFromSource(source).ok());
    auto faults = std::make_shared<FaultEngine>();
    bool failed = false;
    faults->SetPolicy([&](const IoOperation&, uint64_t count) {
      failed |= count == failing;
      return count == failing ? Fault::Fail(ENOSPC) : Fault::None();
    });
    ASSERT_TRUE(fixture.Open(faults).ok());
    std::vector<uint8_t> model = SourceBytes();
    const auto change = [&](uint64_t offset, uint64_t size, uint8_t fill) {
      while (fixture.Write(offset, size, fill) != 0) {
      }
      std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), size, fill);
    };
    change(512, 8192, 1);
    change(200 * 4096 + 512, 512, 2);
    fixture.Snapshot();
    change(4096, 4096, 3);
    while (fixture.Flush() != 0) {
    }
    fixture.disk().Release();
    change(410 * 4096, 512, 4);
    while (fixture.Flush() != 0) {
    }
    LayeredRequest read(BlockOperation::kRead, 0, kSourceBytes);
    while (fixture.Run(read) != 0) {
      read.done = false;
    }
    ASSERT_EQ(read.bytes, model) << failing;
    fixture.Close();
    faults->SetPolicy({});
    ASSERT_TRUE(fixture.Open(std::make_shared<FaultEngine>()).ok());
    ASSERT_EQ(fixture.Read(0, kSourceBytes), model) << failing;
    ASSERT_TRUE(fixture.disk().MergeAll().ok());
    ASSERT_EQ(fixture.ImageBytes(), model) << failing;
    fixture.Close();
    if (!failed) {
      EXPECT_GT(failing, 8u);
      return;
    }
  }
}

// ---- after a kill

TEST_F(LayeredSourceTest, KilledInTheMiddleItGoesOn) {
  HoldMerging();
  EXPECT_EQ(Change(BlockOperation::kWrite, 590 * 4096, 4096, 8), 0);
  EXPECT_EQ(Change(BlockOperation::kWrite, 410 * 4096 + 512, 512, 8), 0);
  EXPECT_EQ(fixture_.Flush(), 0);
  source_->Release();
  Kill();
  EXPECT_THAT(fixture_.LayerFiles(), ElementsAre("map"));
  Open();
  EXPECT_TRUE(disk().needs_source());
  EXPECT_EQ(disk().blocks_in_source(), kSourceBlocks - 1) << "but the two that were flushed";
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  fixture_.WaitFetched();
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, WithoutItsSourceItIsRefusedByName) {
  Kill();
  EXPECT_EQ(LayerDirectory::SourceOf(fixture_.path()).value(), "snapshot 1 of /store");
  fixture_.SetSource(nullptr);
  Status opened = fixture_.Open(faults_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(opened.error().message(), HasSubstr("snapshot 1 of /store"));
  fixture_.SetSource(std::make_shared<MemoryBlockSource>(SourceBytes(), "snapshot 2 of /store"));
  opened = fixture_.Open(faults_);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kInvalidArgument);
  for (const bool read_only : {false, true}) {
    const Result<DiskImage> image =
        DiskImage::Open({.path = fixture_.path(), .read_only = read_only, .owner = {}});
    ASSERT_FALSE(image.ok());
    EXPECT_THAT(image.error().message(), HasSubstr("snapshot 1 of /store"));
  }
  EXPECT_THAT(fixture_.LayerFiles(), ElementsAre("map")) << "nothing was taken away";
  fixture_.SetSource(source_);
  Open();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
}

TEST_F(LayeredSourceTest, WhatWasNeverRecordedDoesNotComeBackWithZeroesOfTheSource) {
  HoldMerging();
  // Over zeroes of the source; it reaches the image, and is not flushed.
  EXPECT_EQ(fixture_.Write(300 * 4096, 8 * 4096, 9), 0);
  EXPECT_EQ(fixture_.ImageBytes()[300 * 4096], 9);
  source_->Release();
  Kill();
  Open();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  fixture_.WaitFetched();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, CleanEndLeavesItsBlocksInTheSource) {
  Fail();
  fixture_.Snapshot();
  EXPECT_EQ(Change(BlockOperation::kWrite, 10 * 4096, 4096, 8), 0);
  ASSERT_TRUE(disk().MergeAll(LayeredDisk::SourceBlocks::kLeave).ok());
  EXPECT_THAT(fixture_.LayerFiles(), ElementsAre("map"));
  EXPECT_TRUE(disk().needs_source());
  Kill();
  source_->Mend();
  Open();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_EQ(fixture_.ImageBytes(), model_);
  EXPECT_TRUE(fixture_.LayerFiles().empty());
}

TEST_F(LayeredSourceTest, TheRecordStaysAsLongAsItsNameIsNeeded) {
  source_->SetMayForget(false);
  fixture_.WaitFetched();
  EXPECT_EQ(Change(BlockOperation::kWrite, 10 * 4096, 4096, 8), 0);
  EXPECT_EQ(fixture_.Flush(), 0);
  for (int end = 0; end < 2; ++end) {
    ASSERT_TRUE(disk().MergeAll().ok());
    EXPECT_FALSE(disk().needs_source());
    EXPECT_THAT(fixture_.LayerFiles(), ElementsAre("map"));
    Kill();
    EXPECT_EQ(LayerDirectory::SourceOf(fixture_.path()).value(), "snapshot 1 of /store");
    Open();
    EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  }
  EXPECT_EQ(source_->failures(), 0u);
  source_->SetMayForget(true);
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_TRUE(fixture_.LayerFiles().empty());
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

TEST_F(LayeredSourceTest, SnapshotsGoOnThoughTheRecordStays) {
  source_->SetMayForget(false);
  fixture_.WaitFetched();
  for (uint8_t snapshot = 0; snapshot < 3 * kMaxLayers; ++snapshot) {
    fixture_.Snapshot();
    const std::vector<uint8_t> then = model_;
    EXPECT_EQ(Change(BlockOperation::kWrite, 4096 * (snapshot % 9), 4096,
                     static_cast<uint8_t>(100 + snapshot)),
              0);
    EXPECT_EQ(ReadView().value(), then);
    disk().Release();
    fixture_.WaitMerged();
  }
  source_->SetMayForget(true);
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_TRUE(fixture_.LayerFiles().empty());
  EXPECT_EQ(fixture_.ImageBytes(), model_);
}

// Whoever has no source any more has none to forget.
TEST_F(LayeredSourceTest, AWholeDiskNeedsNoSourceToBeOpened) {
  source_->SetMayForget(false);
  fixture_.WaitFetched();
  Kill();
  fixture_.SetSource(nullptr);
  Open();
  EXPECT_EQ(fixture_.Read(0, kSourceBytes), model_);
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_TRUE(fixture_.LayerFiles().empty());
}

TEST_F(LayeredSourceTest, BeginsOnlyWhereNoLogIs) {
  const Status again = fixture_.BeginFromSource(source_);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), ErrorCode::kBusy);
}

}  // namespace
}  // namespace pacsvisor
