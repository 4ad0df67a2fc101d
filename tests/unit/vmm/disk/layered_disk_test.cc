// Single behaviours of a disk under layers.
#include <fstream>

#include "tests/support/fault_engine.h"
#include "tests/unit/vmm/disk/layered_disk_fixture.h"

namespace pacsvisor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kSmallBlocks = 64;
constexpr uint64_t kSmallBytes = kSmallBlocks * 4096;

class LayeredDiskTest : public testing::Test {
 protected:
  LayeredDiskTest() { Open(); }
  ~LayeredDiskTest() override {
    LetGo();
    fixture_.Close();
  }

  void Open() {
    faults_ = std::make_shared<FaultEngine>();
    const Status opened = fixture_.Open(faults_);
    CHECK(opened.ok(), "{}", opened.error().message());
  }
  std::string OpenError() {
    const Status opened = fixture_.Open(std::make_shared<FaultEngine>());
    return opened.ok() ? "opened" : opened.error().message();
  }
  LayeredDisk& disk() { return fixture_.disk(); }
  void HoldAll() {
    faults_->SetPolicy([](const IoOperation&, uint64_t) { return Fault::Hold(); });
  }
  void LetGo() {
    faults_->SetPolicy({});
    faults_->ReleaseAll();
  }
  static bool Has(const std::vector<uint64_t>& words, uint64_t block) {
    return (words[block / 64] >> (block % 64) & 1) != 0;
  }
  uint8_t ViewByte(uint64_t block) {
    std::vector<uint8_t> bytes(4096);
    const Status read = disk().Read(BlockIndex(block), bytes, 0);
    CHECK(read.ok(), "{}", read.error().message());
    return bytes[0];
  }
  // A batch of the log for each, and the machine is killed.
  void LeaveLayers() {
    ASSERT_EQ(fixture_.Write(0, 8192, 1), 0);
    fixture_.Snapshot();
    ASSERT_EQ(fixture_.Write(0, 4096, 2), 0);
    ASSERT_EQ(fixture_.Flush(), 0);
    ASSERT_EQ(fixture_.Write(4096, 512, 3), 0);
    ASSERT_EQ(fixture_.Flush(), 0);
    fixture_.Close();
  }
  std::vector<uint8_t> LogBytes() {
    std::ifstream file(fixture_.layers() / "map", std::ios::binary);
    return std::vector<uint8_t>(std::istreambuf_iterator<char>(file), {});
  }
  void WriteLog(const std::vector<uint8_t>& bytes) {
    std::ofstream(fixture_.layers() / "map", std::ios::binary | std::ios::trunc)
        .write(reinterpret_cast<const char*>(bytes.data()),  // bytes as characters
               static_cast<std::streamsize>(bytes.size()));
  }

  LayeredDiskFixture fixture_{kSmallBytes};
  std::shared_ptr<FaultEngine> faults_;
};

TEST_F(LayeredDiskTest, ViewStaysWhileTheGuestGoesOn) {
  ASSERT_EQ(fixture_.Write(0, 8192, 1), 0);
  fixture_.Snapshot();
  ASSERT_EQ(fixture_.Write(0, 4096, 2), 0);
  ASSERT_EQ(fixture_.Write(4096 + 512, 512, 3), 0);
  EXPECT_EQ(ViewByte(0), 1);
  EXPECT_EQ(ViewByte(1), 1);
  EXPECT_EQ(fixture_.Read(0, 512)[0], 2);
  EXPECT_EQ(fixture_.Read(4096, 512)[0], 1);
  EXPECT_EQ(fixture_.Read(4096 + 512, 512)[0], 3);
  EXPECT_EQ(fixture_.ImageBytes()[0], 1);
}

TEST_F(LayeredDiskTest, ReleaseBringsEverythingHomeAndTakesTheFilesAway) {
  fixture_.Snapshot();
  ASSERT_EQ(fixture_.Write(0, kSmallBytes, 7), 0);
  EXPECT_THAT(fixture_.LayerFiles(), ElementsAre("layer-1", "map"));
  disk().Release();
  fixture_.WaitMerged();
  EXPECT_EQ(fixture_.ImageBytes(), std::vector<uint8_t>(kSmallBytes, 7));
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_THAT(fixture_.LayerFiles(), IsEmpty());
}

TEST_F(LayeredDiskTest, ManySnapshotsLeaveNoFiles) {
  for (uint8_t i = 1; i <= 30; ++i) {
    fixture_.Snapshot();
    ASSERT_EQ(fixture_.Write(i * 512, 4096, i), 0);
    disk().Release();
    fixture_.WaitMerged();
  }
  ASSERT_TRUE(disk().MergeAll().ok());
  EXPECT_THAT(fixture_.LayerFiles(), IsEmpty());
  fixture_.Close();
  EXPECT_FALSE(std::filesystem::exists(fixture_.layers()));
}

TEST_F(LayeredDiskTest, PreparedAndNeverFlippedLeavesNothing) {
  ASSERT_TRUE(fixture_.Prepare().ok());
  ASSERT_TRUE(fixture_.Prepare().ok()) << "again is nothing";
  ASSERT_EQ(fixture_.Write(0, 4096, 1), 0);
  EXPECT_EQ(fixture_.ImageBytes()[0], 1);
  fixture_.Close();
  EXPECT_FALSE(std::filesystem::exists(fixture_.layers()));
}

// A disk that hangs: the pause does not notice, the reader of the view is told, and all goes on
// when it comes back.
TEST_F(LayeredDiskTest, HangingDiskHoldsUpTheReaderOnly) {
  ASSERT_TRUE(fixture_.Prepare().ok());
  HoldAll();
  LayeredRequest write(BlockOperation::kWrite, 0, 4096, 1);
  disk().Submit(write.request);
  disk().Kick();
  const std::vector<uint64_t> words = fixture_.Flip();
  std::vector<uint8_t> bytes(4096);
  const Status read = disk().Read(BlockIndex(9), bytes, 1);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code(), ErrorCode::kTimeout);
  EXPECT_THAT(read.error().message(), HasSubstr("hangs"));
  LetGo();
  fixture_.WorkUntil([&] { return write.done; });
  EXPECT_EQ(ViewByte(0), 1);
  EXPECT_TRUE(Has(words, 0));
}

TEST_F(LayeredDiskTest, WriteInFlightAtTheFlipIsInBothSets) {
  ASSERT_TRUE(fixture_.Prepare().ok());
  HoldAll();
  LayeredRequest started(BlockOperation::kWrite, 0, 4096, 1);
  LayeredRequest waiting(BlockOperation::kWrite, 512, 8192, 2);
  disk().Submit(started.request);
  disk().Submit(waiting.request);
  disk().Kick();
  const std::vector<uint64_t> first = fixture_.Flip();
  LetGo();
  fixture_.WorkUntil([&] { return started.done && waiting.done; });
  disk().Release();
  const std::vector<uint64_t> second = fixture_.Snapshot();
  for (const uint64_t block : {0, 1, 2}) {
    EXPECT_TRUE(Has(first, block)) << block;
    EXPECT_TRUE(Has(second, block)) << block;
  }
  // What had not started at the first flip went to the new layer.
  EXPECT_EQ(ViewByte(2), 2);
}

TEST_F(LayeredDiskTest, ReturnedSetComesBack) {
  ASSERT_EQ(fixture_.Write(4096 * 5, 4096, 1), 0);
  const std::vector<uint64_t> words = fixture_.Snapshot();
  EXPECT_TRUE(Has(words, 5));
  disk().Return(words);
  disk().Release();
  EXPECT_EQ(fixture_.Snapshot(), words);
}

TEST_F(LayeredDiskTest, NextViewIsRefusedWhileTheLastIsRead) {
  fixture_.Snapshot();
  const Status prepared = fixture_.Prepare();
  ASSERT_FALSE(prepared.ok());
  EXPECT_EQ(prepared.error().code(), ErrorCode::kBusy);
}

// Merging that the host refuses stacks up layers, up to a limit that is said; nothing is lost, and
// it goes on when the host can again.
TEST_F(LayeredDiskTest, LayersThatCannotBeMergedStackUpToALimit) {
  faults_->SetPolicy([](const IoOperation& operation, uint64_t) {
    const bool change = operation.kind == IoKind::kWrite || operation.kind == IoKind::kPunchHole;
    return operation.file == 0 && change ? Fault::Fail(ENOSPC) : Fault::None();
  });
  for (uint8_t i = 1; i <= kMaxLayers; ++i) {
    fixture_.Snapshot();
    ASSERT_EQ(fixture_.Write(uint64_t{i} * 4096, 4096, i), 0);
    EXPECT_EQ(ViewByte(i), 0);
    EXPECT_EQ(ViewByte(i - 1u), i - 1);
    disk().Release();
    fixture_.Work();
  }
  EXPECT_EQ(disk().layer_count(), kMaxLayers);
  const Status prepared = fixture_.Prepare();
  ASSERT_FALSE(prepared.ok());
  EXPECT_EQ(prepared.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(prepared.error().message(), HasSubstr("not yet merged"));
  const Status merged = disk().MergeAll();
  ASSERT_FALSE(merged.ok());
  EXPECT_EQ(merged.error().error_number(), ENOSPC);
  LetGo();
  ASSERT_TRUE(disk().MergeAll().ok());
  for (uint8_t i = 1; i <= kMaxLayers; ++i) {
    EXPECT_EQ(fixture_.ImageBytes()[i * 4096], i);
  }
}

// Each operation of the host fails once, the log's among them: who was told that it was done finds
// it, now and after the next start.
enum class SweepEnd { kViewOpen, kReleased, kMerged };

class LayeredDiskSweep : public LayeredDiskTest, public testing::WithParamInterface<SweepEnd> {};

TEST_P(LayeredDiskSweep, FailureOfEachOperationInTurnLosesNothing) {
  for (uint64_t failing = 0;; ++failing) {
    std::vector<uint8_t> model = fixture_.Read(0, kSmallBytes);
    const uint64_t before = faults_->operation_count();
    bool failed = false;
    faults_->SetPolicy([&, before](const IoOperation&, uint64_t count) {
      failed = failed || count - before == failing;
      return count - before == failing ? Fault::Fail(EIO) : Fault::None();
    });
    const auto change = [&](BlockOperation operation, uint64_t offset, uint64_t size,
                            uint8_t fill) {
      LayeredRequest request(operation, offset, size, fill);
      if (fixture_.Run(request) == 0) {
        std::fill_n(model.begin() + static_cast<ptrdiff_t>(offset), size, fill);
      }
    };
    const auto tag = static_cast<uint8_t>(1 + failing % 200);
    change(BlockOperation::kWrite, 0, 16384, tag);
    fixture_.Snapshot();
    change(BlockOperation::kWrite, 512, 8192, static_cast<uint8_t>(tag + 1));
    change(BlockOperation::kWriteZeroes, 8192, 4096, 0);
    (void)fixture_.Flush();
    change(BlockOperation::kWrite, 4096, 4096, static_cast<uint8_t>(tag + 2));
    if (GetParam() != SweepEnd::kViewOpen) {
      disk().Release();
    }
    change(BlockOperation::kWrite, 1024, 512, static_cast<uint8_t>(tag + 3));
    change(BlockOperation::kWrite, 12288, 4096, static_cast<uint8_t>(tag + 4));
    LayeredRequest read(BlockOperation::kRead, 0, kSmallBytes);
    while (fixture_.Run(read) != 0) {
      read.done = false;
    }
    ASSERT_EQ(read.bytes, model) << failing;
    while (fixture_.Flush() != 0) {
    }
    if (GetParam() == SweepEnd::kMerged) {
      while (!disk().MergeAll().ok()) {
      }
      ASSERT_EQ(fixture_.ImageBytes(), model) << failing;
    }
    const bool done = !failed;
    fixture_.Close();
    Open();
    ASSERT_EQ(fixture_.Read(0, kSmallBytes), model) << failing;
    if (done) {
      EXPECT_GT(failing, 12u);
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ends, LayeredDiskSweep,
                         testing::Values(SweepEnd::kViewOpen, SweepEnd::kReleased,
                                         SweepEnd::kMerged));

// ---- left-over layers

TEST_F(LayeredDiskTest, LayersOfAKilledMachineAreTakenOverAndMerged) {
  LeaveLayers();
  EXPECT_EQ(fixture_.ImageBytes()[0], 1);
  Open();
  EXPECT_EQ(fixture_.Read(0, 512)[0], 2);
  EXPECT_EQ(fixture_.Read(4096, 512)[0], 3);
  EXPECT_EQ(fixture_.Read(4096 + 512, 512)[0], 1);
  fixture_.WaitMerged();
  EXPECT_EQ(fixture_.ImageBytes()[0], 2);
  EXPECT_EQ(fixture_.ImageBytes()[4096], 3);
}

TEST_F(LayeredDiskTest, WhoWouldNotLookIntoTheLayersIsRefused) {
  LeaveLayers();
  for (const bool read_only : {false, true}) {
    const Result<DiskImage> image =
        DiskImage::Open({.path = fixture_.path(), .read_only = read_only, .owner = {}});
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().code(), ErrorCode::kBusy);
    EXPECT_THAT(image.error().message(), HasSubstr("run it once"));
  }
  Open();
  ASSERT_TRUE(disk().MergeAll().ok());
  fixture_.Close();
  EXPECT_TRUE(DiskImage::Open({.path = fixture_.path(), .owner = {}}).ok());
}

TEST_F(LayeredDiskTest, TornEndOfTheLogIsLeftOut) {
  LeaveLayers();
  std::vector<uint8_t> log = LogBytes();
  ASSERT_EQ(log.size(), 3 * kLogSectorBytes) << "a header and two batches";
  log[2 * kLogSectorBytes + 30] ^= 1;
  WriteLog(log);
  Open();
  EXPECT_EQ(fixture_.Read(0, 512)[0], 2);
  EXPECT_EQ(fixture_.Read(4096, 512)[0], 1);
}

TEST_F(LayeredDiskTest, DamageInTheMiddleOfTheLogIsRefused) {
  LeaveLayers();
  const std::vector<uint8_t> log = LogBytes();
  for (uint64_t at = kLogSectorBytes; at < 2 * kLogSectorBytes; at += 7) {
    std::vector<uint8_t> damaged = log;
    damaged[at] ^= 0x10;
    WriteLog(damaged);
    EXPECT_THAT(OpenError(), HasSubstr("damaged")) << at;
  }
  EXPECT_THAT(fixture_.LayerFiles(), ElementsAre("layer-1", "map")) << "nothing was taken away";
  WriteLog(log);
  Open();
  EXPECT_EQ(fixture_.Read(4096, 512)[0], 3);
}

TEST_F(LayeredDiskTest, LayersOfAnotherImageAreRefused) {
  LeaveLayers();
  const std::filesystem::path copy = fixture_.path().string() + ".copy";
  std::filesystem::copy_file(fixture_.path(), copy);
  std::filesystem::rename(copy, fixture_.path());
  EXPECT_THAT(OpenError(), HasSubstr("belong to another image"));
  // To give them up is the user's decision.
  std::filesystem::remove_all(fixture_.layers());
  Open();
}

TEST_F(LayeredDiskTest, MissingLayerIsNamed) {
  LeaveLayers();
  std::filesystem::remove(fixture_.layers() / "layer-1");
  EXPECT_THAT(OpenError(), HasSubstr("layer-1"));
  std::filesystem::remove_all(fixture_.layers());
  Open();
}

TEST_F(LayeredDiskTest, WithoutAPlaceForLayersPrepareSaysSo) {
  fixture_.Close();
  auto image = std::make_shared<const DiskImage>(
      DiskImage::Open({.path = fixture_.path(), .owner = {}}).value());
  const auto disk = LayeredDisk::Create(image, std::make_shared<FaultEngine>(), nullptr).value();
  const Status prepared = disk->Prepare();
  ASSERT_FALSE(prepared.ok());
  EXPECT_EQ(prepared.error().code(), ErrorCode::kUnsupported);
}

TEST_F(LayeredDiskTest, ReadOnlyDiskIsItsOwnView) {
  ASSERT_EQ(fixture_.Write(0, 4096, 9), 0);
  fixture_.Close();
  auto image = std::make_shared<const DiskImage>(
      DiskImage::Open({.path = fixture_.path(), .read_only = true, .owner = {}}).value());
  const auto disk = LayeredDisk::Create(image, std::make_shared<FaultEngine>(), nullptr).value();
  ASSERT_TRUE(disk->Prepare().ok());
  std::vector<uint64_t> words(disk->dirty().word_count());
  disk->Flip(words);
  EXPECT_EQ(words, std::vector<uint64_t>(words.size()));
  std::vector<uint8_t> bytes(4096);
  ASSERT_TRUE(disk->Read(BlockIndex(0), bytes, 0).ok());
  EXPECT_EQ(bytes[0], 9);
  disk->Release();
}

}  // namespace
}  // namespace pacsvisor
