// Requests that are on their way at the instant: the host holds every disk back until the machine
// has been frozen, over one snapshot and over two.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <numeric>

#include "tests/guest/instant_lab.h"

namespace pacsvisor {
namespace {

constexpr size_t kBusyDisks = 3;

// fio keeps sixteen requests on each disk; what it reads back must be what it wrote last. A line a
// second shows that the guest runs.
constexpr char kInFlightLoad[] = R"job(
disk() {
  fio --name=$1 --filename=/dev/$1 --randrepeat=0 --verify=crc32c --verify_fatal=1 --size=6M \
    --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw --bsrange=512-64k "${@:2}" >/tmp/$1 2>&1
}
each() {
  pass=0
  while :; do
    disk "$@"; status=$?; pass=$((pass + 1)); echo "pacs-job $1 pass $pass status $status"
    [ $status -eq 0 ] || { tail -n 5 /tmp/$1; return; }
    dmesg | grep -iE 'I/O error|blk_update|hung task|not a head|soft lockup|rcu.*stall' |
      sed 's/^/pacs-job fault /'
  done
}
each vdc &
each vdd --fsync=8 &
each vde &
(while :; do echo pacs-job tick; sleep 0.2; done) &
)job";

class InFlight : public testing::Test {
 protected:
  MachineConfig Config() {
    MachineConfig config = LinuxConfig(files_, kInFlightLoad, 2, 256 * kMiB);
    for (size_t i = 0; i < kBusyDisks; ++i) {
      const std::string name = "busy" + std::to_string(i);
      config.disks.push_back({.path = files_.MakeDisk(name + ".raw", 8 * kMiB),
                              .serial = name,
                              .queues = i == 0 ? 2u : 1u});
    }
    return config;
  }

  // Every disk hangs, with what the guest has asked of it since; a tick gives it time to ask.
  static void HoldBusy(InstantLab& lab) {
    lab.Hold();
    lab.AwaitHeld(1);
    lab.guest().Expect("pacs-job tick");
  }

  // How many requests each disk had on its way; counts them in.
  void Report(const char* what, const SeenAtInstant& seen) {
    std::vector<size_t> each(kBusyDisks);
    for (const RecordedRequest& request : seen.requests) {
      if (request.disk >= InstantLab::kFirstDisk) {
        ++each[request.disk - InstantLab::kFirstDisk];
      }
    }
    std::printf("%s: in flight", what);
    for (const size_t count : each) {
      std::printf(" %zu", count);
    }
    std::printf("\n");
    requests_ += std::accumulate(each.begin(), each.end(), size_t{0});
    disks_ += kBusyDisks;
  }
  // Fewer, and the test has shown nothing.
  void ExpectEnough() const { EXPECT_GE(requests_, disks_) << "less than one a disk on average"; }

  static void ExpectPasses(GuestMachine& guest) {
    for (const char* disk : {"vdc", "vdd", "vde"}) {
      // In no order: each looks for its own.
      const std::string text = std::string("pacs-job ") + disk + " pass ";
      const auto passes = [&] {
        size_t count = 0;
        const std::string output = guest.output();
        for (size_t at = output.find(text); at != std::string::npos;
             at = output.find(text, at + 1)) {
          ++count;
        }
        return count;
      };
      for (const size_t before = passes(); passes() < before + 2;) {
        guest.Expect("pacs-job tick");
        ASSERT_FALSE(HasFailure());
      }
    }
    EXPECT_THAT(guest.output(),
                testing::Not(testing::ContainsRegex("pacs-job (fault|.*status [1-9])")));
  }

  static Differences Compared(InstantLab& lab, const SnapshotId& id, const SeenAtInstant& seen) {
    return lab.subject().Compare(*lab.store().OpenSnapshot(id).value(), seen);
  }

  GuestFiles files_;
  size_t requests_ = 0;
  size_t disks_ = 0;
};

// A request that came twice or never, fio and the driver would see: data of another write, a head
// that the driver does not know, a pass that does not end. The pause does not wait for the disks:
// the guest is heard of before they go on.
TEST_F(InFlight, EachRequestCompletesOnceInTheSourceAndInWhatIsRestored) {
  constexpr int kInstants = 3;
  InstantLab lab(files_, Config());
  lab.guest().Expect("pacs-job tick");
  std::vector<SnapshotId> ids;
  lab.subject().AfterInstant([&] {
    lab.guest().Expect("pacs-job tick");
    lab.AwaitHeld(1);
    lab.LetGo();
  });
  for (int i = 0; i < kInstants; ++i) {
    HoldBusy(lab);
    const Result<TakenSnapshot> taken = lab.Take();
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    ids.push_back(taken->info.id);
    Report(("instant " + std::to_string(i)).c_str(), lab.subject().seen());
    const Differences differences = Compared(lab, ids.back(), lab.subject().seen());
    EXPECT_EQ(differences.memory_pages, 0u);
    EXPECT_EQ(differences.disk_blocks, 0u);
  }
  ExpectEnough();
  ExpectPasses(lab.guest());
  const auto restored =
      RestoreBeside(lab.store(), ids.back(), lab.config(), files_.Path("restored"));
  restored->Start();
  ExpectPasses(*restored);
}

// The first snapshot is called off while the disks hang, the second one finds them hanging still.
TEST_F(InFlight, RequestsHeldBackOverTwoSnapshotsAreNotLost) {
  class CallsOffAfterTheInstant : public CaptureObserver {
   public:
    void OnProgress(CapturePhase phase, uint64_t, uint64_t) override {
      cancelled_ = cancelled_ || phase == CapturePhase::kWriting;
    }
    bool cancelled() const override { return cancelled_; }

   private:
    bool cancelled_ = false;
  };
  InstantLab lab(files_, Config());
  lab.guest().Expect("pacs-job tick");
  ASSERT_TRUE(lab.Take().ok());
  HoldBusy(lab);
  CallsOffAfterTheInstant calls_off;
  const Result<TakenSnapshot> none = lab.Take(calls_off);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code(), ErrorCode::kCancelled) << none.error().message();
  Report("called off", lab.subject().seen());
  lab.AwaitHeld(1);
  lab.subject().AfterInstant([&] { lab.LetGo(); });
  const Result<TakenSnapshot> second = lab.Take();
  ASSERT_TRUE(second.ok()) << second.error().message();
  Report("second", lab.subject().seen());
  const SeenAtInstant at_second = lab.subject().seen();
  // What landed after both instants is in the third.
  const Result<TakenSnapshot> third = lab.Take();
  ASSERT_TRUE(third.ok()) << third.error().message();
  Report("third", lab.subject().seen());
  for (const auto& [taken, seen] :
       {std::pair(&*second, at_second), std::pair(&*third, lab.subject().seen())}) {
    const Differences differences = Compared(lab, taken->info.id, seen);
    EXPECT_EQ(differences.memory_pages, 0u);
    EXPECT_EQ(differences.disk_blocks, 0u);
  }
  ExpectEnough();
  ExpectPasses(lab.guest());
  const auto restored =
      RestoreBeside(lab.store(), second->info.id, lab.config(), files_.Path("restored"));
  restored->Start();
  ExpectPasses(*restored);
}

// Disks that hang for ten seconds of the guest's: the snapshot waits for them, and is whole.
class HangingDisk : public InFlight, public testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Full, HangingDisk, testing::Values(50));  // of a fifth of a second

TEST_P(HangingDisk, HoldsUpTheSnapshotAndNotTheGuest) {
  InstantLab lab(files_, Config());
  lab.guest().Expect("pacs-job tick");
  ASSERT_TRUE(lab.Take().ok());
  HoldBusy(lab);
  std::thread host;
  lab.subject().AfterInstant([&] {
    host = std::thread([&] {  // the snapshot goes on meanwhile, up to the disk
      for (int i = 0; i < GetParam(); ++i) {
        lab.guest().Expect("pacs-job tick");
      }
      lab.AwaitHeld(1);
      lab.LetGo();
    });
  });
  const Result<TakenSnapshot> taken = lab.Take();
  host.join();
  ASSERT_TRUE(taken.ok()) << taken.error().message();
  Report("hanging", lab.subject().seen());
  ExpectEnough();
  const Differences differences = Compared(lab, taken->info.id, lab.subject().seen());
  EXPECT_EQ(differences.memory_pages, 0u);
  EXPECT_EQ(differences.disk_blocks, 0u);
  ExpectPasses(lab.guest());
}

}  // namespace
}  // namespace pacsvisor
