// Ports and addresses that nobody answers, and the platform's own devices.
#include "guests/freestanding/ring0.h"
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

struct PortRange {
  uint32_t first;
  uint32_t last;
};
// What would end the machine, or the conversation: reset by keyboard controller, the console, the
// power registers, PCI's latch with its reset register.
constexpr PortRange kSpared[] = {{0x60, 0x6f}, {0x3f8, 0x3ff}, {0x600, 0x607}, {0xcf8, 0xcff}};

bool IsSpared(uint32_t port) {
  for (const PortRange& range : kSpared) {
    if (port + 3 >= range.first && port <= range.last) return true;
  }
  return false;
}

void Ports(Battle& battle) {
  constexpr unsigned kAccesses = 2000;
  AllowPorts(0, 0xffff);
  for (unsigned i = 0; i < kAccesses; ++i) {
    const auto port = static_cast<uint16_t>(battle.random.Next() >> battle.random.Below(10));
    if (IsSpared(port) || port > 0xfff0) continue;
    switch (battle.random.Below(4)) {
      case 0:
        ReadPort8(port);
        break;
      case 1:
        WritePort8(port, static_cast<uint8_t>(battle.random.Next()));
        break;
      case 2:
        WritePort16(port, battle.random.Next16());
        break;
      default:
        WritePort32(port, battle.random.Next32());
        break;
    }
  }
}

// The real-time clock's registers, the reserved ones among them.
void Clock(Battle& battle) {
  constexpr uint16_t kIndexPort = 0x70;
  constexpr uint16_t kDataPort = 0x71;
  AllowPorts(kIndexPort, 2);
  for (unsigned i = 0; i < 1000; ++i) {
    WritePort8(kIndexPort, static_cast<uint8_t>(battle.random.Next()));
    if (battle.random.Below(2) == 0) {
      WritePort8(kDataPort, static_cast<uint8_t>(battle.random.Next()));
    } else {
      ReadPort8(kDataPort);
    }
  }
}

void DeviceSpace(Battle& battle) {
  // Round ECAM, where no BAR is placed by default.
  constexpr uint64_t kBegin = 0xd000'0000;
  constexpr uint64_t kBytes = 0x2000'0000;
  const unsigned accesses = battle.in_crowd ? 100 : 1000;
  for (unsigned i = 0; i < accesses; ++i) {
    const uint64_t address = kBegin + battle.random.Below(kBytes - 8);
    if (address >= kEcam - 8 && address < kEcam + kEcamBytes) continue;
    if (battle.random.Below(2) == 0) {
      Write64(address, battle.random.Next());
    } else if (Read64(address) == ~uint64_t{0}) {
      ++battle.arrived;
    }
  }
}

constexpr Attack kAttacks[] = {
    {"ports", Ports, true}, {"clock", Clock, true}, {"device_space", DeviceSpace}};

}  // namespace

std::span<const Attack> PlatformAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
