// A Linux guest on a TAP interface, in a network namespace of the test's own: both directions, with
// the offloads that TAP carries and without them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "devices/net/tap_interface.h"
#include "devices/net/virtio_net_abi.h"
#include "tests/guest/linux_guest.h"
#include "tests/unit/devices/net/network_namespace.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;

constexpr char kHost[] = "192.168.78.1";
constexpr char kGuest[] = "192.168.78.2";

// Serves iperf3 and, on port 5001, the SHA-256 of what it is sent; port 5002 sends a file. Says
// what was negotiated. "offloads off" on the console turns checksums and segmentation of the card
// off.
constexpr char kJob[] = R"job(
card=$(basename $(dirname $(ls -d /sys/class/net/*/device | head -n 1)))
until ip -4 -o address show dev $card | grep -q 192.168.78.2; do sleep 0.05; done
cat >/tmp/offloads.py <<'END'
import array, fcntl, socket, struct, sys
# linux/ethtool.h: ETHTOOL_S* of receive checksums, transmit checksums, TSO, GSO, GRO
for command in 0x15, 0x17, 0x1f, 0x24, 0x2c:
    value = array.array("B", struct.pack("II", command, 0))
    request = struct.pack("16sP", sys.argv[1].encode(), value.buffer_info()[0])
    try:
        fcntl.ioctl(socket.socket(), 0x8946, request)
    except OSError as error:
        print("pacs-job ethtool", hex(command), error)
END
head -c 16M /dev/urandom >/tmp/out
iperf3 -s -D >/dev/null
(while :; do busybox nc -l -p 5001 | sha256sum >/tmp/sum; echo pacs-job received $(cat /tmp/sum); done) &
(while :; do busybox nc -l -p 5002 </tmp/out >/dev/null; done) &
echo pacs-job features $(cat /sys/class/net/$card/device/features)
busybox ping -c 3 -W 5 192.168.78.1 >/dev/null; echo pacs-job ping $?
echo pacs-job sent $(sha256sum </tmp/out)
until [ -e /run/off ]; do sleep 0.05; done
python3 /tmp/offloads.py $card; echo pacs-job offloads off
until [ -e /run/stop ]; do sleep 0.05; done
echo pacs-job bad checksums $(awk '/^Tcp: [0-9]/ { print $NF } /^Udp: [0-9]/ { print $8 }' \
  /proc/net/snmp)
busybox poweroff -f
)job";

class TapGuest : public testing::Test {
 protected:
  void SetUp() override {
    if (!namespace_.why_not().empty()) {
      GTEST_SKIP() << "SKIPPED: " << namespace_.why_not();
    }
    if (const auto tap = TapInterface::Open("pvprobe"); !tap.ok()) {
      GTEST_SKIP() << "SKIPPED: " << tap.error().message();
    }
    MachineConfig config = LinuxConfig(files_, kJob, 2, 256 * kMiB);
    config.boot.cmdline += std::string(" pacs.address=") + kGuest + "/24";
    config.nets.push_back(
        {.backend = NetBackend::kTap, .interface = "pvguest", .mac = {0x52, 0x54, 0, 7, 8, 9}});
    guest_ = std::make_unique<GuestMachine>(config);
    RunOnHost(std::string("ip address add ") + kHost + "/24 dev pvguest && ip link set pvguest up");
    guest_->Start();
  }

  static uint64_t Iperf(const std::string& more) {
    const HostResult result =
        AskHost(std::string("timeout 60 iperf3 -J -n 48M -c ") + kGuest + more);
    EXPECT_EQ(result.status, 0) << result.output;
    const Json report = Json::parse(result.output, nullptr, false);
    // Without a number when it failed.
    return report.is_object() ? report.value(Json::json_pointer("/end/sum_sent/bytes"), uint64_t{0})
                              : 0;
  }

  struct Frames {
    double bytes = 0;
    double packets = 0;
  };
  // As the host's interface counts: "rx" is what the guest sends.
  static Frames Count(const std::string& direction) {
    const Json links = Json::parse(AskHost("ip -s -j link show dev pvguest").output);
    const Json& stats = links[0]["stats64"][direction];
    return {stats["bytes"], stats["packets"]};
  }
  // Bytes a frame while `transfer` runs.
  template <typename Function>
  static double FrameSize(const std::string& direction, Function transfer) {
    const Frames before = Count(direction);
    transfer();
    const Frames after = Count(direction);
    return (after.bytes - before.bytes) / (after.packets - before.packets);
  }

  void ExchangeFiles(const std::string& guests_sum) {
    const std::string file = files_.Path("in");
    RunOnHost("head -c 16M /dev/urandom >" + file);
    const std::string sum = AskHost("sha256sum <" + file).output.substr(0, 64);
    RunOnHost("timeout 60 bash -c 'cat " + file + " >/dev/tcp/" + kGuest + "/5001'");
    EXPECT_THAT(guest_->Expect("pacs-job received"), testing::HasSubstr(sum));
    const HostResult received =
        AskHost("timeout 60 bash -c 'sha256sum </dev/tcp/" + std::string(kGuest) + "/5002'");
    EXPECT_THAT(guests_sum, testing::HasSubstr(received.output.substr(0, 64)));
  }

  const net_test::NetworkNamespace namespace_;
  GuestFiles files_;
  std::unique_ptr<GuestMachine> guest_;
};

TEST_F(TapGuest, CarriesTrafficBothWaysWithAndWithoutOffloads) {
  const std::string line = guest_->Expect("pacs-job features");
  const std::string bits = line.substr(line.rfind(' ') + 1);
  ASSERT_EQ(bits.size(), 64u) << line;
  for (const uint64_t feature :
       {kNetFeatureChecksum, kNetFeatureGuestChecksum, kNetFeatureHostTso4, kNetFeatureGuestTso4,
        kNetFeatureMergeBuffers, kNetFeatureStatus}) {
    EXPECT_EQ(bits[static_cast<size_t>(std::countr_zero(feature))], '1')
        << "bit " << std::countr_zero(feature) << " of " << bits;
  }
  EXPECT_THAT(guest_->Expect("pacs-job ping"), testing::EndsWith("ping 0"));
  const std::string guests_sum = guest_->Expect("pacs-job sent");
  RunOnHost(std::string("busybox ping -c 3 -W 5 ") + kGuest);

  ExchangeFiles(guests_sum);
  // Frames larger than the link's 1500 bytes are segments that nobody had to cut.
  EXPECT_GT(FrameSize("tx", [] { EXPECT_GE(Iperf(""), 48 * kMiB); }), 2000);
  EXPECT_GT(FrameSize("rx", [] { EXPECT_GE(Iperf(" -R"), 48 * kMiB); }), 2000);

  // Now both kernels compute and check every checksum themselves.
  guest_->SendToShell("touch /run/off");
  EXPECT_THAT(guest_->Expect("pacs-job offloads"), testing::EndsWith("offloads off"));
  ExchangeFiles(guests_sum);
  EXPECT_LE(FrameSize("rx", [] { EXPECT_GE(Iperf(" -R"), 48 * kMiB); }), 1514);
  EXPECT_GE(Iperf(""), 48 * kMiB);

  guest_->SendToShell("touch /run/stop");
  EXPECT_THAT(guest_->Expect("pacs-job bad checksums"), testing::EndsWith("checksums 0 0"));
  EXPECT_EQ(guest_->WaitForEnd().reason, MachineEnd::Reason::kPowerOff);
  // The host's side of the namespace.
  EXPECT_EQ(AskHost("awk '/^Tcp: [0-9]/ { print $NF }' /proc/thread-self/net/snmp").output, "0\n");
}

}  // namespace
}  // namespace pacsvisor
