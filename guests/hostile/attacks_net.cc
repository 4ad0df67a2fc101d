// Frames, buffers and commands that a virtio-net device must refuse (virtio 1.2, 5.1.6).
#include "devices/net/virtio_net_abi.h"
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint32_t kHeaderBytes = sizeof(VirtioNetHeader);

class NetVictim {
 public:
  NetVictim(Battle& battle, uint64_t features)
      : battle_(battle), victim_(battle, *battle.functions.Find(Type::kNet), features) {}

  bool ready() const { return victim_.ready; }
  Victim& victim() { return victim_; }

  // A frame of zeroes behind this header; waits until the device has given it back.
  void Send(const VirtioNetHeader& header, uint32_t frame_bytes) {
    const uint64_t buffer = battle_.Buffer(kHeaderBytes + frame_bytes + 1);
    *AtAddress<VirtioNetHeader>(buffer) = header;
    victim_.ring.Describe(0, {buffer, kHeaderBytes + frame_bytes, kReadable, 0});
    const auto expected = static_cast<uint16_t>(victim_.ring.available_index() + 1);
    victim_.Offer(0);
    if (victim_.ring.WaitUsed(expected, battle_.patience_cycles())) ++battle_.arrived;
  }

 private:
  Battle& battle_;
  Victim victim_;
};

void Offloads(Battle& battle) {
  NetVictim net(battle, kNetFeatureChecksum);
  if (!net.ready()) return;
  // Segmentation that was not negotiated, that does not exist, without a size; checksums outside
  // the frame.
  net.Send({.flags = kNetHeaderNeedsChecksum, .gso_type = kNetGsoTcp4, .segment_bytes = 1000}, 100);
  net.Send({.flags = kNetHeaderNeedsChecksum, .gso_type = 0x7f, .segment_bytes = 1}, 100);
  net.Send({.flags = 0xff, .gso_type = 0xff, .segment_bytes = 0xffff}, 100);
  net.Send({.gso_type = kNetGsoTcp4}, 100);
  net.Send({.flags = kNetHeaderNeedsChecksum, .checksum_start = 0xffff, .checksum_offset = 0xffff},
           100);
  net.Send({.flags = kNetHeaderNeedsChecksum, .checksum_start = 99}, 100);
}

void FrameSizes(Battle& battle) {
  NetVictim net(battle, 0);
  if (!net.ready()) return;
  for (const uint32_t bytes : {0u, 1u, 13u, 70'000u, 200'000u}) net.Send({}, bytes);
}

void TransmitDirection(Battle& battle) {
  NetVictim net(battle, 0);
  if (!net.ready()) return;
  net.victim().ring.Describe(0, {battle.Buffer(100), 100, kWritable, 0});
  net.victim().Offer(0);
  battle.AwaitNeedsReset(net.victim().driver);
}

void TransmitTooShort(Battle& battle) {
  for (const uint32_t bytes : {0u, 1u, kHeaderBytes - 1}) {
    battle.arena.Clear();
    NetVictim net(battle, 0);
    if (!net.ready()) return;
    net.victim().ring.Describe(0, {battle.Buffer(100), bytes, kReadable, 0});
    net.victim().Offer(0);
    battle.AwaitNeedsReset(net.victim().driver);
  }
}

// A broadcast that the gateway answers: ARP (RFC 826) for 10.0.2.2.
constexpr uint8_t kQuestion[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0x00, 0x00, 0x00,
                                 0x66, 0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
                                 0x52, 0x54, 0x00, 0x00, 0x00, 0x66, 10,   0,    2,    15,   0,
                                 0,    0,    0,    0,    0,    10,   0,    2,    2};

// Receive buffers of which the device has none to write to, met by a frame.
void ReceiveBuffer(Battle& battle, uint32_t bytes, uint16_t flags) {
  battle.arena.Clear();
  const Driver driver(*battle.functions.Find(Type::kNet));
  if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(0)) return;
  Ring receive(battle.arena, Victim::kRingSize);
  Ring transmit(battle.arena, Victim::kRingSize);
  driver.Enable(kNetReceiveQueue, receive.layout());
  driver.Enable(kNetTransmitQueue, transmit.layout());
  driver.DriverOk();
  receive.Describe(0, {battle.Buffer(2048), bytes, flags, 0});
  receive.Offer(0);
  driver.Notify(kNetReceiveQueue);
  const uint64_t frame = battle.Buffer(kHeaderBytes + sizeof(kQuestion));
  for (unsigned i = 0; i < sizeof(kQuestion); ++i) {
    *AtAddress<volatile uint8_t>(frame + kHeaderBytes + i) = kQuestion[i];
  }
  transmit.Describe(0, {frame, kHeaderBytes + sizeof(kQuestion), kReadable, 0});
  transmit.Offer(0);
  driver.Notify(kNetTransmitQueue);
  battle.AwaitNeedsReset(driver);
}

void ReceiveDirection(Battle& battle) { ReceiveBuffer(battle, 2048, kReadable); }

void ReceiveTooShort(Battle& battle) {
  for (const uint32_t bytes : {0u, 1u, kHeaderBytes - 1}) ReceiveBuffer(battle, bytes, kWritable);
}

// A device with its control queue only.
class NetControl {
 public:
  explicit NetControl(Battle& battle)
      : battle_(battle),
        driver(*battle.functions.Find(Type::kNet)),
        ring(battle.arena, Victim::kRingSize) {
    constexpr uint64_t kWanted = kNetFeatureControlQueue | kNetFeatureControlRx |
                                 kNetFeatureControlMac | kNetFeatureControlRxExtra;
    if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(kWanted)) return;
    driver.Enable(kNetControlQueue, ring.layout());
    driver.DriverOk();
    ready = true;
  }

  // `bytes` at `command`; the acknowledgement.
  uint8_t Ask(uint64_t command, uint32_t bytes) {
    const uint64_t answer = battle_.Buffer(1);
    *AtAddress<volatile uint8_t>(answer) = 0xee;
    ring.Describe(0, {command, bytes, kNext, 1});
    ring.Describe(1, {answer, 1, kWritable, 0});
    const auto expected = static_cast<uint16_t>(ring.available_index() + 1);
    ring.Offer(0);
    driver.Notify(kNetControlQueue);
    ring.WaitUsed(expected, battle_.patience_cycles());
    return *AtAddress<volatile uint8_t>(answer);
  }

 private:
  Battle& battle_;

 public:
  Driver driver;
  Ring ring;
  bool ready = false;
};

void Control(Battle& battle) {
  NetControl control(battle);
  if (!control.ready) return;
  const uint64_t command = battle.Buffer(64 * 1024);
  // Unknown classes and commands, and known ones with data of every wrong length.
  for (unsigned i = 0; i < 64; ++i) {
    auto* bytes = AtAddress<volatile uint8_t>(command);
    bytes[0] = static_cast<uint8_t>(battle.random.Below(8));
    bytes[1] = static_cast<uint8_t>(battle.random.Below(8));
    for (unsigned k = 2; k < 64; ++k) bytes[k] = 0xff;
    const auto size = static_cast<uint32_t>(2 + battle.random.Below(40));
    if (control.Ask(command, i == 0 ? 64 * 1024 : size) == kNetControlError) ++battle.arrived;
  }
}

void ControlWithoutAnswer(Battle& battle) {
  NetControl control(battle);
  if (!control.ready) return;
  control.ring.Describe(0, {battle.Buffer(64), 3, kReadable, 0});
  control.ring.Offer(0);
  control.driver.Notify(kNetControlQueue);
  battle.AwaitNeedsReset(control.driver);
}

constexpr Attack kAttacks[] = {{"net_offloads", Offloads},
                               {"net_frame_sizes", FrameSizes},
                               {"net_transmit_direction", TransmitDirection},
                               {"net_transmit_too_short", TransmitTooShort},
                               {"net_receive_direction", ReceiveDirection},
                               {"net_receive_too_short", ReceiveTooShort},
                               {"net_control", Control},
                               {"net_control_without_answer", ControlWithoutAnswer}};

}  // namespace

std::span<const Attack> NetAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
