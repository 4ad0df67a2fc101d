// A Linux under load is snapshotted by the program while it works, killed, cloned and rolled back:
// neither it nor what is made of its snapshots ever finds a byte that is not as it was left.
//
// Suites named Full take a hundred snapshots; PACSVISOR_SNAPSHOTS=N changes how many.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <ostream>

#include "tests/guest/guest_process.h"
#include "tests/guest/linux_guest.h"

namespace pacsvisor {
namespace {

// fio writes and verifies on a raw disk and in a file system, pass after pass, as many as the
// command line says.
constexpr char kSnapshotLoad[] = R"(
mkdir -p /run/fs; mount -o discard /dev/vdd /run/fs
common="--randrepeat=0 --verify=crc32c --verify_fatal=1 --size=12M"
passes=$(sed 's/.*load.passes=//' /proc/cmdline)
load() {
  pass=0
  until [ $pass -ge $passes ]; do
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
wait $raw $files
umount /run/fs
echo pacs-job umount $?
dmesg | grep -iE 'soft lockup|rcu.*stall|I/O error|blk_update|hung task' | sed 's/^/pacs-job fault /'
busybox poweroff -f
)";

struct SnapshotCase {
  uint32_t cpus;
  int snapshots;

  friend void PrintTo(const SnapshotCase& one, std::ostream* out) {
    *out << one.snapshots << " snapshots";
  }
};

class LinuxSnapshot : public testing::TestWithParam<SnapshotCase> {
 protected:
  static constexpr int kPassesFirst = 8;  // more than a first snapshot takes, and one a snapshot

  LinuxSnapshot() {
    MachineConfig config = LinuxConfig(files_, kSnapshotLoad, GetParam().cpus, 256 * kMiB);
    config.boot.cmdline += " load.passes=" + std::to_string(kPassesFirst + Snapshots());
    config.disks.push_back({.path = files_.MakeDisk("raw.raw", 24 * kMiB),
                            .serial = "raw",
                            .queues = GetParam().cpus});
    config.disks.push_back({.path = files_.MakeFileSystem("files", 96 * kMiB), .serial = "fs"});
    std::ofstream(files_.Path("VM.toml"))
        << ConfigText(config) << "[store]\npath = \"" << files_.Path("store") << "\"\n";
  }

  static int Snapshots() {
    const char* asked = std::getenv("PACSVISOR_SNAPSHOTS");
    return asked == nullptr ? GetParam().snapshots : std::atoi(asked);
  }

  GuestProcess::Options Program(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), PACSVISOR_PROGRAM);
    return {.arguments = std::move(arguments),
            .environment = {{"PACSVISOR_RUNTIME_DIR", files_.Path("runtime")}},
            .error_log = files_.Path("errors")};
  }
  GuestProcess::Options RunLinux() const { return Program({"run", files_.Path("VM.toml")}); }

  HostResult Ask(const std::string& words) const {
    return AskHost("PACSVISOR_RUNTIME_DIR=" + files_.Path("runtime") + " " + PACSVISOR_PROGRAM +
                   " " + words);
  }

  // Its id. Every other one has no time to copy in its pause what the guest leaves to it.
  std::string Snapshot(const std::string& message) {
    const std::string budget = ++taken_ % 2 == 0 ? " --pause-budget 1us" : "";
    const HostResult result = Ask("snapshot linux --json --message '" + message + "'" + budget);
    EXPECT_EQ(result.status, 0) << result.output;
    const auto json = nlohmann::json::parse(result.output, nullptr, false);
    EXPECT_TRUE(json.is_object()) << result.output;
    return json.is_object() && json.contains("result") ? json["result"].value("id", "") : "";
  }

  static void ExpectPass(GuestProcess& guest) {
    EXPECT_THAT(guest.Expect("pacs-job raw pass"), testing::EndsWith("status 0"));
  }
  // To the end of the load; whole passes of both come after the instant, so that what was written
  // before is verified after.
  static void Finish(GuestProcess& guest) {
    EXPECT_THAT(guest.Expect("pacs-job umount"), testing::EndsWith("umount 0"));
    EXPECT_EQ(guest.WaitForExit(), 0);
    EXPECT_THAT(guest.seen(),
                testing::Not(testing::ContainsRegex("pacs-job (fault|.*status [1-9])")));
  }
  void ExpectVerified() const {
    const HostResult verify = Ask("verify --store " + files_.Path("store"));
    EXPECT_EQ(verify.status, 0) << verify.output;
  }
  std::string Errors() const {
    std::ifstream stream(files_.Path("errors"));
    return {std::istreambuf_iterator<char>(stream), {}};
  }

  GuestFiles files_;
  int taken_ = 0;
};

std::string NameOfCase(const testing::TestParamInfo<SnapshotCase>& one) {
  return std::to_string(one.param.cpus) + "Cpus" + std::to_string(one.param.snapshots);
}
INSTANTIATE_TEST_SUITE_P(Cpus, LinuxSnapshot, testing::Values(SnapshotCase{2, 3}), NameOfCase);
INSTANTIATE_TEST_SUITE_P(Full, LinuxSnapshot,
                         testing::Values(SnapshotCase{1, 3}, SnapshotCase{1, 100},
                                         SnapshotCase{2, 100}),
                         NameOfCase);

TEST_P(LinuxSnapshot, SourceGoesOnAndEveryCopyOfItToo) {
  std::vector<std::string> ids;
  {
    GuestProcess source(RunLinux());
    ExpectPass(source);
    for (int i = 0; i < Snapshots() && !HasFailure(); ++i) {
      ids.push_back(Snapshot("number " + std::to_string(i)));
    }
    ASSERT_FALSE(HasFailure()) << Errors();
    Finish(source);
  }
  ExpectSoundFileSystem(files_.Path("files.raw"));
  ExpectVerified();
  for (const std::string& id : {ids.front(), ids.back()}) {
    SCOPED_TRACE(id);
    const std::string directory = files_.Path("clone");
    {
      GuestProcess clone(Program({"restore", id, "--store", files_.Path("store"), "--name", "clone",
                                  "--directory", directory}));
      Finish(clone);
    }
    ASSERT_FALSE(HasFailure()) << Errors();
    ExpectSoundFileSystem(directory + "/disk3.raw");
    std::filesystem::remove_all(directory);
  }
}

// A clone is snapshotted at once, incrementally; what comes of that goes on as well.
TEST_P(LinuxSnapshot, RolledBackAfterItsProcessWasKilledAndSnapshottedAgain) {
  std::string id;
  {
    GuestProcess source(RunLinux());
    ExpectPass(source);
    Snapshot("first");
    id = Snapshot("second");
    ExpectPass(source);
    source.Kill();
  }
  ASSERT_FALSE(HasFailure()) << Errors();
  std::string later;
  {
    GuestProcess again(Program({"restore", id.substr(0, 10), "--store", files_.Path("store")}));
    ExpectPass(again);
    later = Snapshot("of the restored one");
    Finish(again);
  }
  ASSERT_FALSE(HasFailure()) << Errors();
  ExpectSoundFileSystem(files_.Path("files.raw"));
  const HostResult list = Ask("snapshots --json --store " + files_.Path("store"));
  EXPECT_THAT(list.output, testing::HasSubstr("before roll-back to " + id.substr(0, 12)));
  {
    GuestProcess last(Program({"restore", later, "--store", files_.Path("store"), "--discard"}));
    Finish(last);
  }
  ASSERT_FALSE(HasFailure()) << Errors();
  ExpectSoundFileSystem(files_.Path("files.raw"));
  ExpectVerified();
}

}  // namespace
}  // namespace pacsvisor
