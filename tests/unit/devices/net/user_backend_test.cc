// The user-mode back end: a guest's DHCP, ARP, ICMP, UDP and TCP against libslirp and real sockets
// of the host, in a network namespace of the test's own, so that its ports are free.
#include "devices/net/user_backend.h"

#include <gmock/gmock.h>

#include <functional>
#include <thread>

#include "tests/unit/devices/net/guest_stack.h"
#include "tests/unit/devices/net/host_sockets.h"
#include "tests/unit/devices/net/network_namespace.h"

namespace pacsvisor::net_test {
namespace {

using testing::HasSubstr;

constexpr const char* kLoopback = "127.0.0.1";
constexpr Ip4 kGuestIp = {10, 0, 2, 15};
constexpr Ip4 kGateway = {10, 0, 2, 2};
constexpr uint64_t kPlain = kNetFeatureMac | kNetFeatureStatus | kNetFeatureMergeBuffers;
constexpr uint64_t kOffloaded =
    kPlain | kNetFeatureChecksum | kNetFeatureHostTso4 | kNetFeatureGuestChecksum;
const HostForward kDicom = {.host_port = 4242, .guest_port = 104};

class UserNetworkTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!namespace_.why_not().empty()) {
      GTEST_SKIP() << "SKIPPED: " << namespace_.why_not();
    }
  }

  void Start(const UserNetwork& network, uint64_t features = kPlain,
             uint16_t receive_buffers = 60) {
    auto backend = UserBackend::Create(network);
    ASSERT_TRUE(backend.ok()) << backend.error().message();
    device_ = NetDevice::Create({.name = "net0", .mac = kGuestMac}, *std::move(backend)).value();
    before_driver_();
    ASSERT_EQ(features & ~device_->device_features(), 0u);
    card_ = std::make_unique<GuestCard>(
        *device_, *memory_,
        GuestCard::Options{.features = features, .receive_buffers = receive_buffers});
    stack_ = std::make_unique<GuestStack>(*card_, kGuestMac, kGuestIp);
    ASSERT_TRUE(stack_->Resolve(kGateway).has_value());
  }

  void Exchange(size_t size, size_t segment_bytes, const VirtioNetHeader& offload,
                uint32_t seed = 0) {
    const Bytes to_guest = Pattern(size, seed + 1);
    const Bytes to_host = Pattern(size, seed + 2);
    Bytes received;
    std::thread host([&] {
      HostSocket socket(SOCK_STREAM);
      ASSERT_TRUE(socket.Connect(kLoopback, 4242));
      ASSERT_TRUE(socket.SendAll(to_guest));
      received = socket.ReceiveAll(size + 1);
    });
    GuestTcp connection(*stack_, 104);
    EXPECT_TRUE(connection.Accept());
    EXPECT_EQ(connection.Receive(size), to_guest);
    const auto checksums = offload.flags != 0 ? Checksums::kPseudoHeader : Checksums::kComplete;
    EXPECT_TRUE(connection.Send(to_host, segment_bytes, checksums, offload));
    EXPECT_TRUE(connection.Close());
    host.join();
    EXPECT_EQ(received, to_host);
  }

  const NetworkNamespace namespace_;
  std::function<void()> before_driver_ = [] {};
  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory();
  std::unique_ptr<NetDevice> device_;
  std::unique_ptr<GuestCard> card_;
  std::unique_ptr<GuestStack> stack_;
};

// RFC 2131: a DHCPDISCOVER.
Bytes Discover() {
  Bytes bootp = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
  bootp.resize(28);
  Put(bootp, kGuestMac);
  bootp.resize(236);
  Put(bootp, Bytes{99, 130, 83, 99, 53, 1, 1, 255});
  bootp.resize(300);
  return Udp4({0, 0, 0, 0}, {255, 255, 255, 255}, 68, 67, bootp);
}

TEST_F(UserNetworkTest, OffersTheGuestItsAddressByDhcp) {
  for (const char* address : {"10.0.2.15", "10.0.2.77"}) {
    card_.reset();
    device_.reset();
    Start({.guest_address = address});
    stack_->SendIp(Discover());
    const auto offer = stack_->AwaitUdp();
    ASSERT_TRUE(offer.has_value());
    ASSERT_GE(offer->data.size(), 240u);
    const sockaddr_in wanted = AddressOf(address, 0);
    EXPECT_EQ(std::memcmp(&offer->data[16], &wanted.sin_addr, 4), 0);
  }
}

TEST_F(UserNetworkTest, AnswersPings) {
  Start({});
  EXPECT_EQ(stack_->Ping(kGateway, Pattern(56, 1)), Pattern(56, 1));
}

TEST_F(UserNetworkTest, OffersWhatItCarriesOnly) {
  Start({});
  const uint64_t offered = device_->device_features();
  EXPECT_EQ(offered & kOffloaded, kOffloaded);
  EXPECT_EQ(offered & (kNetFeatureHostTso6 | kNetFeatureGuestTso4 | kNetFeatureGuestTso6), 0u);
}

TEST_F(UserNetworkTest, LetsTheGuestReachTheHostByTheGateway) {
  for (const uint64_t features : {kPlain, kOffloaded}) {
    card_.reset();
    device_.reset();
    Start({}, features);
    HostSocket socket(SOCK_DGRAM);
    ASSERT_TRUE(socket.Bind(kLoopback, 5000));
    for (const size_t size : {1ul, 2ul, 999ul, 1472ul}) {
      const bool offload = features == kOffloaded;
      const VirtioNetHeader header = {.flags = offload ? kNetHeaderNeedsChecksum : uint8_t{0},
                                      .checksum_start = 34,
                                      .checksum_offset = 6};
      stack_->SendIp(Udp4(kGuestIp, kGateway, 6000, 5000, Pattern(size, 3),
                          offload ? Checksums::kPseudoHeader : Checksums::kComplete),
                     header);
      sockaddr_in from{};
      ASSERT_EQ(socket.ReceiveDatagram(&from), Pattern(size, 3));
      // Nobody promises that a datagram arrives.
      auto datagram = decltype(stack_->AwaitUdp())();
      for (int attempt = 0; attempt < 3 && !datagram.has_value(); ++attempt) {
        ASSERT_TRUE(socket.SendTo(from, Pattern(size, 4)));
        datagram = stack_->AwaitUdp();
      }
      ASSERT_TRUE(datagram.has_value());
      EXPECT_EQ(datagram->data, Pattern(size, 4));
    }
  }
}

TEST_F(UserNetworkTest, ForwardsTcp) {
  Start({.forwards = {kDicom}});
  Exchange(300'000, 1460, {});
}

// What is lost on its way to a guest without a driver, libslirp sends again after 6 seconds.
TEST_F(UserNetworkTest, AConnectionMadeBeforeTheGuestHasADriverWaitsForIt) {
  HostSocket socket(SOCK_STREAM);
  before_driver_ = [&] { ASSERT_TRUE(socket.Connect(kLoopback, 4242)); };
  Start({.forwards = {kDicom}});
  GuestTcp connection(*stack_, 104);
  EXPECT_TRUE(connection.Accept());
  EXPECT_EQ(device_->counters().receive_drops, 0u);
}

TEST_F(UserNetworkTest, ForwardsTcpWithChecksumsLeftToTheDevice) {
  Start({.forwards = {kDicom}}, kOffloaded);
  Exchange(300'000, 1460, TcpOffload(0));
}

TEST_F(UserNetworkTest, TakesSegmentsOfEverySizeAsTheyAre) {
  Start({.forwards = {kDicom}}, kOffloaded);
  for (const size_t segment : {1461ul, 9000ul, 32768ul, 65535ul - 40}) {
    Exchange(1'000'000, segment, TcpOffload(1460));
  }
}

TEST_F(UserNetworkTest, ForwardsManyConnectionsOneAfterTheOther) {
  Start({.forwards = {kDicom}}, kOffloaded);
  for (uint32_t i = 0; i < 40; ++i) {
    Exchange(1000 + i, 1460, TcpOffload(0), i);
  }
}

TEST_F(UserNetworkTest, ForwardsUdp) {
  Start({.forwards = {
             {.protocol = HostForward::Protocol::kUdp, .host_port = 7000, .guest_port = 7001}}});
  HostSocket socket(SOCK_DGRAM);
  ASSERT_TRUE(socket.Connect(kLoopback, 7000));
  ASSERT_TRUE(socket.SendAll(Pattern(700, 1)));
  const auto datagram = stack_->AwaitUdp();
  ASSERT_TRUE(datagram.has_value());
  EXPECT_EQ(datagram->to_port, 7001);
  EXPECT_EQ(datagram->data, Pattern(700, 1));
  stack_->SendIp(Udp4(kGuestIp, datagram->from, 7001, datagram->from_port, Pattern(300, 2)));
  EXPECT_EQ(socket.ReceiveDatagram(), Pattern(300, 2));
}

TEST_F(UserNetworkTest, IsolatedAnswersForwardsOnly) {
  Start({.forwards = {kDicom}, .isolated = true});
  HostSocket socket(SOCK_DGRAM);
  ASSERT_TRUE(socket.Bind(kLoopback, 5000));
  stack_->SendIp(Udp4(kGuestIp, kGateway, 6000, 5000, Pattern(10, 3)));
  Exchange(50'000, 1460, {});
  // By now the datagram would be here.
  Bytes data(10);
  EXPECT_LT(::recv(socket.fd(), data.data(), data.size(), MSG_DONTWAIT), 0);
}

// The guest has room for a few frames only: what does not fit waits, nothing is lost.
TEST_F(UserNetworkTest, WaitsForAGuestThatIsSlow) {
  Start({.forwards = {kDicom}}, kOffloaded, 3);
  Exchange(500'000, 1460, {});
}

TEST_F(UserNetworkTest, CarriesTcpThroughPauses) {
  Start({.forwards = {kDicom}}, kOffloaded);
  std::atomic<bool> stop = false;
  std::thread pauser([&] {
    while (!stop) {
      device_->Pause();
      StateNode node;
      device_->Save(node);
      device_->Resume();
      std::this_thread::yield();
    }
  });
  Exchange(2'000'000, 30'000, TcpOffload(1460));
  stop = true;
  pauser.join();
}

TEST_F(UserNetworkTest, AnotherDriverTakesOverAfterReset) {
  Start({.forwards = {kDicom}}, kOffloaded);
  for (int i = 0; i < 5; ++i) {
    Exchange(20'000, 1460, {});
    ASSERT_TRUE(card_->harness().Reset());
    card_->Activate();
    ASSERT_TRUE(stack_->Resolve(kGateway).has_value());
  }
}

TEST_F(UserNetworkTest, SurvivesFramesOfEveryKind) {
  Start({}, kOffloaded);
  for (uint32_t seed = 0; seed < 300; ++seed) {
    Bytes frame = EthernetFrame(kBroadcastMac, kGuestMac, kEtherIp4,
                                Tcp4(kGuestIp, kGateway, {.from_port = 9, .to_port = 9}, {}));
    const Bytes noise = Pattern(8, seed);
    for (size_t i = 0; i + 1 < noise.size(); i += 2) {
      frame[noise[i] % frame.size()] = noise[i + 1];
    }
    ASSERT_TRUE(card_->Send(seed % 3 == 0 ? TcpOffload(1000) : VirtioNetHeader{}, frame));
    Bytes random = Pattern(14 + seed * 5, seed);
    Set16(random, 12, seed % 2 == 0 ? kEtherIp4 : kEtherArp);
    ASSERT_TRUE(card_->Send(random));
  }
  ASSERT_TRUE(stack_->Resolve(kGateway).has_value());
}

TEST_F(UserNetworkTest, NamesAPortInUse) {
  HostSocket holder(SOCK_STREAM);
  ASSERT_TRUE(holder.Bind(kLoopback, 4242));
  ASSERT_EQ(::listen(holder.fd(), 1), 0);
  const auto backend = UserBackend::Create({.forwards = {kDicom}});
  ASSERT_FALSE(backend.ok());
  EXPECT_EQ(backend.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(backend.error().message(), HasSubstr("TCP port 4242 of 127.0.0.1"));
  EXPECT_THAT(backend.error().message(), HasSubstr("another program"));
}

TEST_F(UserNetworkTest, FreesItsPortsAtItsEnd) {
  for (int i = 0; i < 3; ++i) {
    const auto backend = UserBackend::Create({.forwards = {kDicom}});
    EXPECT_TRUE(backend.ok()) << backend.error().message();
  }
}

TEST_F(UserNetworkTest, RefusesForwardsThatCannotBe) {
  const auto code = [](HostForward forward) {
    const auto backend = UserBackend::Create({.forwards = {std::move(forward)}});
    return backend.ok() ? std::nullopt : std::optional(backend.error().code());
  };
  EXPECT_EQ(code({.host_address = "localhost", .host_port = 1, .guest_port = 1}),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.host_address = "", .host_port = 1, .guest_port = 1}),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.host_port = 0, .guest_port = 1}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.host_port = 1, .guest_port = 0}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.host_address = "203.0.113.1", .host_port = 9999, .guest_port = 1}),
            ErrorCode::kInvalidArgument);
}

TEST_F(UserNetworkTest, RefusesGuestAddressesOutsideItsNetwork) {
  for (const char* address :
       {"10.0.2.0", "10.0.2.2", "10.0.2.3", "10.0.2.255", "10.0.3.15", "192.168.1.1", "guest"}) {
    EXPECT_FALSE(UserBackend::Create({.guest_address = address}).ok()) << address;
  }
}

}  // namespace
}  // namespace pacsvisor::net_test
