// What an attack has at hand, and the table of all attacks.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "guests/freestanding/start_info.h"
#include "guests/hostile/arena.h"
#include "guests/hostile/driver.h"
#include "guests/hostile/pci.h"
#include "guests/hostile/random.h"
#include "guests/hostile/ring.h"

namespace pacsvisor::hostile {

// Where RAM ends: below the hole under 4 GiB, and above it (0: none there).
struct MemoryEnds {
  uint64_t low = 0;
  uint64_t high = 0;
};

struct Battle {
  const Functions& functions;
  MemoryEnds memory;
  Arena& arena;
  Random random;
  // Other processors attack as well: one device at random instead of each in turn, little patience,
  // and nothing is expected to arrive undisturbed.
  bool in_crowd = false;
  bool has_ports = false;  // only the first processor's task state lets CPL 3 use ports
  uint64_t arrived = 0;    // times that the device was seen to refuse

  uint64_t patience_cycles() const {
    return in_crowd ? kCyclesPerSecond / 500 : 5 * kCyclesPerSecond;
  }
  // An arena's piece for data.
  uint64_t Buffer(uint64_t bytes) { return arena.Take(bytes, 64); }
  // Waits for DEVICE_NEEDS_RESET.
  void AwaitNeedsReset(const Driver& driver) {
    if (driver.WaitNeedsReset(patience_cycles())) ++arrived;
  }

  // `body(function)` for each virtio function, or for one of them.
  template <typename Body>
  void OnDevices(Body body) {
    const uint64_t chosen = random.Below(functions.count);
    for (unsigned i = 0; i < functions.count; ++i) {
      if (!functions.all[i].is_virtio || (in_crowd && i != chosen)) continue;
      arena.Clear();
      body(functions.all[i]);
      // It must not work on in memory that the next one is given.
      Driver(functions.all[i]).Reset(patience_cycles());
    }
  }
};

// A device brought to life as a driver does it, with one queue: the one to which it listens.
class Victim {
 public:
  static constexpr uint16_t kRingSize = 32;

  // `features` beside VERSION_1.
  Victim(Battle& battle, const Function& function, uint64_t features);

  Driver driver;
  uint16_t queue;
  Ring ring;
  bool ready = false;  // false: the device did not take it (somebody else is at it)

  void Offer(uint16_t head) {
    ring.Offer(head);
    driver.Notify(queue);
  }
};
// Block: requests; net: what is sent; console: control messages; rng: requests.
uint16_t ListeningQueue(Type type);

struct Attack {
  std::string_view name;
  void (*run)(Battle& battle);
  bool needs_ports = false;
};
std::span<const Attack> QueueAttacks();
std::span<const Attack> LayoutAttacks();
std::span<const Attack> TransportAttacks();
std::span<const Attack> PciAttacks();
std::span<const Attack> PlatformAttacks();
std::span<const Attack> BlockAttacks();
std::span<const Attack> NetAttacks();
std::span<const Attack> PortAttacks();  // console and rng

// All of them: number `index`; null behind the last.
const Attack* AttackAt(unsigned index);
unsigned AttackCount();
const Attack* FindAttack(std::string_view name);

}  // namespace pacsvisor::hostile
