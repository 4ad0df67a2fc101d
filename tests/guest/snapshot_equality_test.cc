// Incremental snapshots of a guest that writes all the while, held against its memory at each
// instant as somebody reads it who knows nothing of dirty sets.
#include <gtest/gtest.h>
#include <xxhash.h>

#include <ostream>
#include <vector>

#include "tests/guest/guest_machine.h"
#include "tests/support/temporary_directory.h"
#include "vmm/machine/machine_subject.h"
#include "vmm/machine/tracking.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor {
namespace {

using PageHashes = std::vector<uint64_t>;

uint64_t HashOfPage(std::span<const uint8_t> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

// The machine, and what its memory was while it stood still.
class WitnessedSubject : public SnapshotSubject {
 public:
  explicit WitnessedSubject(Machine& machine)
      : subject_(MachineSubject::Create(machine).value()), memory_(machine.memory()) {}

  const Space& memory() const override { return subject_->memory(); }
  DirtyTracker& tracker() override { return subject_->tracker(); }
  std::vector<FrozenSpace*> disks() override { return subject_->disks(); }
  Status AtInstant(const std::function<Status()>& work, PauseTimes& times) override {
    return subject_->AtInstant(
        [&] {
          Status done = work();
          Witness();
          return done;
        },
        times);
  }
  Status SaveState(StateNode& node) override { return subject_->SaveState(node); }

  const PageHashes& seen() const { return seen_; }

 private:
  void Witness() {
    seen_.clear();
    std::vector<uint8_t> page(kPageSizeBytes);
    for (uint64_t i = 0; i < memory_.block_count(); ++i) {
      ASSERT_TRUE(memory_.Read(BlockIndex(i), page).ok());
      seen_.push_back(HashOfPage(page));
    }
  }

  const std::unique_ptr<MachineSubject> subject_;
  const MemorySpace memory_;
  PageHashes seen_;
};

class Unobserved : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return false; }
};

struct EqualityCase {
  Tracking tracking;
  uint64_t memory_mib;
  uint32_t cpus;

  friend void PrintTo(const EqualityCase& one, std::ostream* out) {
    *out << TrackingName(one.tracking) << ", " << one.memory_mib << " MiB";
  }
};

class SnapshotEquality : public testing::TestWithParam<EqualityCase> {
 protected:
  static constexpr int kSnapshots = 4;

  void ExpectEqual(Store& store, const SnapshotId& id, const PageHashes& expected) {
    const std::unique_ptr<SnapshotReader> reader = store.OpenSnapshot(id).value();
    std::vector<uint8_t> bytes(64 * kPageSizeBytes);
    uint64_t different = 0;
    for (uint64_t first = 0; first < expected.size(); first += 64) {
      const Status read = reader->Read(0, BlockIndex(first), bytes);
      ASSERT_TRUE(read.ok()) << read.error().message();
      for (uint64_t i = 0; i < 64; ++i) {
        const std::span<const uint8_t> page(bytes.data() + i * kPageSizeBytes, kPageSizeBytes);
        different += HashOfPage(page) == expected[first + i] ? 0 : 1;
      }
    }
    EXPECT_EQ(different, 0u) << "pages of snapshot " << id.Short();
  }

  const TemporaryDirectory directory_;
};

INSTANTIATE_TEST_SUITE_P(Sources, SnapshotEquality,
                         testing::Values(EqualityCase{Tracking::kBitmap, 1024, 2},
                                         EqualityCase{Tracking::kRing, 1024, 2},
                                         EqualityCase{Tracking::kPagemap, 1024, 2},
                                         EqualityCase{Tracking::kCompare, 1024, 2},
                                         EqualityCase{Tracking::kBitmap, 5120, 2},
                                         EqualityCase{Tracking::kRing, 5120, 1},
                                         EqualityCase{Tracking::kPagemap, 5120, 1},
                                         EqualityCase{Tracking::kCompare, 5120, 1}),
                         [](const testing::TestParamInfo<EqualityCase>& one) {
                           return std::string(TrackingName(one.param.tracking)) +
                                  std::to_string(one.param.memory_mib) + "Mib" +
                                  std::to_string(one.param.cpus) + "Cpus";
                         });

TEST_P(SnapshotEquality, EachIncrementIsTheMemoryOfItsInstant) {
  MachineConfig config = DirtierConfig(GetParam().memory_mib * kMiB, GetParam().cpus);
  config.tracking = GetParam().tracking;
  const auto files = StoreFiles::OpenDirectory(directory_.path().string()).value();
  ASSERT_TRUE(Store::Create(*files).ok());
  const std::unique_ptr<Store> store = Store::Open(files).value();
  GuestMachine guest(config);
  WitnessedSubject subject(guest.machine());
  SnapshotTaker taker(subject, *store);
  guest.Start();
  guest.Expect("event ready");
  Unobserved unobserved;
  std::vector<std::pair<SnapshotId, PageHashes>> all;
  for (int i = 0; i < kSnapshots; ++i) {
    // All of memory, both sides of the hole, while the snapshot is being taken.
    guest.Ask("dirty pages=all pattern=random rate=20000 seed=" + std::to_string(i + 1));
    const Result<TakenSnapshot> taken = taker.Take({.machine = "dirtier"}, unobserved);
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    EXPECT_EQ(taken->info.parent.has_value(), i > 0);
    EXPECT_GT(taken->info.draft.figures.at("dirty_bytes"), 0u);
    guest.Ask("stop");
    guest.Expect("event done");
    all.emplace_back(taken->info.id, subject.seen());
  }
  EXPECT_NE(guest.Ask("verify").find("bad=0"), std::string::npos);
  EXPECT_EQ(GuestMachine::Number(guest.Ask("gap"), "backwards"), 0u);
  for (const auto& [id, hashes] : all) {
    ExpectEqual(*store, id, hashes);
  }
  EXPECT_TRUE(store->Verify({}, [](const VerifyProgress&) {}).value().damages.empty());
}

// Nothing of a snapshot that is called off is kept, and the next one holds what it had taken.
TEST(SnapshotOfAGuest, HoldsWhatOneThatWasCalledOffHadTaken) {
  class CallsOff : public CaptureObserver {
   public:
    explicit CallsOff(CapturePhase phase) : phase_(phase) {}
    void OnProgress(CapturePhase phase, uint64_t, uint64_t) override {
      cancelled_ = cancelled_ || phase == phase_;
    }
    bool cancelled() const override { return cancelled_; }

   private:
    const CapturePhase phase_;
    bool cancelled_ = false;
  };
  const TemporaryDirectory directory;
  const auto files = StoreFiles::OpenDirectory(directory.path().string()).value();
  ASSERT_TRUE(Store::Create(*files).ok());
  const std::unique_ptr<Store> store = Store::Open(files).value();
  GuestMachine guest(DirtierConfig(128 * kMiB, 1));
  WitnessedSubject subject(guest.machine());
  SnapshotTaker taker(subject, *store);
  guest.Start();
  guest.Expect("event ready");
  Unobserved unobserved;
  ASSERT_TRUE(taker.Take({.machine = "dirtier"}, unobserved).ok());
  for (const CapturePhase phase :
       {CapturePhase::kCopying, CapturePhase::kWriting, CapturePhase::kCommitting}) {
    guest.Ask("dirty pages=2000 pattern=random writes=3000 seed=" +
              std::to_string(static_cast<int>(phase) + 1));
    guest.Expect("event done");
    CallsOff calls_off(phase);
    const Result<TakenSnapshot> none = taker.Take({.machine = "dirtier"}, calls_off);
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().code(), ErrorCode::kCancelled);
  }
  const Result<TakenSnapshot> taken = taker.Take({.machine = "dirtier"}, unobserved);
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  EXPECT_EQ(store->List().value().size(), 2u);
  const std::unique_ptr<SnapshotReader> reader = store->OpenSnapshot(taken->info.id).value();
  std::vector<uint8_t> page(kPageSizeBytes);
  for (uint64_t i = 0; i < subject.seen().size(); ++i) {
    ASSERT_TRUE(reader->Read(0, BlockIndex(i), page).ok());
    ASSERT_EQ(HashOfPage(page), subject.seen()[i]) << "page " << i;
  }
}

}  // namespace
}  // namespace pacsvisor
