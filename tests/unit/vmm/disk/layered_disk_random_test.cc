// Random requests against a model while snapshots come and go, on a host that finishes what it
// likes when it likes: the guest sees its disk, every view is the disk of its instant, and the
// dirty sets cover what lies between two views.
#include <list>
#include <random>
#include <tuple>
#include <utility>

#include "tests/support/fault_engine.h"
#include "tests/support/memory_block_source.h"
#include "tests/unit/vmm/disk/layered_disk_fixture.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kRandomBlocks = 160;
constexpr uint64_t kRandomBytes = kRandomBlocks * 4096 + 3 * 512;  // the last block is a short one
constexpr uint64_t kRandomSectors = kRandomBytes / 512;

// One view as a snapshot took it.
struct TakenView {
  std::vector<uint8_t> model;   // the guest's view at the instant
  std::vector<bool> in_flight;  // sectors under requests that were not finished then
  std::vector<uint64_t> words;  // its dirty set
  std::vector<uint8_t> bytes;   // as read
};

bool HasBlock(const std::vector<uint64_t>& words, uint64_t block) {
  return (words[block / 64] >> (block % 64) & 1) != 0;
}

enum class Begin { kEmptyImage, kSource };

// Stretches of data and of zeroes.
std::vector<uint8_t> SparseBytes(uint64_t size_bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(size_bytes);
  for (uint64_t at = 0; at < size_bytes;) {
    const uint64_t end = std::min(size_bytes, at + (1 + random() % 24) * 4096);
    const bool data = random() % 2 == 0;
    for (; at < end; ++at) {
      bytes[at] = data ? static_cast<uint8_t>(random()) : uint8_t{0};
    }
  }
  return bytes;
}

class LayeredDiskRandom : public testing::TestWithParam<std::tuple<uint64_t, Begin>> {
 protected:
  LayeredDiskRandom() {
    if (std::get<Begin>(GetParam()) == Begin::kSource) {
      source_ = std::make_shared<MemoryBlockSource>(SparseBytes(kRandomBytes, random_()));
      source_->HoldOneIn(4);
      model_ = source_->bytes();
      CHECK(fixture_.BeginFromSource(source_).ok());
    }
    CHECK(fixture_.Open(faults_).ok());
    faults_->SetPolicy([this](const IoOperation&, uint64_t) {
      return random_() % hold_one_in_ == 0 ? Fault::Hold() : Fault::None();
    });
  }

  // The disk's end waits for the host.
  ~LayeredDiskRandom() override {
    faults_->SetPolicy({});
    if (source_ != nullptr) {
      source_->HoldOneIn(0);
    }
    ReleaseAll();
    fixture_.Close();
  }

  void ReleaseAll() {
    faults_->ReleaseAll();
    if (source_ != nullptr) {
      source_->Release();
    }
  }

  // Overlapping requests take effect in the order of Submit: the model changes right away.
  void SubmitOne() {
    const uint64_t sectors = 1 + random_() % (random_() % 4 == 0 ? 128 : 12);
    const uint64_t range = random_() % 2 == 0 ? 128 : kRandomSectors - sectors + 1;
    uint64_t offset = random_() % range * 512;
    uint64_t size = sectors * 512;
    if (random_() % 2 == 0) {
      offset = offset / 4096 * 4096;
      size = std::min((size + 4095) / 4096 * 4096, kRandomBytes - offset);
    }
    const auto at = model_.begin() + static_cast<ptrdiff_t>(offset);
    const auto issue = [&](BlockOperation operation) -> LayeredRequest& {
      return requests_.emplace_back(operation, offset, size, 0xee);
    };
    switch (random_() % 10) {
      case 0:
        issue(BlockOperation::kWriteZeroes).request.may_unmap = random_() % 2 == 0;
        std::fill_n(at, size, 0);
        break;
      case 1:
        issue(BlockOperation::kDiscard);  // may read as anything; here: zeroes
        std::fill_n(at, size, 0);
        break;
      case 2:
        requests_.emplace_back(BlockOperation::kFlush, 0, 0);
        break;
      case 3:
      case 4:
      case 5:
      case 6: {
        LayeredRequest& write = issue(BlockOperation::kWrite);
        for (uint8_t& byte : write.bytes) {
          byte = static_cast<uint8_t>(random_());
        }
        std::copy(write.bytes.begin(), write.bytes.end(), at);
        break;
      }
      default:
        issue(BlockOperation::kRead).expected.assign(at, at + static_cast<ptrdiff_t>(size));
    }
    requests_.back().request.durable =
        ChangesDisk(requests_.back().request.operation) && random_() % 8 == 0;
    fixture_.disk().Submit(requests_.back().request);
  }

  void Some() {
    for (uint64_t i = random_() % 8; i > 0; --i) {
      SubmitOne();
    }
    if (random_() % 3 != 0) {
      fixture_.Work();
    }
    if (random_() % 4 == 0) {
      ReleaseAll();
    }
    for (auto request = requests_.begin(); request != requests_.end();) {
      if (!request->done) {
        ++request;
        continue;
      }
      ASSERT_EQ(request->request.error_number, 0);
      if (request->request.operation == BlockOperation::kRead) {
        ASSERT_EQ(request->bytes, request->expected) << "read " << request->request.id;
      }
      request = requests_.erase(request);
    }
  }

  // Busy while the host holds back the merging of eight layers.
  void Prepare() {
    const uint64_t before = std::exchange(hold_one_in_, 1'000'000);
    Status prepared = fixture_.Prepare();
    while (!prepared.ok() && prepared.error().code() == ErrorCode::kBusy) {
      ReleaseAll();
      ASSERT_NO_FATAL_FAILURE(Some());
      prepared = fixture_.Prepare();
    }
    ASSERT_TRUE(prepared.ok()) << prepared.error().message();
    hold_one_in_ = before;
  }

  TakenView Flip() {
    fixture_.Take();
    TakenView view{
        .model = model_, .in_flight = std::vector<bool>(kRandomSectors), .words = {}, .bytes = {}};
    for (const LayeredRequest& request : requests_) {
      if (!request.done && ChangesDisk(request.request.operation)) {
        for (uint64_t at = 0; at < request.request.size_bytes; at += 512) {
          view.in_flight[(request.request.offset_bytes + at) / 512] = true;
        }
      }
    }
    view.words = fixture_.Flip();
    return view;
  }

  // Reads the view, which is as the model was wherever nothing was in flight.
  void ReadAndCheck(TakenView& view) {
    Result<std::vector<uint8_t>> bytes = fixture_.ReadView();
    while (!bytes.ok()) {
      ASSERT_EQ(bytes.error().code(), ErrorCode::kTimeout) << bytes.error().message();
      ReleaseAll();
      fixture_.Work();
      bytes = fixture_.ReadView();
    }
    if (!view.bytes.empty()) {
      ASSERT_EQ(*bytes, view.bytes) << "the view has changed";
    }
    view.bytes = *bytes;
    for (uint64_t sector = 0; sector < kRandomSectors; ++sector) {
      const auto at = static_cast<ptrdiff_t>(sector * 512);
      ASSERT_TRUE(view.in_flight[sector] ||
                  std::equal(view.bytes.begin() + at, view.bytes.begin() + at + 512,
                             view.model.begin() + at))
          << "sector " << sector;
    }
  }

  // What changed from one view to the next, and what was in flight at either, is in the set of the
  // later one.
  void CheckCovered(const TakenView& from, const TakenView& to) {
    for (uint64_t sector = 0; sector < kRandomSectors; ++sector) {
      const auto at = static_cast<ptrdiff_t>(sector * 512);
      const bool differs = !std::equal(from.bytes.begin() + at, from.bytes.begin() + at + 512,
                                       to.bytes.begin() + at);
      if (differs || from.in_flight[sector] || to.in_flight[sector]) {
        ASSERT_TRUE(HasBlock(to.words, sector / 8)) << "sector " << sector;
      }
    }
  }

  std::mt19937_64 random_{std::get<uint64_t>(GetParam())};
  uint64_t hold_one_in_ = 3;
  LayeredDiskFixture fixture_{kRandomBytes};
  std::shared_ptr<FaultEngine> faults_ = std::make_shared<FaultEngine>();
  std::shared_ptr<MemoryBlockSource> source_;
  std::vector<uint8_t> model_ = std::vector<uint8_t>(kRandomBytes);
  std::list<LayeredRequest> requests_;
};

TEST_P(LayeredDiskRandom, GuestViewsAndDirtySetsAgreeWithTheModel) {
  TakenView last{.model = model_,
                 .in_flight = std::vector<bool>(kRandomSectors),
                 .words = {},
                 .bytes = model_};
  for (int snapshot = 0; snapshot < 12; ++snapshot) {
    for (uint64_t i = random_() % 40; i > 0; --i) {
      ASSERT_NO_FATAL_FAILURE(Some());
    }
    ASSERT_NO_FATAL_FAILURE(Prepare());
    for (uint64_t i = random_() % 4; i > 0; --i) {
      ASSERT_NO_FATAL_FAILURE(Some());
    }
    TakenView view = Flip();
    for (uint64_t i = random_() % 20; i > 0; --i) {
      ASSERT_NO_FATAL_FAILURE(Some());
    }
    ASSERT_NO_FATAL_FAILURE(ReadAndCheck(view));
    for (uint64_t i = random_() % 20; i > 0; --i) {
      ASSERT_NO_FATAL_FAILURE(Some());
    }
    ASSERT_NO_FATAL_FAILURE(ReadAndCheck(view));
    ASSERT_NO_FATAL_FAILURE(CheckCovered(last, view));
    if (random_() % 3 == 0) {
      // It came to nothing: the next one's set covers the way from the one before.
      fixture_.disk().Return(view.words);
    } else {
      last = view;
    }
    fixture_.disk().Release();
  }
  hold_one_in_ = 1'000'000;
  if (source_ != nullptr) {
    source_->HoldOneIn(0);
  }
  ReleaseAll();
  fixture_.WorkUntil([this] { return fixture_.disk().unfinished() == 0; });
  const Status merged = fixture_.disk().MergeAll();
  ASSERT_TRUE(merged.ok()) << merged.error().message();
  EXPECT_EQ(fixture_.ImageBytes(), model_);
  EXPECT_TRUE(fixture_.LayerFiles().empty());
  fixture_.Close();
  EXPECT_FALSE(std::filesystem::exists(fixture_.layers()));
}

INSTANTIATE_TEST_SUITE_P(Seeds, LayeredDiskRandom,
                         testing::Combine(testing::Range<uint64_t>(1, 9),
                                          testing::Values(Begin::kEmptyImage, Begin::kSource)));

}  // namespace
}  // namespace pacsvisor
