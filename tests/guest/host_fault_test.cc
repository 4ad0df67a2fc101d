// Hosts that fail under a running Linux: the guest sees its device's error, the machine goes on,
// the log says why. And limits, as a guest meets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "devices/net/tap_interface.h"
#include "tests/guest/linux_guest.h"
#include "tests/unit/devices/net/network_namespace.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// For jobs: waits for what the test types, reads and writes vdc past the guest's page cache.
constexpr char kHelpers[] = R"job(
await() { until [ -e /run/$1 ]; do sleep 0.05; done; }
get() { dd if=/dev/vdc bs=1M iflag=direct skip=$1 count=${2:-1} 2>/dev/null; }
try() { "$@" >/dev/null 2>/run/error; echo pacs-job $* ended $?; }
put() { dd if=/dev/zero of=/dev/vdc bs=1M oflag=direct seek=$1 count=1; }
)job";

std::string SumOf(const std::string& path, uint64_t mib, uint64_t skip_mib = 0) {
  return AskHost("dd if=" + path + " bs=1M skip=" + std::to_string(skip_mib) +
                 " count=" + std::to_string(mib) + " 2>/dev/null | sha256sum")
      .output.substr(0, 64);
}

// A small file system of the test's own, which can fill up.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(const std::string& place) : place_(place) {
    fs::create_directory(place);
    const HostResult mounted = AskHost("mount -t tmpfs -o size=24M tmpfs " + place);
    why_not_ = mounted.status == 0 ? "" : "cannot mount a tmpfs: " + mounted.output;
  }
  ~SmallFileSystem() {
    if (why_not_.empty()) {
      EXPECT_EQ(::umount2(place_.c_str(), MNT_DETACH), 0);
    }
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  const std::string& why_not() const { return why_not_; }

 private:
  const std::string place_;
  std::string why_not_;
};

class HostFault : public testing::Test {
 protected:
  ~HostFault() override {
    guest_.reset();
    if (capturing_) {
      testing::internal::GetCapturedStderr();
    }
  }

  // A machine whose vdc is `disk`.
  void Start(const std::string& job, const DiskConfig& disk, const NetConfig* net = nullptr) {
    MachineConfig config = LinuxConfig(files_, kHelpers + job, 2, 256 * kMiB);
    config.disks.push_back(disk);
    if (net != nullptr) {
      config.nets.push_back(*net);
    }
    testing::internal::CaptureStderr();
    capturing_ = true;
    guest_ = std::make_unique<GuestMachine>(config);
    guest_->Start();
  }
  // The guest has powered off; what was logged.
  std::string End() {
    EXPECT_EQ(guest_->WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
    guest_.reset();
    capturing_ = false;
    return testing::internal::GetCapturedStderr();
  }
  // The guest is ready and begins; the time, which is before that.
  uint64_t LetGo() {
    guest_->Expect("pacs-job ready");
    const uint64_t start_ns = MonotonicNs();
    guest_->SendToShell("touch /run/go");
    return start_ns;
  }
  void ExpectEnded(const std::string& command, int status) {
    EXPECT_THAT(guest_->Expect("pacs-job " + command + " ended"),
                HasSubstr("ended " + std::to_string(status)));
  }

  GuestFiles files_;
  bool capturing_ = false;
  std::unique_ptr<GuestMachine> guest_;
};

// A sparse image on a host's file system that fills up.
TEST_F(HostFault, AFullHostFileSystemIsAnErrorUntilThereIsRoomAgain) {
  const std::string place = files_.Path("small");
  const SmallFileSystem small(place);
  if (!small.why_not().empty()) {
    GTEST_SKIP() << "SKIPPED: " << small.why_not();
  }
  const std::string disk = place + "/disk.raw";
  RunOnHost("truncate -s 64M " + disk + " && (head -c 8M /dev/zero >" + place + "/filler)");
  Start(R"job(
head -c 8M /dev/urandom >/run/data
dd if=/run/data of=/dev/vdc bs=1M oflag=direct 2>/dev/null
try dd if=/dev/urandom of=/dev/vdc bs=1M oflag=direct seek=8 count=40
echo pacs-job says $(grep -c "Input/output error\|No space left" /run/error)
echo pacs-job kept $(get 0 8 | sha256sum) $(sha256sum </run/data)
await room
try put 50; try get 50
busybox poweroff -f)job",
        {.path = disk, .serial = "small"});
  ExpectEnded("dd if=/dev/urandom of=/dev/vdc bs=1M oflag=direct seek=8 count=40", 1);
  EXPECT_THAT(guest_->Expect("pacs-job says"), HasSubstr("says 1"));
  const std::string kept = guest_->Expect("pacs-job kept");
  EXPECT_THAT(kept, HasSubstr("kept " + SumOf(disk, 8) + " - " + SumOf(disk, 8)));
  RunOnHost("rm " + place + "/filler");
  guest_->SendToShell("touch /run/room");
  ExpectEnded("put 50", 0);
  ExpectEnded("get 50", 0);
  const std::string log = End();
  EXPECT_THAT(log, HasSubstr("No space left on device"));
  EXPECT_THAT(log, HasSubstr("disk.raw: write of"));
}

TEST_F(HostFault, AnImageCutShortIsAnErrorBehindItsEndUntilItIsWholeAgain) {
  const std::string disk = files_.Path("cut.raw");
  RunOnHost("head -c 16M /dev/urandom >" + disk + " && cp " + disk + " " + files_.Path("copy"));
  const std::string whole = SumOf(disk, 16);
  Start(R"job(
echo pacs-job before $(get 0 16 | sha256sum)
await cut
try dd if=/dev/vdc bs=1M iflag=direct skip=2 count=1
try dd if=/dev/vdc bs=1M iflag=direct skip=12 count=1
try put 14
try dd if=/dev/vdc bs=1M iflag=direct skip=14 count=1
await whole
echo pacs-job after $(get 0 16 | sha256sum)
try put 14
busybox poweroff -f)job",
        {.path = disk, .serial = "cut"});
  EXPECT_THAT(guest_->Expect("pacs-job before"), HasSubstr(whole));
  fs::resize_file(disk, 8 * kMiB);
  guest_->SendToShell("touch /run/cut");
  ExpectEnded("dd if=/dev/vdc bs=1M iflag=direct skip=2 count=1", 0);
  ExpectEnded("dd if=/dev/vdc bs=1M iflag=direct skip=12 count=1", 1);
  ExpectEnded("put 14", 1);
  ExpectEnded("dd if=/dev/vdc bs=1M iflag=direct skip=14 count=1", 1);
  EXPECT_EQ(fs::file_size(disk), 8 * kMiB);
  RunOnHost("(cat " + files_.Path("copy") + " >" + disk +
            ")");  // the same file, its contents again
  guest_->SendToShell("touch /run/whole");
  EXPECT_THAT(guest_->Expect("pacs-job after"), HasSubstr(whole));
  ExpectEnded("put 14", 0);
  EXPECT_THAT(End(),
              HasSubstr("the image was cut short while the machine runs: it has 8388608 bytes "
                        "of 16777216"));
}

TEST_F(HostFault, ATapThatDisappearsTakesTheLinkDownAndTheMachineGoesOn) {
  const net_test::NetworkNamespace network;
  if (!network.why_not().empty()) {
    GTEST_SKIP() << "SKIPPED: " << network.why_not();
  }
  if (const auto tap = TapInterface::Open("pvprobe"); !tap.ok()) {
    GTEST_SKIP() << "SKIPPED: " << tap.error().message();
  }
  const NetConfig net{
      .backend = NetBackend::kTap, .interface = "pvgone", .mac = {0x52, 0x54, 0, 7, 8, 10}};
  Start(R"job(
card=$(basename $(dirname $(ls -d /sys/class/net/*/device | head -n 1)))
ip address add 192.168.79.2/24 dev $card
(while :; do busybox ping -c 1 -W 1 192.168.79.1 >/dev/null && touch /run/answered; done) &
(while :; do get 0 16 >/run/read; done) &
await answered
echo pacs-job carrier $(cat /sys/class/net/$card/carrier)
until [ $(cat /sys/class/net/$card/carrier) = 0 ]; do sleep 0.05; done
echo pacs-job link is down
try put 3; try get 3
busybox poweroff -f)job",
        {.path = files_.MakeDisk("scratch.raw", 16 * kMiB), .serial = "scratch"}, &net);
  RunOnHost("ip address add 192.168.79.1/24 dev pvgone && ip link set pvgone up");
  EXPECT_THAT(guest_->Expect("pacs-job carrier"), HasSubstr("carrier 1"));
  RunOnHost("ip link delete pvgone");
  guest_->Expect("pacs-job link is down");
  ExpectEnded("put 3", 0);
  ExpectEnded("get 3", 0);
  EXPECT_THAT(End(), HasSubstr("TAP interface pvgone is gone"));
}

// What the guest moved is at most what the limit lets through in the time that it took, by the
// host's clock; and it is what was written.
TEST_F(HostFault, ALimitedDiskKeepsItsBandwidthAndItsData) {
  constexpr uint64_t kRate = 2 * kMiB;
  const std::string disk = files_.MakeDisk("limited.raw", 16 * kMiB);
  Start(R"job(
head -c 8M /dev/urandom >/run/data
echo pacs-job ready; await go
dd if=/run/data of=/dev/vdc bs=256k oflag=direct 2>/dev/null
echo pacs-job sums $(get 0 8 | sha256sum) $(sha256sum </run/data)
busybox poweroff -f)job",
        {.path = disk, .serial = "limited", .rates = {.bytes_per_second = kRate}});
  const uint64_t start_ns = LetGo();
  const std::string sums = guest_->Expect("pacs-job sums");
  const double seconds = static_cast<double>(MonotonicNs() - start_ns) / 1e9;
  EXPECT_THAT(sums, HasSubstr(SumOf(disk, 8) + " - " + SumOf(disk, 8)));
  const double allowed = static_cast<double>(RateLimiter::BurstOf(kRate)) +
                         static_cast<double>(kRate) * seconds + 2.0 * kMiB;  // the last request
  EXPECT_LE(16.0 * kMiB, allowed);
  End();
}

TEST_F(HostFault, ALimitedDiskKeepsItsOperations) {
  const std::string disk = files_.MakeDisk("limited.raw", 16 * kMiB);
  Start(R"job(
echo pacs-job ready; await go
try dd if=/dev/vdc bs=4k iflag=direct count=300
try dd if=/dev/vdc bs=4k iflag=direct count=300 skip=1000
busybox poweroff -f)job",
        {.path = disk, .serial = "limited", .queues = 2, .rates = {.operations_per_second = 100}});
  const uint64_t start_ns = LetGo();
  ExpectEnded("dd if=/dev/vdc bs=4k iflag=direct count=300", 0);
  ExpectEnded("dd if=/dev/vdc bs=4k iflag=direct count=300 skip=1000", 0);
  const double seconds = static_cast<double>(MonotonicNs() - start_ns) / 1e9;
  EXPECT_LE(600.0, 10.0 + 100.0 * seconds + 1.0);
  End();
}

}  // namespace
}  // namespace pacsvisor
