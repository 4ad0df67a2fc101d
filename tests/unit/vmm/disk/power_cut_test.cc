// A power cut at any moment keeps every change that had completed before a flush that has completed
// was submitted, and every durable write that has completed.
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "tests/support/power_cut_engine.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/disk/sector_oracle.h"
#include "vmm/disk/raw_disk.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kSectors = 128;
constexpr uint64_t kDiskBytes = kSectors * kSectorSizeBytes;

// One request, and what is promised of it.
struct Issued {
  BlockRequest request;
  std::vector<uint8_t> bytes;
  iovec part = {};
  uint64_t number = 0;     // of submission; also what its sectors hold
  uint64_t flushable = 0;  // kFlush: changes up to here (by completion) become durable
};

class PowerCut : public testing::TestWithParam<uint64_t> {
 protected:
  PowerCut() {
    auto engine = std::make_unique<PowerCutEngine>(kDiskBytes, GetParam());
    engine_ = engine.get();
    DiskImage image =
        DiskImage::Open({.path = directory_.MakeFile("disk.raw", kDiskBytes)}).value();
    disk_ = RawDisk::Create(std::move(image), std::move(engine)).value();
  }
  ~PowerCut() override { disk_->Drain(); }

  void SubmitOne() {
    Issued& issued = requests_.emplace_back();
    issued.number = requests_.size();
    BlockRequest& request = issued.request;
    const uint64_t sector = random_() % kSectors;
    const uint64_t count = 1 + random_() % std::min<uint64_t>(16, kSectors - sector);
    request.owner = &issued;
    switch (random_() % 8) {
      case 0:
      case 1:
        request.operation = BlockOperation::kFlush;
        issued.flushable = completions_;
        break;
      case 2:
        request.operation = BlockOperation::kWriteZeroes;
        request.may_unmap = random_() % 2 == 0;
        break;
      default:
        request.operation = BlockOperation::kWrite;
        issued.bytes = Pattern(issued.number, count);
        issued.part = {issued.bytes.data(), issued.bytes.size()};
        request.iovecs = {&issued.part, 1};
    }
    if (request.operation != BlockOperation::kFlush) {
      request.offset_bytes = sector * kSectorSizeBytes;
      request.size_bytes = count * kSectorSizeBytes;
      request.durable = random_() % 6 == 0;
      const bool write = request.operation == BlockOperation::kWrite;
      ForEachSector(request, [&](uint64_t one) {
        oracle_.Submitted(one, issued.number, write ? issued.number : 0);
      });
    }
    disk_->Submit(request);
  }

  void Collect() {
    disk_->Kick();
    disk_->Poll();
    std::vector<BlockRequest*> done;
    disk_->TakeCompletions(done);
    for (BlockRequest* request : done) {
      ASSERT_EQ(request->error_number, 0);
      const Issued& issued = *static_cast<Issued*>(request->owner);
      ++completions_;
      if (request->operation == BlockOperation::kFlush) {
        oracle_.Flushed(issued.flushable);
        continue;
      }
      ForEachSector(*request, [&](uint64_t sector) {
        oracle_.Completed(sector, issued.number, completions_);
        if (request->durable) {
          oracle_.Durable(sector, issued.number);
        }
      });
    }
  }

  void CutAndCheck() {
    const std::vector<uint8_t> left = engine_->Cut();
    for (uint64_t sector = 0; sector < kSectors; ++sector) {
      uint64_t value = 0;
      std::memcpy(&value, left.data() + sector * kSectorSizeBytes, sizeof(value));
      ASSERT_TRUE(oracle_.Allows(sector, value)) << "sector " << sector << " holds " << value;
    }
  }

  static std::vector<uint8_t> Pattern(uint64_t number, uint64_t sectors) {
    std::vector<uint8_t> bytes(sectors * kSectorSizeBytes);
    for (uint64_t i = 0; i < sectors; ++i) {
      std::memcpy(bytes.data() + i * kSectorSizeBytes, &number, sizeof(number));
    }
    return bytes;
  }
  template <typename Function>
  static void ForEachSector(const BlockRequest& request, Function function) {
    for (uint64_t at = 0; at < request.size_bytes; at += kSectorSizeBytes) {
      function((request.offset_bytes + at) / kSectorSizeBytes);
    }
  }

  TemporaryDirectory directory_;
  std::mt19937_64 random_{GetParam()};
  PowerCutEngine* engine_ = nullptr;
  std::unique_ptr<RawDisk> disk_;
  std::deque<Issued> requests_;
  SectorOracle oracle_;
  uint64_t completions_ = 0;
};

TEST_P(PowerCut, KeepsWhatWasFlushedWheneverItComes) {
  for (int round = 0; round < 400; ++round) {
    for (uint64_t i = random_() % 6; i > 0; --i) {
      SubmitOne();
    }
    ASSERT_NO_FATAL_FAILURE(Collect());
    // A pause closes the gate: what completes behind it is not yet promised to anybody.
    if (random_() % 8 == 0) {
      disk_->CloseGate();
      disk_->Poll();
      ASSERT_NO_FATAL_FAILURE(CutAndCheck());
      disk_->OpenGate();
    }
    ASSERT_NO_FATAL_FAILURE(CutAndCheck());
  }
}

// The model itself: without a flush a cut does lose something.
TEST_P(PowerCut, TakesWhatWasNotFlushed) {
  bool lost = false;
  for (int i = 0; i < 64 && !lost; ++i) {
    Issued& issued = requests_.emplace_back();
    issued.bytes = Pattern(7, 1);
    issued.part = {issued.bytes.data(), issued.bytes.size()};
    issued.request = {.operation = BlockOperation::kWrite,
                      .offset_bytes = static_cast<uint64_t>(i) * kSectorSizeBytes,
                      .size_bytes = kSectorSizeBytes,
                      .iovecs = {&issued.part, 1},
                      .owner = &issued};
    disk_->Submit(issued.request);
    disk_->Kick();
    disk_->Poll();
    lost = engine_->Cut()[static_cast<size_t>(i) * kSectorSizeBytes] == 0;
  }
  EXPECT_TRUE(lost);
}

INSTANTIATE_TEST_SUITE_P(Seeds, PowerCut, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace pacsvisor
