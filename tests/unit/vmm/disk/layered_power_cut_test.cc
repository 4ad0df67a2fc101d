// A power cut at any moment of a disk's life with layers: what had completed before a flush that
// has completed was submitted is there when the disk is opened again, and no older state comes
// back.
#include <fstream>
#include <list>
#include <random>
#include <tuple>

#include "tests/support/memory_block_source.h"
#include "tests/support/power_cut_files.h"
#include "tests/unit/vmm/disk/layered_disk_fixture.h"
#include "tests/unit/vmm/disk/sector_oracle.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kCutBlocks = 96;
constexpr uint64_t kCutBytes = kCutBlocks * 4096;
constexpr uint64_t kCutSectors = kCutBytes / kSectorSizeBytes;

// A request, and what is promised of it.
struct CutRequest : LayeredRequest {
  using LayeredRequest::LayeredRequest;
  uint64_t number = 0;     // of submission; also what its sectors hold
  uint64_t flushable = 0;  // kFlush: changes up to here (by completion) become durable
};

enum class CutBegin { kEmptyImage, kSource };

class LayeredPowerCut : public testing::TestWithParam<std::tuple<uint64_t, CutBegin>> {
 protected:
  LayeredPowerCut() {
    if (std::get<CutBegin>(GetParam()) == CutBegin::kSource) {
      // Half of it zeroes; the other sectors hold numbers that no request has.
      std::vector<uint8_t> bytes(kCutBytes);
      for (uint64_t sector = 0; sector < kCutSectors; ++sector) {
        const uint64_t value = sector / 64 % 2 == 0 ? 0 : 1'000'000'000 + sector;
        std::memcpy(bytes.data() + sector * kSectorSizeBytes, &value, sizeof(value));
        oracle_.Restart(sector, value);
      }
      BeginFromSource(std::move(bytes));
    }
    Open();
    HoldFetches();
  }
  ~LayeredPowerCut() override {
    LetFetchesGo();
    fixture_.Close();  // before its requests
  }

  void Open() {
    engine_ = std::make_shared<PowerCutFiles>(random_());
    const Status opened = fixture_.Open(engine_);
    CHECK(opened.ok(), "{}", opened.error().message());
    snapshot_ = Stage::kNone;
  }

  void BeginFromSource(std::vector<uint8_t> bytes) {
    source_ = std::make_shared<MemoryBlockSource>(std::move(bytes));
    const Status begun = fixture_.BeginFromSource(source_);
    CHECK(begun.ok(), "{}", begun.error().message());
    ++begins_;
  }
  // Few fetches end, so that the cuts find blocks in every place.
  void HoldFetches() {
    if (source_ != nullptr) {
      source_->HoldOneIn(2);
    }
  }
  // Before whatever waits for the disk.
  void LetFetchesGo() {
    if (source_ != nullptr) {
      source_->HoldOneIn(0);
      source_->Release();
    }
  }

  void SubmitOne(bool flush) {
    const uint64_t range = random_() % 2 == 0 ? 64 : kCutSectors;
    const uint64_t sector = random_() % range;
    const uint64_t count = 1 + random_() % std::min<uint64_t>(32, kCutSectors - sector);
    const uint64_t kind = flush ? 0 : random_() % 10;
    const BlockOperation operation = kind <= 1   ? BlockOperation::kFlush
                                     : kind == 2 ? BlockOperation::kWriteZeroes
                                     : kind == 3 ? BlockOperation::kDiscard
                                                 : BlockOperation::kWrite;
    Submit(operation, sector, count, random_() % 6 == 0);
  }

  void Submit(BlockOperation operation, uint64_t sector, uint64_t count, bool durable) {
    if (operation == BlockOperation::kFlush) {
      requests_.emplace_back(operation, 0, 0).flushable = completions_;
    } else {
      CutRequest& request =
          requests_.emplace_back(operation, sector * kSectorSizeBytes, count * kSectorSizeBytes);
      request.number = ++submitted_;
      request.request.durable = durable;
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t value = operation == BlockOperation::kWrite ? request.number : 0;
        if (value != 0) {
          std::memcpy(request.bytes.data() + i * kSectorSizeBytes, &value, sizeof(value));
        }
        oracle_.Submitted(sector + i, request.number, value);
      }
    }
    requests_.back().request.owner = static_cast<LayeredRequest*>(&requests_.back());
    fixture_.disk().Submit(requests_.back().request);
  }

  void Collect() {
    for (auto request = requests_.begin(); request != requests_.end();) {
      if (!request->done) {
        ++request;
        continue;
      }
      ASSERT_EQ(request->request.error_number, 0);
      ++completions_;
      if (request->request.operation == BlockOperation::kFlush) {
        oracle_.Flushed(request->flushable);
      } else {
        const uint64_t first = request->request.offset_bytes / kSectorSizeBytes;
        const uint64_t count = request->request.size_bytes / kSectorSizeBytes;
        for (uint64_t sector = first; sector < first + count; ++sector) {
          oracle_.Completed(sector, request->number, completions_);
          if (request->request.durable) {
            oracle_.Durable(sector, request->number);
          }
        }
      }
      request = requests_.erase(request);
    }
  }

  void Settle() {
    LetFetchesGo();
    fixture_.WorkUntil([this] {
      return std::all_of(requests_.begin(), requests_.end(),
                         [](const CutRequest& request) { return request.done; });
    });
    HoldFetches();
    Collect();
  }

  // The next step of a snapshot, with flushes close by.
  void Snapshot() {
    switch (snapshot_) {
      case Stage::kNone: {
        const Status prepared = fixture_.Prepare();
        if (prepared.ok()) {
          snapshot_ = Stage::kPrepared;
        } else {
          ASSERT_EQ(prepared.error().code(), ErrorCode::kBusy) << prepared.error().message();
        }
        break;
      }
      case Stage::kPrepared:
        if (random_() % 2 == 0) {
          SubmitOne(true);
        }
        if (random_() % 2 == 0) {
          fixture_.disk().Kick();
        }
        fixture_.Flip();
        if (random_() % 2 == 0) {
          SubmitOne(true);
        }
        snapshot_ = Stage::kFlipped;
        break;
      case Stage::kFlipped:
        fixture_.disk().Release();
        snapshot_ = Stage::kNone;
        break;
    }
  }

  // Cuts the power, starts again from what is left and looks at every sector.
  void CutAndRestart() {
    const PowerCutFiles::Contents left = engine_->Cut();
    LetFetchesGo();
    // The process that was there is gone with what it still did.
    fixture_.Close();
    requests_.clear();
    std::filesystem::remove_all(fixture_.layers());
    std::filesystem::create_directory(fixture_.layers());
    for (const auto& [path, bytes] : left) {
      // The image stays the file that it is.
      std::ofstream(path, std::ios::binary | std::ios::trunc)
          .write(reinterpret_cast<const char*>(bytes.data()),  // bytes as characters
                 static_cast<std::streamsize>(bytes.size()));
    }
    Open();
    const std::vector<uint8_t> bytes = fixture_.Read(0, kCutBytes);
    for (uint64_t sector = 0; sector < kCutSectors; ++sector) {
      uint64_t value = 0;
      std::memcpy(&value, bytes.data() + sector * kSectorSizeBytes, sizeof(value));
      ASSERT_TRUE(oracle_.Allows(sector, value))
          << "sector " << sector << " holds " << value << " after cut " << cuts_;
      oracle_.Restart(sector, value);
    }
    ++cuts_;
    if (source_ != nullptr && fixture_.disk().needs_source()) {
      ++cuts_with_source_;
    } else if (source_ != nullptr) {
      // All is home: the disk of another machine, which is as this one.
      fixture_.Close();
      std::filesystem::remove_all(fixture_.layers());
      BeginFromSource(bytes);
      Open();
    }
    HoldFetches();
  }

  enum class Stage { kNone, kPrepared, kFlipped };

  std::mt19937_64 random_{std::get<uint64_t>(GetParam())};
  LayeredDiskFixture fixture_{kCutBytes};
  std::shared_ptr<PowerCutFiles> engine_;
  std::list<CutRequest> requests_;
  SectorOracle oracle_;
  Stage snapshot_ = Stage::kNone;
  uint64_t submitted_ = 0;
  uint64_t completions_ = 0;
  uint64_t cuts_ = 0;
  std::shared_ptr<MemoryBlockSource> source_;
  uint64_t begins_ = 0;
  uint64_t cuts_with_source_ = 0;
};

TEST_P(LayeredPowerCut, KeepsWhatWasFlushedWheneverItComes) {
  for (int round = 0; round < 600; ++round) {
    for (uint64_t i = random_() % 4; i > 0; --i) {
      SubmitOne(false);
    }
    if (random_() % 4 != 0) {
      fixture_.Work();
    }
    ASSERT_NO_FATAL_FAILURE(Collect());
    if (random_() % 8 == 0) {
      ASSERT_NO_FATAL_FAILURE(Snapshot());
      ASSERT_NO_FATAL_FAILURE(Collect());
    }
    if (random_() % 8 == 0) {
      LetFetchesGo();
      HoldFetches();
    }
    if (random_() % 16 == 0) {
      ASSERT_NO_FATAL_FAILURE(CutAndRestart());
    }
  }
  if (source_ != nullptr) {
    EXPECT_GT(cuts_with_source_, 3u) << "of " << cuts_;
    EXPECT_GT(begins_, 1u);
  }
}

// A flush that has ended before the flip, one that is on its way across it, one that comes after
// it; each time with the power cut before anything else is flushed.
TEST_P(LayeredPowerCut, KeepsWhatWasFlushedNextToAFlip) {
  enum class FlushAt { kBefore, kAcross, kAfter };
  for (int round = 0; round < 10; ++round) {
    for (const FlushAt at : {FlushAt::kBefore, FlushAt::kAcross, FlushAt::kAfter}) {
      SCOPED_TRACE(testing::Message() << "flush " << static_cast<int>(at) << ", round " << round);
      LetFetchesGo();
      fixture_.WaitMerged();
      Submit(BlockOperation::kWrite, 0, 64, false);
      ASSERT_NO_FATAL_FAILURE(Settle());
      ASSERT_TRUE(fixture_.Prepare().ok());
      if (at == FlushAt::kBefore) {
        Submit(BlockOperation::kFlush, 0, 0, false);
        ASSERT_NO_FATAL_FAILURE(Settle());
      } else if (at == FlushAt::kAcross) {
        Submit(BlockOperation::kFlush, 0, 0, false);
        fixture_.disk().Kick();
      }
      fixture_.Flip();
      Submit(BlockOperation::kWrite, 12, 64, false);  // half of it over what was written before
      ASSERT_NO_FATAL_FAILURE(Settle());
      if (at == FlushAt::kAfter) {
        Submit(BlockOperation::kFlush, 0, 0, false);
        ASSERT_NO_FATAL_FAILURE(Settle());
      }
      ASSERT_NO_FATAL_FAILURE(CutAndRestart());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, LayeredPowerCut,
                         testing::Combine(testing::Range<uint64_t>(1, 9),
                                          testing::Values(CutBegin::kEmptyImage,
                                                          CutBegin::kSource)));

}  // namespace
}  // namespace pacsvisor
