// Incremental snapshots of a guest that writes all of its memory all the while, held against what a
// program of its own saw at each instant (witnessed_subject.h).
#include <gtest/gtest.h>

#include <ostream>
#include <vector>

#include "tests/guest/guest_machine.h"
#include "tests/guest/witnessed_subject.h"
#include "vmm/machine/tracking.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor {
namespace {

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
  std::vector<std::pair<SnapshotId, SeenAtInstant>> all;
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
  for (const auto& [id, seen] : all) {
    const std::unique_ptr<SnapshotReader> snapshot = store->OpenSnapshot(id).value();
    EXPECT_EQ(subject.Compare(*snapshot, seen).memory_pages, 0u) << "of snapshot " << id.Short();
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
  EXPECT_EQ(subject.Compare(*reader, subject.seen()).memory_pages, 0u);
}

}  // namespace
}  // namespace pacsvisor
