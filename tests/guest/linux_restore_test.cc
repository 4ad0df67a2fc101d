// A Linux under load: paused, saved, copied whole with its disks, restored in a new process. Both
// the restored machine and the first one go on, and neither finds a byte that is not as it left it.
//
// Suites named Full do it many times, each time at another instant; PACSVISOR_RESTORES=N changes
// how many.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <random>

#include "tests/guest/linux_guest.h"
#include "tests/guest/restore_process.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

// fio writes and verifies on a raw disk and in a file system, pass after pass, until /run/stop is
// there; a line every so often is what the test counts time by.
constexpr char kLoad[] = R"(
mkdir -p /run/fs; mount /dev/vdd /run/fs
common="--randrepeat=0 --verify=crc32c --verify_fatal=1 --size=12M"
load() {
  pass=0
  until [ -e /run/stop ]; do
    fio --name=$1 $common "${@:2}" >/tmp/$1 2>&1; status=$?
    [ $status -eq 0 ] || tail -n 5 /tmp/$1
    pass=$((pass + 1)); echo "pacs-job $1 pass $pass status $status"
    [ $status -eq 0 ] || return
  done
}
load raw --filename=/dev/vdc --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw \
  --bsrange=512-64k --fsync=16 &
raw=$!
load files --directory=/run/fs --nrfiles=4 --ioengine=psync --rw=randwrite --bsrange=1k-16k \
  --fsync=8 &
files=$!
(until [ -e /run/stop ]; do read up idle </proc/uptime; echo pacs-job tick $up; sleep 0.02; done) &
wait $raw $files
umount /run/fs
echo pacs-job umount $?
busybox poweroff -f
)";

struct RestoreCase {
  uint32_t cpus;
  int restores;

  friend void PrintTo(const RestoreCase& one, std::ostream* out) {
    *out << one.restores << " restores";
  }
};

class LinuxRestore : public testing::TestWithParam<RestoreCase> {
 protected:
  static constexpr uint64_t kMaxTicks = 60;

  LinuxRestore() {
    config_ = LinuxConfig(files_, kLoad, GetParam().cpus, 256 * kMiB);
    config_.disks.push_back({.path = files_.MakeDisk("raw.raw", 24 * kMiB),
                             .serial = "raw",
                             .queues = GetParam().cpus});
    config_.disks.push_back({.path = files_.MakeFileSystem("files", 96 * kMiB), .serial = "fs"});
  }

  // The guest's monotonic clock, from one of its lines.
  static double UptimeOf(const std::string& tick) {
    return std::strtod(tick.c_str() + tick.rfind(' '), nullptr);
  }

  // Pauses after `ticks` and copies; the source goes on to its end.
  void CopyUnderLoad(const std::string& copy, uint64_t ticks) {
    GuestMachine guest(config_);
    const uint64_t started_ns = MonotonicNs();
    guest.Start();
    ASSERT_THAT(guest.Expect("pacs-job raw pass 1 "), testing::EndsWith("status 0"));
    for (uint64_t i = 0; i < ticks; ++i) {
      guest.Expect("pacs-job tick");
    }
    const Status paused = guest.machine().Pause();
    ASSERT_TRUE(paused.ok()) << paused.error().message();
    ran_ns_ = MonotonicNs() - started_ns;
    const Status saved = SaveMachine(guest.machine(), copy);
    ASSERT_TRUE(saved.ok()) << saved.error().message();
    const Status resumed = guest.machine().Resume();
    ASSERT_TRUE(resumed.ok()) << resumed.error().message();
    Finish(guest);
    EXPECT_EQ(guest.WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
    ExpectSoundFileSystem(config_.disks[3].path);
  }

  void RestoreAndFinish(const std::string& copy) {
    const std::vector<std::string> disks = {files_.Path("r-root.raw"), files_.Path("r-job.raw"),
                                            files_.Path("r-raw.raw"), files_.Path("r-files.raw")};
    {
      const uint64_t started_ns = MonotonicNs();
      RestoredGuest restored(copy, config_, disks);
      // The guest's clock knows nothing of the time between the copy and now.
      const double uptime = UptimeOf(restored.Expect("pacs-job tick"));
      EXPECT_LE(uptime, static_cast<double>(ran_ns_ + MonotonicNs() - started_ns) / 1e9 + 0.5);
      Finish(restored);
      EXPECT_EQ(restored.WaitForExit(), 0);
    }
    ExpectSoundFileSystem(disks[0]);
    ExpectSoundFileSystem(disks[3]);
    RunOnHost("rm -f " + disks[0] + " " + disks[1] + " " + disks[2] + " " + disks[3]);
  }

  // A whole pass of both after the instant, so that what was written before is verified after.
  template <typename Guest>
  static void Finish(Guest& guest) {
    for (int i = 0; i < 2; ++i) {
      EXPECT_THAT(guest.Expect("pacs-job raw pass"), testing::EndsWith("status 0"));
    }
    guest.Send("touch /run/stop");
    EXPECT_THAT(guest.Expect("pacs-job files pass"), testing::EndsWith("status 0"));
    EXPECT_THAT(guest.Expect("pacs-job umount"), testing::EndsWith("umount 0"));
  }

  GuestFiles files_;
  MachineConfig config_;
  uint64_t ran_ns_ = 0;  // from the source's start to its pause: no less than its uptime then
};

std::string NameOf(const testing::TestParamInfo<RestoreCase>& one) {
  return std::to_string(one.param.cpus) + "Cpus";
}
INSTANTIATE_TEST_SUITE_P(Cpus, LinuxRestore, testing::Values(RestoreCase{1, 1}, RestoreCase{2, 1}),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(Full, LinuxRestore,
                         testing::Values(RestoreCase{1, 10}, RestoreCase{2, 10}), NameOf);

TEST_P(LinuxRestore, GoesOnUnderLoadWithBothDisks) {
  const char* repeat = std::getenv("PACSVISOR_RESTORES");
  const int count = repeat == nullptr ? GetParam().restores : std::atoi(repeat);
  for (int i = 0; i < count && !HasFailure(); ++i) {
    std::mt19937_64 random(GetParam().cpus * 1000 + static_cast<uint64_t>(i));
    const uint64_t ticks = random() % kMaxTicks;
    SCOPED_TRACE(testing::Message() << "copy " << i << " after " << ticks << " ticks");
    const std::string copy = files_.Path("copy");
    ASSERT_NO_FATAL_FAILURE(CopyUnderLoad(copy, ticks));
    RestoreAndFinish(copy);
    RunOnHost("rm -f " + copy);
  }
}

}  // namespace
}  // namespace pacsvisor
