// A guest that runs while its memory is still in the store: it is what it was, page by page, can be
// snapshotted meanwhile, and ends with a reason when a page cannot be had.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <ostream>
#include <set>

#include "tests/guest/guest_machine.h"
#include "tests/guest/pages_at_instant.h"
#include "tests/support/needs_userfaultfd.h"
#include "tests/support/temporary_directory.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/machine_restore.h"
#include "vmm/machine/tracking.h"
#include "vmm/machine/working_set.h"
#include "vmm/snapshot/snapshot_pages.h"
#include "vmm/snapshot/snapshot_taker.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

class Unwatched : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return false; }
};

// A snapshot's memory, of which a page comes only when the test lets it go, and another one never.
class GatedPages : public PageSource {
 public:
  explicit GatedPages(std::shared_ptr<PageSource> pages) : pages_(std::move(pages)) {}

  void Hold(uint64_t page) { held_ = page; }       // before its use
  void FailAt(uint64_t page) { failing_ = page; }  // likewise
  void LetGo() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // Until somebody waits for the page that is held.
  void AwaitReached() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, GuestMachine::kDeadline, [this] { return reached_; }));
  }

  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override {
    const auto holds = [&](std::optional<uint64_t> page) {
      return page && *page >= first.raw() && *page - first.raw() < bytes.size() / kPageSizeBytes;
    };
    if (holds(failing_)) {
      return Error::Make(ErrorCode::kCorrupt, "pack 3 is damaged at byte 5");
    }
    if (holds(held_)) {
      std::unique_lock lock(mutex_);
      reached_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
    }
    return pages_->Fetch(first, bytes);
  }
  Result<uint64_t> ZeroRun(BlockIndex first) override { return pages_->ZeroRun(first); }

 private:
  const std::shared_ptr<PageSource> pages_;
  std::optional<uint64_t> held_;
  std::optional<uint64_t> failing_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool reached_ = false;
};

struct LazyCase {
  Tracking tracking;
  uint64_t memory_mib;
  uint32_t cpus;

  friend void PrintTo(const LazyCase& one, std::ostream* out) {
    *out << TrackingName(one.tracking) << ", " << one.memory_mib << " MiB";
  }
};

class LazyRestore : public testing::TestWithParam<LazyCase> {
 protected:
  // Of the dirtier's area, which begins at 4 MiB.
  static constexpr uint64_t kAreaPage = 1024;
  static constexpr uint64_t kHeldPage = kAreaPage + 1500;
  static constexpr uint64_t kFailingPage = kAreaPage + 3500;

  void SetUp() override {
    NEEDS_USERFAULTFD();
    config_ = DirtierConfig(GetParam().memory_mib * kMiB, GetParam().cpus);
    config_.tracking = GetParam().tracking;
    config_.store_path = directory_.path().string();
    TakeSource();
  }

  // A guest that has written 4,000 pages, and its snapshot.
  void TakeSource() {
    host_ = HostResources::Open(config_, {}).value();
    GuestMachine source(config_, host_);
    source.Start();
    source.Expect("event ready");
    source.Ask("dirty pages=4000 pattern=random writes=9000 seed=9");
    source.Expect("event done");
    checksum_ = source.Ask("checksum");
    PagesAtInstant subject(source.machine());
    id_ = SnapshotTaker(subject, *host_->store)
              .Take({.machine = "dirtier"}, unwatched_)
              .value()
              .info.id;
    sums_ = subject.sums();
  }

  // A machine of it, loaded and not started.
  std::unique_ptr<GuestMachine> Load(std::shared_ptr<GatedPages>* gate,
                                     const std::function<void(GatedPages&)>& arrange) {
    auto guest = std::make_unique<GuestMachine>(config_, host_, true);
    Machine& machine = guest->machine();
    const std::shared_ptr<SnapshotReader> snapshot = host_->store->OpenSnapshot(id_).value();
    *gate = std::make_shared<GatedPages>(
        SnapshotPages::Create(snapshot, MemorySpace(machine.memory())).value());
    arrange(**gate);
    const StateNode state = DecodeState(snapshot->State().value()).value();
    EXPECT_TRUE(machine.RestoreLazily(*gate, {}).ok());
    const Status loaded = machine.Load(state);
    EXPECT_TRUE(loaded.ok()) << loaded.error().message();
    return guest;
  }
  void AwaitWhole(Machine& machine) {
    const auto deadline = std::chrono::steady_clock::now() + GuestMachine::kDeadline;
    while (!machine.GetMemoryProgress().whole && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ASSERT_TRUE(machine.GetMemoryProgress().whole);
  }

  const TemporaryDirectory directory_;
  MachineConfig config_;
  std::shared_ptr<const HostResources> host_;
  Unwatched unwatched_;
  SnapshotId id_;
  std::string checksum_;
  PageSums sums_;
};

INSTANTIATE_TEST_SUITE_P(Sources, LazyRestore,
                         testing::Values(LazyCase{Tracking::kBitmap, 256, 2},
                                         LazyCase{Tracking::kRing, 256, 2},
                                         LazyCase{Tracking::kBitmap, 5120, 1}),
                         [](const testing::TestParamInfo<LazyCase>& one) {
                           return std::string(TrackingName(one.param.tracking)) +
                                  std::to_string(one.param.memory_mib) + "Mib";
                         });

TEST_P(LazyRestore, TheGuestIsWhatItWas) {
  for (const MemoryFill fill : {MemoryFill::kLazy, MemoryFill::kEager}) {
    GuestMachine guest(config_, host_, true);
    Machine& machine = guest.machine();
    const std::shared_ptr<SnapshotReader> snapshot = host_->store->OpenSnapshot(id_).value();
    const Status restored = RestoreMachine(machine, snapshot, RestoredClock::kContinue, fill);
    ASSERT_TRUE(restored.ok()) << restored.error().message();
    // What the load itself changed is dirty, and nothing else has changed.
    const uint64_t marked = machine.memory().dirty().CountMarked();
    EXPECT_LT(marked, 64u);
    const PageSums loaded = SumsOf(machine);
    for (uint64_t page = 0; page < sums_.size(); ++page) {
      ASSERT_TRUE(loaded[page] == sums_[page] ||
                  machine.memory().dirty().IsMarked(BlockIndex(page)))
          << page;
    }
    AwaitWhole(machine);
    guest.Start();
    EXPECT_EQ(guest.Ask("checksum"), checksum_);
    EXPECT_EQ(GuestMachine::Number(guest.Ask("verify"), "bad"), 0u);
    EXPECT_EQ(GuestMachine::Number(guest.Ask("gap"), "backwards"), 0u);
  }
}

TEST_P(LazyRestore, ASnapshotMeanwhileIsWholeAndIncremental) {
  std::shared_ptr<GatedPages> gate;
  const auto guest = Load(&gate, [](GatedPages& pages) { pages.Hold(kHeldPage); });
  Machine& machine = guest->machine();
  ASSERT_TRUE(machine.tracker().Start().ok());
  PagesAtInstant subject(machine);
  SnapshotTaker taker(subject, *host_->store);
  taker.ContinueFrom(id_);
  guest->Start();
  gate->AwaitReached();
  // Pages that are not there yet, some of them of the source's, are written meanwhile.
  guest->Ask("dirty first=3000 pages=5000 pattern=random rate=20000 seed=3");
  subject.BeforeReading([&] {
    EXPECT_FALSE(machine.GetMemoryProgress().whole);
    gate->LetGo();
  });
  const Result<TakenSnapshot> first = taker.Take({.machine = "dirtier"}, unwatched_);
  gate->LetGo();
  subject.BeforeReading(nullptr);
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_EQ(first->info.parent, id_);
  const PageSums at_first = subject.sums();
  guest->Ask("stop");
  guest->Expect("event done");
  AwaitWhole(machine);
  const Result<TakenSnapshot> second = taker.Take({.machine = "dirtier"}, unwatched_);
  ASSERT_TRUE(second.ok()) << second.error().message();
  EXPECT_EQ(CountDifferent(SumsOf(*host_->store->OpenSnapshot(first->info.id).value()), at_first),
            0u);
  EXPECT_EQ(
      CountDifferent(SumsOf(*host_->store->OpenSnapshot(second->info.id).value()), subject.sums()),
      0u);
  // Nothing that was only fetched is in it.
  EXPECT_LT(first->info.draft.figures.at("memory_dirty_bytes"), 5'500 * kPageSizeBytes);
  EXPECT_EQ(GuestMachine::Number(guest->Ask("verify"), "bad"), 0u);
  EXPECT_EQ(GuestMachine::Number(guest->Ask("gap"), "backwards"), 0u);
}

TEST_P(LazyRestore, WhatItTouchedFirstIsInItsNextSnapshot) {
  std::shared_ptr<GatedPages> gate;
  const auto guest = Load(&gate, [](GatedPages& pages) { pages.Hold(kHeldPage); });
  PagesAtInstant subject(guest->machine());
  guest->Start();
  gate->AwaitReached();
  guest->Ask("checksum first=3000 pages=1000");
  guest->Ask("counter");  // the command before is over
  subject.BeforeReading([&] { gate->LetGo(); });
  StateNode state;
  PauseTimes times;
  ASSERT_TRUE(subject.AtInstant([&] { return subject.SaveState(state); }, times).ok());
  std::set<uint64_t> pages;
  for (const Extent& extent : LoadWorkingSet(state)) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      pages.insert(extent.first.raw() + i);
    }
  }
  for (uint64_t page = 3000; page < 4000; ++page) {
    EXPECT_TRUE(pages.contains(kAreaPage + page)) << page;
  }
  EXPECT_LT(pages.size(), sums_.size());
}

TEST_P(LazyRestore, APageThatAVcpuCannotHaveEndsTheMachine) {
  std::shared_ptr<GatedPages> gate;
  const auto guest = Load(&gate, [](GatedPages& pages) {
    pages.Hold(kHeldPage);  // in the background it is not come to
    pages.FailAt(kFailingPage);
  });
  guest->Start();
  gate->AwaitReached();
  guest->Send("checksum first=3000 pages=1000");
  const MachineEnd end = guest->WaitForEnd();
  EXPECT_EQ(end.reason, MachineEnd::Reason::kHostFailure);
  EXPECT_THAT(end.report, testing::HasSubstr("pack 3 is damaged at byte 5"));
  EXPECT_THAT(guest->output(), testing::Not(testing::HasSubstr("ok checksum")));
  gate->LetGo();
}

TEST_P(LazyRestore, APageThatTheBackgroundCannotHaveEndsTheMachine) {
  std::shared_ptr<GatedPages> gate;
  const auto guest = Load(&gate, [](GatedPages& pages) { pages.FailAt(kFailingPage); });
  guest->Start();
  const MachineEnd end = guest->WaitForEnd();
  EXPECT_EQ(end.reason, MachineEnd::Reason::kHostFailure);
  EXPECT_THAT(end.report, testing::HasSubstr("pack 3 is damaged at byte 5"));
}

// One userfaultfd owns memory: tracking may have it.
TEST(LazyRestoreOrNot, IsSaidByTheMachine) {
  NEEDS_USERFAULTFD();
  const TemporaryDirectory directory;
  MachineConfig config = DirtierConfig(64 * kMiB, 1);
  config.store_path = directory.path().string();
  for (const Tracking tracking : {Tracking::kBitmap, Tracking::kRing, Tracking::kPagemap}) {
    config.tracking = tracking;
    GuestMachine guest(config, HostResources::Open(config, {}).value(), true);
    const Status can = guest.machine().CanRestoreLazily();
    EXPECT_EQ(can.ok(), tracking != Tracking::kPagemap);
    if (!can.ok()) {
      EXPECT_THAT(can.error().message(), testing::HasSubstr("tracking = \"pagemap\""));
    }
  }
}

}  // namespace
}  // namespace pacsvisor
