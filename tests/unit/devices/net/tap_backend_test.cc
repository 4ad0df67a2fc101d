// The TAP back end against the host's kernel: its interface, ARP, ICMP, UDP and TCP, in a network
// namespace of the test's own.
#include "devices/net/tap_backend.h"

#include <gmock/gmock.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include <thread>

#include "tests/unit/devices/net/guest_stack.h"
#include "tests/unit/devices/net/host_sockets.h"
#include "tests/unit/devices/net/network_namespace.h"

namespace pacsvisor::net_test {
namespace {

using testing::HasSubstr;

constexpr const char* kInterface = "pvtest0";
constexpr const char* kHostAddress = "192.168.77.1";
constexpr const char* kGuestAddress = "192.168.77.2";
constexpr Ip4 kHostIp = {192, 168, 77, 1};
constexpr Ip4 kTapGuestIp = {192, 168, 77, 2};
constexpr uint64_t kTapPlain = kNetFeatureMac | kNetFeatureStatus | kNetFeatureMergeBuffers;
constexpr uint64_t kTapOffloaded = kTapPlain | kNetFeatureChecksum | kNetFeatureHostTso4 |
                                   kNetFeatureGuestChecksum | kNetFeatureGuestTso4;

bool SetAddress(const char* interface, const char* address) {
  const HostSocket socket(SOCK_DGRAM);
  ifreq request{};
  std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  const auto set = [&](unsigned long what, const char* value) {
    const sockaddr_in to = AddressOf(value, 0);
    std::memcpy(&request.ifr_addr, &to, sizeof(to));
    return ::ioctl(socket.fd(), what, &request) == 0;
  };
  return set(SIOCSIFADDR, address) && set(SIOCSIFNETMASK, "255.255.255.0") &&
         NetworkNamespace::SetUp(interface);
}

// As `ip tuntap add` does.
bool MakePersistentInterface(const char* interface) {
  const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  ifreq request{};
  std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  return ::ioctl(tun.get(), TUNSETIFF, &request) == 0 && ::ioctl(tun.get(), TUNSETPERSIST, 1) == 0;
}

bool DeleteInterface(const char* interface) {
  const UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  struct {
    nlmsghdr header;
    ifinfomsg info;
  } request{};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = RTM_DELLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.info.ifi_index = static_cast<int>(::if_nametoindex(interface));
  struct {
    nlmsghdr header;
    nlmsgerr error;
  } answer{};
  return ::send(socket.get(), &request, sizeof(request), 0) == sizeof(request) &&
         ::recv(socket.get(), &answer, sizeof(answer), 0) > 0 && answer.error.error == 0;
}

class TapTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!namespace_.why_not().empty()) {
      GTEST_SKIP() << "SKIPPED: " << namespace_.why_not();
    }
    if (const auto tap = TapInterface::Open("pvprobe"); !tap.ok()) {
      GTEST_SKIP() << "SKIPPED: " << tap.error().message();
    }
  }

  const NetworkNamespace namespace_;
};

TEST_F(TapTest, OpensANewInterfaceWithTheKernelsOffloads) {
  const auto tap = TapInterface::Open(kInterface);
  ASSERT_TRUE(tap.ok()) << tap.error().message();
  EXPECT_NE(::if_nametoindex(kInterface), 0u);
  EXPECT_TRUE(tap->offloads().checksum);
  EXPECT_TRUE(tap->offloads().tcp4_segments);
  int size_bytes = 0;
  ASSERT_EQ(::ioctl(tap->fd(), TUNGETVNETHDRSZ, &size_bytes), 0);
  EXPECT_EQ(size_bytes, 12);
}

TEST_F(TapTest, TakesAnInterfaceItMadeAwayWithIt) {
  { ASSERT_TRUE(TapInterface::Open(kInterface).ok()); }
  EXPECT_EQ(::if_nametoindex(kInterface), 0u);
}

TEST_F(TapTest, AttachesToAnInterfaceThatIsThere) {
  {
    const auto made = TapInterface::Open(kInterface);
    ASSERT_EQ(::ioctl(made->fd(), TUNSETPERSIST, 1), 0);
  }
  const unsigned index = ::if_nametoindex(kInterface);
  ASSERT_NE(index, 0u);
  const auto tap = TapInterface::Open(kInterface);
  ASSERT_TRUE(tap.ok());
  EXPECT_EQ(::if_nametoindex(kInterface), index);
}

TEST_F(TapTest, RefusesNamesThatCannotBe) {
  for (const char* name : {"", ".", "..", "tap%d", "a/b", "a b", "a:b", "0123456789abcdef"}) {
    const auto tap = TapInterface::Open(name);
    ASSERT_FALSE(tap.ok()) << name;
    EXPECT_EQ(tap.error().code(), ErrorCode::kInvalidArgument) << name;
  }
}

TEST_F(TapTest, SaysThatAnInterfaceIsInUse) {
  const auto first = TapInterface::Open(kInterface);
  const auto second = TapInterface::Open(kInterface);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_THAT(second.error().message(), HasSubstr(kInterface));
  EXPECT_THAT(second.error().message(), HasSubstr("another process"));
}

TEST_F(TapTest, SaysThatAnInterfaceIsNoTap) {
  const auto tap = TapInterface::Open("lo");
  ASSERT_FALSE(tap.ok());
  EXPECT_EQ(tap.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(tap.error().message(), HasSubstr("no TAP interface"));
}

TEST_F(TapTest, SaysThatRightsAreMissing) {
  std::thread([] {
    // The system call itself changes this thread only.
    if (::syscall(SYS_setresuid, 65534, 65534, 65534) != 0) {
      GTEST_SKIP() << "SKIPPED: cannot become another user";
    }
    const auto tap = TapInterface::Open(kInterface);
    ASSERT_FALSE(tap.ok());
    EXPECT_EQ(tap.error().code(), ErrorCode::kPermissionDenied);
    EXPECT_THAT(tap.error().message(), HasSubstr("backend = \"user\""));
  }).join();
}

TEST_F(TapTest, SaysThatThereIsNoTunDriver) {
  std::thread([] {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, "") != 0 ||
        ::mount("none", "/dev/net", "tmpfs", 0, "") != 0) {
      GTEST_SKIP() << "SKIPPED: cannot hide /dev/net: " << std::strerror(errno);
    }
    const auto tap = TapInterface::Open(kInterface);
    ASSERT_FALSE(tap.ok());
    EXPECT_EQ(tap.error().code(), ErrorCode::kNotFound);
    EXPECT_THAT(tap.error().message(), HasSubstr("modprobe tun"));
  }).join();
}

class TapNetwork : public TapTest {
 protected:
  void Start(uint64_t features, uint16_t receive_buffers = 60) {
    auto backend = TapBackend::Create(kInterface);
    ASSERT_TRUE(backend.ok()) << backend.error().message();
    ASSERT_TRUE(SetAddress(kInterface, kHostAddress));
    device_ = NetDevice::Create({.name = "net0", .mac = kGuestMac}, *std::move(backend)).value();
    ASSERT_EQ(features & ~device_->device_features(), 0u);
    card_ = std::make_unique<GuestCard>(
        *device_, *memory_,
        GuestCard::Options{.features = features, .receive_buffers = receive_buffers});
    stack_ = std::make_unique<GuestStack>(*card_, kGuestMac, kTapGuestIp);
    ASSERT_TRUE(stack_->Resolve(kHostIp).has_value());
  }

  // The host connects, both sides send `size` bytes; both are what was sent.
  void Exchange(size_t size, size_t segment_bytes, const VirtioNetHeader& offload) {
    const Bytes to_guest = Pattern(size, 1);
    const Bytes to_host = Pattern(size, 2);
    Bytes received;
    std::thread host([&] {
      HostSocket socket(SOCK_STREAM);
      ASSERT_TRUE(socket.Connect(kGuestAddress, 4242));
      ASSERT_TRUE(socket.SendAll(to_guest));
      received = socket.ReceiveAll(size + 1);  // to the end of the stream
    });
    GuestTcp connection(*stack_, 4242);
    EXPECT_TRUE(connection.Accept());
    EXPECT_EQ(connection.Receive(size), to_guest);
    const auto checksums = offload.flags != 0 ? Checksums::kPseudoHeader : Checksums::kComplete;
    EXPECT_TRUE(connection.Send(to_host, segment_bytes, checksums, offload));
    EXPECT_TRUE(connection.Close());
    host.join();
    EXPECT_EQ(received, to_host);
  }

  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory();
  std::unique_ptr<NetDevice> device_;
  std::unique_ptr<GuestCard> card_;
  std::unique_ptr<GuestStack> stack_;
};

TEST_F(TapNetwork, AnswersPings) {
  Start(kTapPlain);
  for (const size_t size : {0ul, 56ul, 1400ul}) {
    EXPECT_EQ(stack_->Ping(kHostIp, Pattern(size, 1)), Pattern(size, 1));
  }
}

TEST_F(TapNetwork, ExchangesDatagrams) {
  for (const uint64_t features : {kTapPlain, kTapOffloaded}) {
    HostSocket socket(SOCK_DGRAM);
    card_.reset();
    device_.reset();
    Start(features);
    ASSERT_TRUE(socket.Bind(kHostAddress, 5000));
    for (const size_t size : {1ul, 2ul, 999ul, 1472ul}) {
      stack_->SendIp(Udp4(kTapGuestIp, kHostIp, 6000, 5000, Pattern(size, 3)));
      sockaddr_in from{};
      ASSERT_EQ(socket.ReceiveDatagram(&from), Pattern(size, 3));
      ASSERT_TRUE(socket.SendTo(from, Pattern(size, 4)));
      const auto datagram = stack_->AwaitUdp();
      ASSERT_TRUE(datagram.has_value());
      EXPECT_EQ(datagram->data, Pattern(size, 4));
      EXPECT_EQ(datagram->to_port, 6000);
    }
  }
}

TEST_F(TapNetwork, CarriesTcpWithoutOffloadsInOrdinaryFrames) {
  Start(kTapPlain);
  Exchange(500'000, 1460, {});
  EXPECT_LE(stack_->largest_frame_received(), 1514u);
}

TEST_F(TapNetwork, CarriesTcpInLargeSegmentsBothWays) {
  Start(kTapOffloaded);
  Exchange(2'000'000, 60'000, TcpOffload(1460));
  EXPECT_GT(stack_->largest_frame_received(), 1514u);
}

// The same device under a second driver, which takes no large segments.
TEST_F(TapNetwork, FollowsTheFeaturesOfEachActivation) {
  Start(kTapOffloaded);
  Exchange(200'000, 20'000, TcpOffload(1460));
  ASSERT_GT(stack_->largest_frame_received(), 1514u);
  ASSERT_TRUE(card_->harness().Reset());
  card_->set_features(kTapPlain);
  card_->Activate();
  stack_ = std::make_unique<GuestStack>(*card_, kGuestMac, kTapGuestIp);
  ASSERT_TRUE(stack_->Resolve(kHostIp).has_value());
  Exchange(200'000, 1460, {});
  EXPECT_LE(stack_->largest_frame_received(), 1514u);
}

TEST_F(TapNetwork, CarriesTcpThroughPauses) {
  Start(kTapOffloaded);
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
  Exchange(1'000'000, 20'000, TcpOffload(1460));
  stop = true;
  pauser.join();
}

TEST_F(TapNetwork, DropsHeadersThatTheKernelRefusesAndGoesOn) {
  Start(kTapOffloaded);
  // Passes the device's checks; the kernel finds that it is no TCP.
  ASSERT_TRUE(card_->Send(TcpOffload(1), EthernetFrame(kGuestMac, kGuestMac, 0x88b5, Bytes(50))));
  EXPECT_EQ(stack_->Ping(kHostIp, Pattern(8, 1)), Pattern(8, 1));
}

TEST_F(TapNetwork, TakesTheLinkDownWhenTheInterfaceDisappears) {
  Start(kTapPlain);
  EXPECT_TRUE(device_->link_up());
  const FakeVirtioTransport& transport = card_->harness().transport();
  const uint64_t seen = transport.config_interrupts();
  ASSERT_TRUE(DeleteInterface(kInterface));
  ASSERT_TRUE(transport.WaitForConfigInterrupt(seen));
  EXPECT_FALSE(device_->link_up());
  // The machine goes on: what is sent is dropped, a reset works.
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(card_->Send(EthernetFrame(kGuestMac, kGuestMac, 0x88b5, Bytes(50))));
  }
  EXPECT_TRUE(card_->harness().Reset());
  card_->Activate();
  EXPECT_TRUE(card_->Send(EthernetFrame(kGuestMac, kGuestMac, 0x88b5, Bytes(50))));
}

// As when the guest resets itself: a new device over the descriptor that the last one had.
TEST_F(TapNetwork, ANewDeviceOverALostInterfaceStartsWithItsLinkDownOrAttachesAgain) {
  const auto tap = std::make_shared<const TapInterface>(TapInterface::Open(kInterface).value());
  const auto restart = [&] {
    card_.reset();
    device_ =
        NetDevice::Create({.name = "net0", .mac = kGuestMac}, std::make_unique<TapBackend>(tap))
            .value();
    card_ = std::make_unique<GuestCard>(
        *device_, *memory_, GuestCard::Options{.features = kTapPlain, .receive_buffers = 60});
  };
  restart();
  EXPECT_TRUE(device_->link_up());
  ASSERT_TRUE(DeleteInterface(kInterface));
  restart();
  EXPECT_FALSE(device_->link_up());
  EXPECT_TRUE(card_->Send(EthernetFrame(kGuestMac, kGuestMac, 0x88b5, Bytes(50))));
  EXPECT_EQ(tap->Reattach().error().code(), ErrorCode::kNotFound) << "none is made";
  ASSERT_TRUE(MakePersistentInterface(kInterface));
  restart();
  EXPECT_TRUE(device_->link_up());
  // Up now, with its carrier: one that is up before is activated by the kernel some time later.
  ASSERT_TRUE(SetAddress(kInterface, kHostAddress));
  stack_ = std::make_unique<GuestStack>(*card_, kGuestMac, kTapGuestIp);
  ASSERT_TRUE(stack_->Resolve(kHostIp).has_value());
  EXPECT_EQ(stack_->Ping(kHostIp, Pattern(100, 1)), Pattern(100, 1));
}

TEST_F(TapNetwork, DropsWhileTheInterfaceIsDown) {
  auto backend = TapBackend::Create(kInterface);
  ASSERT_TRUE(backend.ok());
  device_ = NetDevice::Create({.name = "net0", .mac = kGuestMac}, *std::move(backend)).value();
  card_ =
      std::make_unique<GuestCard>(*device_, *memory_, GuestCard::Options{.features = kTapPlain});
  EXPECT_TRUE(card_->Send(EthernetFrame(kGuestMac, kGuestMac, 0x88b5, Bytes(50))));
  EXPECT_EQ(device_->counters().send_drops, 1u);
  EXPECT_TRUE(device_->link_up());
}

// The guest has room for four frames only: the others wait in the kernel's queue.
TEST_F(TapNetwork, WaitsForAGuestThatIsSlow) {
  Start(kTapPlain, 4);
  Exchange(300'000, 1460, {});
}

}  // namespace
}  // namespace pacsvisor::net_test
