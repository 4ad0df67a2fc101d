// A guest that writes all of its memory as fast as it can, and a pause that is to be next to
// nothing: what is left is protected and copied after it, and each snapshot is the memory of its
// instant all the same.
#include <gtest/gtest.h>

#include <map>
#include <ostream>

#include "tests/guest/guest_machine.h"
#include "tests/guest/pages_at_instant.h"
#include "tests/support/needs_userfaultfd.h"
#include "tests/support/temporary_directory.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/tracking.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor {
namespace {

// Copying is slow: between any two steps of it the guest has time to write.
class SlowCopying : public CaptureObserver {
 public:
  explicit SlowCopying(GuestMachine& guest) : guest_(guest) {}
  void OnProgress(CapturePhase phase, uint64_t, uint64_t total) override {
    if ((phase == CapturePhase::kCopying && total == 0) || phase == CapturePhase::kPausing) {
      const uint64_t before = Writes();
      while (Writes() < before + kWritesBetween && !testing::Test::HasFailure()) {
      }
    }
  }
  bool cancelled() const override { return false; }

 private:
  static constexpr uint64_t kWritesBetween = 600;
  uint64_t Writes() { return GuestMachine::Number(guest_.Ask("status"), "writes"); }

  GuestMachine& guest_;
};

struct ResidueCase {
  Tracking tracking;
  uint64_t memory_mib;
  MemoryBacking backing;

  friend void PrintTo(const ResidueCase& one, std::ostream* out) {
    *out << TrackingName(one.tracking) << ", " << one.memory_mib << " MiB";
  }
};

class ResidueOfAGuest : public testing::TestWithParam<ResidueCase> {
 protected:
  static constexpr int kSnapshots = 3;

  void SetUp() override {
    NEEDS_USERFAULTFD();
    MachineConfig config = DirtierConfig(GetParam().memory_mib * kMiB, 2);
    config.tracking = GetParam().tracking;
    config.memory_backing = GetParam().backing;
    config.store_path = directory_.path().string();
    host_ = HostResources::Open(config, {}).value();
    guest_ = std::make_unique<GuestMachine>(config, host_);
    guest_->Start();
    guest_->Expect("event ready");
  }

  const TemporaryDirectory directory_;
  std::shared_ptr<const HostResources> host_;
  std::unique_ptr<GuestMachine> guest_;
};

INSTANTIATE_TEST_SUITE_P(
    Sources, ResidueOfAGuest,
    testing::Values(ResidueCase{Tracking::kBitmap, 256, MemoryBacking::kAnonymous},
                    ResidueCase{Tracking::kRing, 256, MemoryBacking::kAnonymous},
                    ResidueCase{Tracking::kBitmap, 128, MemoryBacking::kMemfd},
                    ResidueCase{Tracking::kBitmap, 3584, MemoryBacking::kAnonymous}),
    [](const testing::TestParamInfo<ResidueCase>& one) {
      return std::string(TrackingName(one.param.tracking)) + std::to_string(one.param.memory_mib) +
             (one.param.backing == MemoryBacking::kMemfd ? "Memfd" : "");
    });

TEST_P(ResidueOfAGuest, EachIsTheMemoryOfItsInstant) {
  PagesAtInstant subject(guest_->machine());
  SnapshotTaker taker(subject, *host_->store);
  SlowCopying slow_copying(*guest_);
  std::map<SnapshotId, PageSums> all;
  for (int i = 0; i < kSnapshots; ++i) {
    // In runs of pages, and anywhere: protected, and copied.
    guest_->Ask(i % 2 == 0 ? "dirty pages=6000 pattern=sequential seed=" + std::to_string(i + 1)
                           : "dirty pages=6000 pattern=random seed=" + std::to_string(i + 1));
    const Result<TakenSnapshot> taken =
        taker.Take({.machine = "dirtier", .pause_budget_ns = 1}, slow_copying);
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    EXPECT_GT(taken->info.draft.figures.at("protected_pages"), 0u);
    EXPECT_EQ(taken->info.draft.texts.at("residue"), "protected");
    all[taken->info.id] = subject.sums();
    guest_->Ask("stop");
    guest_->Expect("event done");
  }
  EXPECT_EQ(GuestMachine::Number(guest_->Ask("verify"), "bad"), 0u);
  EXPECT_EQ(GuestMachine::Number(guest_->Ask("gap"), "backwards"), 0u);
  for (const auto& [id, sums] : all) {
    EXPECT_EQ(CountDifferent(SumsOf(*host_->store->OpenSnapshot(id).value()), sums), 0u);
  }
}

}  // namespace
}  // namespace pacsvisor
