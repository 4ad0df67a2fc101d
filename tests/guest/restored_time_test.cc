// Time in a machine that was away: its clocks go on from the instant, or have moved by the time
// away; never back. A timer that was armed at the instant fires.
//
// Suites named Full restore a thousand times.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <ostream>

#include "tests/guest/instant_lab.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kHourNs = 3'600'000'000'000;

class Unwatched : public CaptureObserver {
 public:
  void OnProgress(CapturePhase, uint64_t, uint64_t) override {}
  bool cancelled() const override { return false; }
};

struct TimerCase {
  int restores;

  friend void PrintTo(const TimerCase& one, std::ostream* out) {
    *out << one.restores << " restores";
  }
};

class ArmedTimer : public testing::TestWithParam<TimerCase> {
 protected:
  ArmedTimer() {
    files_ = StoreFiles::OpenDirectory(directory_.path().string()).value();
    EXPECT_TRUE(Store::Create(*files_).ok());
    store_ = Store::Open(files_).value();
  }

  // Whether the processor is halted and its timer armed.
  static bool HaltedAndArmed(SnapshotReader& snapshot) {
    constexpr uint32_t kHalted = 3;  // KVM_MP_STATE_HALTED
    constexpr uint64_t kTscDeadline = 0x6e0;
    const StateNode state = DecodeState(snapshot.State().value()).value();
    const StateNode& vcpu = state.Children("vcpus").value()[0];
    uint32_t mp_state = 0;
    std::memcpy(&mp_state, vcpu.BytesOf("mp_state").value().data(), sizeof(mp_state));
    const std::span<const uint8_t> msrs = vcpu.BytesOf("msrs").value();
    uint64_t deadline = 0;
    for (size_t at = 0; at + 16 <= msrs.size(); at += 16) {
      uint64_t msr[2];
      std::memcpy(msr, &msrs[at], sizeof(msr));
      deadline = msr[0] == kTscDeadline ? msr[1] : deadline;
    }
    return mp_state == kHalted && deadline != 0;
  }

  // Of a guest that sleeps; none when it has woken before the instant.
  std::optional<SnapshotId> SnapshotOfASleeper(GuestMachine& guest, SnapshotTaker& taker) {
    Unwatched unwatched;
    guest.Ask("sleep ms=80");
    const Result<TakenSnapshot> taken = taker.Take({.machine = "dirtier"}, unwatched);
    EXPECT_TRUE(taken.ok()) << taken.error().message();
    guest.Expect("event woke");  // the source is not disturbed
    const auto snapshot = store_->OpenSnapshot(taken->info.id).value();
    return HaltedAndArmed(*snapshot) ? std::optional(taken->info.id) : std::nullopt;
  }

  const TemporaryDirectory directory_;
  std::shared_ptr<StoreFiles> files_;
  std::unique_ptr<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(Restores, ArmedTimer, testing::Values(TimerCase{40}));
INSTANTIATE_TEST_SUITE_P(Full, ArmedTimer, testing::Values(TimerCase{1000}));

TEST_P(ArmedTimer, OfATicklessGuestFiresInEachMachineThatIsRestored) {
  const MachineConfig config = DirtierConfig(32 * kMiB, 1);
  std::optional<SnapshotId> id;
  {
    GuestMachine guest(config);
    const auto subject = MachineSubject::Create(guest.machine()).value();
    SnapshotTaker taker(*subject, *store_);
    guest.Start();
    guest.Expect("event ready");
    Unwatched unwatched;
    ASSERT_TRUE(taker.Take({.machine = "dirtier"}, unwatched).ok());  // what follows is quick
    for (int tries = 0; !id.has_value() && tries < 20; ++tries) {
      id = SnapshotOfASleeper(guest, taker);
      ASSERT_FALSE(HasFailure());
    }
    ASSERT_TRUE(id.has_value()) << "the guest was never asleep at the instant";
  }
  const auto host = HostResources::Open(config, {.image_record_directory = {},
                                                 .agent_socket = {},
                                                 .boot = HostResources::Boot::kNone})
                        .value();
  const auto aged = std::make_shared<AgedSnapshot>(store_->OpenSnapshot(*id).value(), kHourNs);
  for (int i = 0; i < GetParam().restores; ++i) {
    SCOPED_TRACE(testing::Message() << "restore " << i);
    // Every other one finds its deadline long past.
    const RestoredClock clock = i % 2 == 0 ? RestoredClock::kContinue : RestoredClock::kAdvance;
    GuestMachine restored(config, host, true);
    // Every third one has all its memory before it starts.
    const Status loaded = RestoreMachine(restored.machine(), aged, clock,
                                         i % 3 == 0 ? MemoryFill::kEager : MemoryFill::kLazy);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    restored.Start();
    restored.Expect("event woke");
    ASSERT_FALSE(HasFailure());
  }
}

// An hour away. What looks at the clock across the instant sees no step back, and an hour's step
// forward only where the clock was to advance.
TEST(RestoredTime, NeverGoesBackAndNobodyTakesItForAHang) {
  constexpr char kWatch[] = R"job(
/run/job/source_watch 127.0.0.1 0 /run/stop &
(while :; do :; done) &
echo pacs-job ready
)job";
  constexpr char kAsk[] =
      "touch /run/stop; sleep 1; cat /proc/uptime; dmesg | grep -ciE "
      "'soft lockup|rcu.*detected.*stalls|hung task|clocksource.*unstable|BUG: ' | sed "
      "'s/^/pacs-job fau''lts "
      "/'";
  const GuestFiles files;
  InstantLab lab(files, LinuxConfig(files, kWatch, 2, 128 * kMiB, {PACSVISOR_SOURCE_WATCH}));
  lab.subject().LookAtInstants(false);
  lab.guest().Expect("pacs-job ready");
  lab.guest().SendToShell("echo pacs-job sh''ell");
  lab.guest().Expect("pacs-job shell");
  const Result<TakenSnapshot> taken = lab.Take();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  for (const RestoredClock clock : {RestoredClock::kContinue, RestoredClock::kAdvance}) {
    const bool advance = clock == RestoredClock::kAdvance;
    SCOPED_TRACE(advance ? "advance" : "continue");
    const auto restored =
        RestoreBeside(lab.store(), taken->info.id, lab.config(),
                      files.Path(advance ? "advanced" : "continued"), clock, kHourNs);
    restored->Start();
    restored->Send(kAsk);
    const std::string watch = restored->Expect("pacs-job watch");
    EXPECT_EQ(GuestMachine::Number(watch, "backwards"), 0u);
    EXPECT_EQ(GuestMachine::Number(watch, "gap_us") >= kHourNs / 1000, advance) << watch;
    EXPECT_THAT(restored->Expect("pacs-job faults"), testing::EndsWith("faults 0"));
  }
}

}  // namespace
}  // namespace pacsvisor
