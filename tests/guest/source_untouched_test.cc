// A Linux at work does not notice that it is snapshotted: a memory checker, a TCP stream, fio with
// verification and a look at the clock every quarter of a millisecond find nothing but pauses.
//
// Suites named Full take a hundred snapshots.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <ostream>

#include "tests/guest/echo_server.h"
#include "tests/guest/instant_lab.h"

namespace pacsvisor {
namespace {

// Passes of each, until /run/stop is there.
constexpr char kUntouchedLoad[] = R"job(
mkdir -p /run/fs; mount -o discard /dev/vdd /run/fs
common="--randrepeat=0 --verify=crc32c --verify_fatal=1 --size=6M --rate_iops=2000"
memory() { /run/job/memtester 2M 1 >/tmp/memory 2>&1; }
raw() {
  fio --name=raw $common --filename=/dev/vdc --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw \
    --bsrange=512-64k --fsync=16 >/tmp/raw 2>&1
}
files() {
  fio --name=files $common --directory=/run/fs --nrfiles=4 --ioengine=psync --rw=randwrite \
    --bsrange=1k-16k --fsync=8 >/tmp/files 2>&1
}
each() {
  pass=0
  until [ -e /run/stop ]; do
    $1; status=$?; pass=$((pass + 1)); echo "pacs-job $1 pass $pass status $status"
    [ $status -eq 0 ] || { tail -n 5 /tmp/$1; return; }
  done
}
for i in $(seq 100); do ip -4 -o address show | grep -q 10.0.2.15 && break; sleep 0.1; done
/run/job/source_watch 10.0.2.2 $(sed 's/.*echo.port=\([0-9]*\).*/\1/' /proc/cmdline) /run/stop &
watch=$!
each memory & memory=$!
each raw & raw=$!
each files & files=$!
wait $watch $memory $raw $files
umount /run/fs
dmesg | grep -iE 'soft lockup|rcu.*stall|I/O error|blk_update|hung task|not a head|clocksource.*unstable' |
  sed 's/^/pacs-job fault /'
echo pacs-job load ends
)job";

struct UntouchedCase {
  uint32_t cpus;
  int snapshots;

  friend void PrintTo(const UntouchedCase& one, std::ostream* out) {
    *out << one.snapshots << " snapshots";
  }
};

class SourceUntouched : public testing::TestWithParam<UntouchedCase> {
 protected:
  MachineConfig Config() {
    MachineConfig config =
        LinuxConfig(files_, kUntouchedLoad, GetParam().cpus, 256 * kMiB,
                    {PACSVISOR_SOURCE_WATCH,
                     std::string(PACSVISOR_GUEST_FILES) + "/memtester/usr/sbin/memtester"});
    config.boot.cmdline += " echo.port=" + std::to_string(server_.port());
    config.disks.push_back({.path = files_.MakeDisk("raw.raw", 16 * kMiB),
                            .serial = "raw",
                            .queues = GetParam().cpus});
    config.disks.push_back({.path = files_.MakeFileSystem("files", 64 * kMiB), .serial = "fs"});
    config.nets.push_back({.backend = NetBackend::kUser, .mac = {0x52, 0x54, 0, 1, 2, 3}});
    return config;
  }

  GuestFiles files_;
  EchoServer server_{EchoServer::Kind::kStream};
};

std::string NameOfUntouchedCase(const testing::TestParamInfo<UntouchedCase>& one) {
  return std::to_string(one.param.cpus) + "Cpus";
}
INSTANTIATE_TEST_SUITE_P(Cpus, SourceUntouched, testing::Values(UntouchedCase{2, 10}),
                         NameOfUntouchedCase);
INSTANTIATE_TEST_SUITE_P(Full, SourceUntouched,
                         testing::Values(UntouchedCase{1, 100}, UntouchedCase{2, 100}),
                         NameOfUntouchedCase);

TEST_P(SourceUntouched, NothingIsSeenOfSnapshotsButPauses) {
  InstantLab lab(files_, Config(), InstantLab::Engines::kTheHosts);
  lab.subject().LookAtInstants(false);
  lab.guest().Expect("pacs-job stream connected");
  uint64_t longest_pause_ns = 0;
  for (int i = 0; i < GetParam().snapshots; ++i) {
    const Result<TakenSnapshot> taken = lab.Take();
    ASSERT_TRUE(taken.ok()) << taken.error().message();
    longest_pause_ns = std::max(longest_pause_ns, taken->info.draft.figures.at("pause_ns"));
  }
  lab.guest().SendToShell("touch /run/stop");
  const std::string watch = lab.guest().Expect("pacs-job watch");
  // Each ends the pass it is at, so that what was written before the last instant is verified.
  lab.guest().Expect("pacs-job load ends");
  EXPECT_EQ(GuestMachine::Number(watch, "backwards"), 0u);
  EXPECT_EQ(GuestMachine::Number(watch, "wrong"), 0u);
  EXPECT_EQ(GuestMachine::Number(watch, "error"), 0u);
  EXPECT_GT(GuestMachine::Number(watch, "bytes"), 0u);
  const std::string output = lab.guest().output();
  EXPECT_THAT(output, testing::Not(testing::ContainsRegex("pacs-job (fault|.*status [1-9])")));
  for (const char* checker : {"memory", "raw", "files"}) {
    EXPECT_THAT(output,
                testing::HasSubstr("pacs-job " + std::string(checker) + " pass 1 status 0"));
  }
  std::printf(
      "%d snapshots: longest pause %llu us; longest gap the guest saw %llu us, over %llu looks; "
      "%llu bytes of TCP\n",
      GetParam().snapshots, static_cast<unsigned long long>(longest_pause_ns / 1000),
      static_cast<unsigned long long>(GuestMachine::Number(watch, "gap_us")),
      static_cast<unsigned long long>(GuestMachine::Number(watch, "looks")),
      static_cast<unsigned long long>(GuestMachine::Number(watch, "bytes")));
}

}  // namespace
}  // namespace pacsvisor
