// What a guest, or the network outside, can make the user-mode back end keep: sockets and
// fragments.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>

#include "devices/net/user_backend.h"
#include "tests/unit/devices/net/guest_stack.h"
#include "tests/unit/devices/net/host_sockets.h"
#include "tests/unit/devices/net/network_namespace.h"

namespace pacsvisor::net_test {
namespace {

constexpr Ip4 kLimitedGuestIp = {10, 0, 2, 15};
constexpr Ip4 kLimitedGateway = {10, 0, 2, 2};
constexpr size_t kMost = SlirpWatches::kMaxSockets;
constexpr std::chrono::milliseconds kPatience(20);

// IPv4 sockets of this process.
size_t InternetSockets() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename().string());
    int domain = 0;
    socklen_t size = sizeof(domain);
    count += ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET;
  }
  return count;
}

class UserLimits : public testing::Test {
 protected:
  void SetUp() override {
    if (!namespace_.why_not().empty()) {
      GTEST_SKIP() << "SKIPPED: " << namespace_.why_not();
    }
    rlimit limit;
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
    ASSERT_GE(limit.rlim_max, 4 * kMost) << "too few descriptors for this test";
  }

  void Start(const UserNetwork& network) {
    device_ =
        NetDevice::Create({.name = "net0", .mac = kGuestMac}, UserBackend::Create(network).value())
            .value();
    card_ = std::make_unique<GuestCard>(
        *device_, *memory_,
        GuestCard::Options{.features = kNetFeatureMac | kNetFeatureMergeBuffers,
                           .receive_buffers = 60});
    stack_ = std::make_unique<GuestStack>(*card_, kGuestMac, kLimitedGuestIp);
    ASSERT_TRUE(stack_->Resolve(kLimitedGateway).has_value());
    before_ = InternetSockets();
  }
  // The guest goes on reading meanwhile: the back end waits for one that does not. A client whose
  // handshake the kernel has finished is not enough: libslirp's queue holds one or two that it has
  // not accepted, and a SYN that finds it full is sent again a second later.
  bool AwaitAccepted(size_t connections, std::chrono::milliseconds limit = kTestDeadline) {
    const size_t wanted = before_ + 2 * connections;
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (InternetSockets() < wanted && std::chrono::steady_clock::now() < deadline) {
      (void)stack_->Until([&] { return InternetSockets() >= wanted; }, kPatience);
    }
    return InternetSockets() >= wanted;
  }

  const NetworkNamespace namespace_;
  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory(64 * kMiB);
  std::unique_ptr<NetDevice> device_;
  std::unique_ptr<GuestCard> card_;
  std::unique_ptr<GuestStack> stack_;
  size_t before_ = 0;
};

TEST_F(UserLimits, AGuestOpensOnlySoManyConnectionsAndStillResolvesNames) {
  Start({});
  HostSocket listener(SOCK_STREAM);
  ASSERT_TRUE(listener.Bind("127.0.0.1", 5000));
  before_ = InternetSockets();
  for (uint16_t i = 0; i < 2 * kMost; ++i) {
    stack_->SendIp(Tcp4(
        kLimitedGuestIp, kLimitedGateway,
        {.from_port = static_cast<uint16_t>(1024 + i), .to_port = 5000, .flags = kTcpSyn}, {}));
  }
  EXPECT_LT(InternetSockets() - before_, kMost);
  EXPECT_GT(InternetSockets() - before_, kMost / 2);
  const size_t with_tcp = InternetSockets();
  HostSocket echo(SOCK_DGRAM);
  ASSERT_TRUE(echo.Bind("127.0.0.1", 5001));
  for (uint16_t i = 0; i < kMost; ++i) {
    stack_->SendIp(
        Udp4(kLimitedGuestIp, kLimitedGateway, static_cast<uint16_t>(1024 + i), 5001, Bytes(4)));
  }
  EXPECT_GT(InternetSockets(), with_tcp + 1) << "UDP has a share of its own";
  EXPECT_LE(InternetSockets() - before_, kMost + 1);
}

TEST_F(UserLimits, ConnectionsFromOutsideWaitWhenTooManyAreOpen) {
  Start({.forwards = {{.host_port = 4242, .guest_port = 104}}});
  std::vector<UniqueFd> clients;
  const sockaddr_in address = AddressOf("127.0.0.1", 4242);
  for (size_t i = 0; i < kMost + 20; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // The generic form of an address.
    ::connect(clients.back().get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    if (i + 10 < kMost) {
      ASSERT_TRUE(AwaitAccepted(clients.size())) << i << " connections are open";
    } else {
      // A back end without a limit takes these as well, one after the other.
      (void)AwaitAccepted(clients.size(), 4 * kPatience);
    }
  }
  EXPECT_GE(InternetSockets(), before_ + clients.size() + kMost - 20);
  ASSERT_LE(InternetSockets(), before_ + clients.size() + kMost);
}

TEST_F(UserLimits, FragmentsThatNeverBecomeADatagramAreKeptOnlyUpToABound) {
  Start({});
  uint64_t bytes = 0;
  const uint64_t drops = device_->counters().send_drops;
  for (uint16_t i = 0; device_->counters().send_drops == drops; ++i) {
    Bytes packet = Ip4Packet(kLimitedGuestIp, kLimitedGateway, kUdp, Bytes(32000));
    Set16(packet, 4, i);
    Set16(packet, 6, 0x2000);
    Set16(packet, 10, 0);
    Set16(packet, 10, 0xffffu - OracleSum(std::span(packet).first(20)));
    stack_->SendIp(packet);
    bytes += packet.size();
    // Ten times what is admitted at once: only a machine that takes minutes for this gets there.
    ASSERT_LT(bytes, 10 * UserBackend::kFragmentBurstBytes);
  }
  EXPECT_GE(bytes, UserBackend::kFragmentBurstBytes);
}

}  // namespace
}  // namespace pacsvisor::net_test
