// The network: who has 10.0.2.2 (ARP, RFC 826), and an address by DHCP (RFC 2131), which is UDP
// both ways. The user network answers both by itself.
#include "devices/net/virtio_net_abi.h"
#include "guests/hostile/serve.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint64_t kPatience = 20 * kCyclesPerSecond;
constexpr uint32_t kHeaderBytes = sizeof(VirtioNetHeader);
constexpr uint32_t kBufferBytes = 2048;
constexpr uint16_t kBuffers = 16;
constexpr uint64_t kEthernetBytes = 14;
constexpr uint16_t kEtherTypeIp4 = 0x0800;
constexpr uint16_t kEtherTypeArp = 0x0806;
constexpr uint8_t kOwnAddress[6] = {0x52, 0x54, 0x00, 0x00, 0x00, 0x66};

// Bytes one behind the other, as they go over the wire.
class Packet {
 public:
  explicit Packet(uint64_t at) : at_(at) {}
  uint64_t size() const { return size_; }
  Packet& Byte(uint64_t value) {
    *AtAddress<volatile uint8_t>(at_ + size_++) = static_cast<uint8_t>(value);
    return *this;
  }
  Packet& Word(uint64_t value) { return Byte(value >> 8).Byte(value); }
  Packet& Long(uint64_t value) { return Word(value >> 16).Word(value); }
  Packet& Fill(uint64_t value, unsigned count) {
    for (unsigned i = 0; i < count; ++i) Byte(value);
    return *this;
  }
  Packet& Own() {
    for (const uint8_t byte : kOwnAddress) Byte(byte);
    return *this;
  }

 private:
  uint64_t at_;
  uint64_t size_ = 0;
};

uint16_t WordAt(uint64_t address) {
  return static_cast<uint16_t>(Read8(address) << 8 | Read8(address + 1));
}

uint32_t BuildArp(uint64_t at) {
  Packet packet(at);
  packet.Fill(0xff, 6).Own().Word(kEtherTypeArp);
  packet.Word(1).Word(kEtherTypeIp4).Byte(6).Byte(4).Word(1);
  packet.Own().Long(0x0a00020f).Fill(0, 6).Long(0x0a000202);
  return static_cast<uint32_t>(packet.size());
}

bool IsArpAnswer(uint64_t frame) {
  return WordAt(frame + 12) == kEtherTypeArp && WordAt(frame + kEthernetBytes + 6) == 2 &&
         WordAt(frame + kEthernetBytes + 14) == 0x0a00 &&
         WordAt(frame + kEthernetBytes + 16) == 0x0202;
}

// RFC 1071, over the header of 20 bytes.
uint16_t HeaderChecksum(uint64_t header) {
  uint32_t sum = 0;
  for (unsigned i = 0; i < 20; i += 2) sum += WordAt(header + i);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~((sum & 0xffff) + (sum >> 16)));
}

uint32_t BuildDiscover(uint64_t at, uint32_t transaction) {
  constexpr unsigned kBootpBytes = 240 + 4;
  Packet packet(at);
  packet.Fill(0xff, 6).Own().Word(kEtherTypeIp4);
  packet.Word(0x4500).Word(20 + 8 + kBootpBytes).Word(1).Word(0).Byte(64).Byte(17).Word(0);
  packet.Long(0).Long(0xffff'ffff);
  packet.Word(68).Word(67).Word(8 + kBootpBytes).Word(0);  // no checksum, which UDP allows
  packet.Byte(1).Byte(1).Byte(6).Byte(0).Long(transaction).Long(0x0000'8000);
  packet.Fill(0, 16).Own().Fill(0, 10 + 64 + 128);
  packet.Long(0x6382'5363).Byte(53).Byte(1).Byte(1).Byte(255);
  const uint16_t checksum = HeaderChecksum(at + kEthernetBytes);
  Write8(at + kEthernetBytes + 10, static_cast<uint8_t>(checksum >> 8));
  Write8(at + kEthernetBytes + 11, static_cast<uint8_t>(checksum));
  return static_cast<uint32_t>(packet.size());
}

bool IsOffer(uint64_t frame, uint32_t transaction) {
  const uint64_t udp = frame + kEthernetBytes + 20;
  const uint64_t bootp = udp + 8;
  return WordAt(frame + 12) == kEtherTypeIp4 && Read8(frame + kEthernetBytes + 9) == 17 &&
         WordAt(udp + 2) == 68 && Read8(bootp) == 2 && WordAt(bootp + 4) == transaction >> 16 &&
         WordAt(bootp + 6) == (transaction & 0xffff);
}

class Card {
 public:
  Card(Battle& battle, const Driver& driver)
      : battle_(battle),
        driver_(driver),
        receive_(battle.arena, kBuffers),
        transmit_(battle.arena, 4) {
    driver_.Enable(kNetReceiveQueue, receive_.layout());
    driver_.Enable(kNetTransmitQueue, transmit_.layout());
    driver_.DriverOk();
    buffers_ = battle.Buffer(uint64_t{kBuffers} * kBufferBytes);
    for (uint16_t i = 0; i < kBuffers; ++i) {
      receive_.Describe(i, {buffers_ + uint64_t{i} * kBufferBytes, kBufferBytes, kWritable, 0});
      receive_.Offer(i);
    }
    driver_.Notify(kNetReceiveQueue);
  }

  // Where a frame to send is written.
  uint64_t NewFrame() {
    frame_ = battle_.Buffer(kBufferBytes);
    return frame_ + kHeaderBytes;
  }
  bool Send(uint32_t bytes) {
    transmit_.Describe(0, {frame_, kHeaderBytes + bytes, kReadable, 0});
    const auto expected = static_cast<uint16_t>(transmit_.available_index() + 1);
    transmit_.Offer(0);
    driver_.Notify(kNetTransmitQueue);
    return transmit_.WaitUsed(expected, kPatience);
  }
  // A frame came of which `is_it` holds.
  template <typename Predicate>
  bool Receive(Predicate is_it) {
    while (receive_.WaitUsed(static_cast<uint16_t>(seen_ + 1), kPatience)) {
      const VirtqUsedElement used = receive_.Used(seen_++);
      const bool found = is_it(buffers_ + used.head * uint64_t{kBufferBytes} + kHeaderBytes);
      receive_.Offer(static_cast<uint16_t>(used.head));
      driver_.Notify(kNetReceiveQueue);
      if (found) return true;
    }
    return false;
  }

 private:
  Battle& battle_;
  const Driver& driver_;
  Ring receive_;
  Ring transmit_;
  uint64_t buffers_ = 0;
  uint64_t frame_ = 0;
  uint16_t seen_ = 0;
};

}  // namespace

std::string_view ServeNet(Battle& battle) {
  battle.arena.Clear();
  const Function* function = battle.functions.Find(Type::kNet);
  if (function == nullptr) return {};
  const Driver driver(*function);
  if (!driver.Reset(kPatience)) return "the card's reset does not end";
  if (!driver.Negotiate(0)) return "the card refuses features";
  Card card(battle, driver);
  if (!card.Send(BuildArp(card.NewFrame()))) return "no frame is sent";
  if (!card.Receive(IsArpAnswer)) return "nobody answers ARP";
  const uint32_t transaction = battle.random.Next32();
  if (!card.Send(BuildDiscover(card.NewFrame(), transaction))) return "no datagram is sent";
  if (!card.Receive([=](uint64_t frame) { return IsOffer(frame, transaction); })) {
    return "nobody answers DHCP";
  }
  return {};
}

}  // namespace pacsvisor::hostile
