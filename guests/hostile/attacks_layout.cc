// Rings laid where they must not lie, over one another and over the device's buffers; queues
// changed while they are in use.
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

using Registers = VirtioPciCommonConfig;

// A device set up to the point where queues are; `layout` goes to its listening queue. Refused: the
// device needs a reset before it ever ran.
void Propose(Battle& battle, const Function& function, const RingLayout& layout) {
  const Driver driver(function);
  if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(0)) return;
  driver.Enable(ListeningQueue(function.type), layout);
  // The register's write decides: nothing is to be waited for.
  if (driver.WaitNeedsReset(kCyclesPerSecond / 100)) ++battle.arrived;
}

template <typename Change>
void ProposeChanged(Battle& battle, Change change) {
  battle.OnDevices([&](const Function& function) {
    for (unsigned part = 0; part < 3; ++part) {
      battle.arena.Clear();
      RingLayout layout = Ring(battle.arena, Victim::kRingSize).layout();
      change(part == 0 ? layout.table : part == 1 ? layout.available : layout.used, part);
      Propose(battle, function, layout);
    }
  });
}

void QueueMisaligned(Battle& battle) {
  ProposeChanged(battle, [](uint64_t& address, unsigned part) {
    address += part == 0 ? 8 : part == 1 ? 1 : 2;
  });
}

void QueueOutside(Battle& battle) {
  const uint64_t top = battle.memory.high != 0 ? battle.memory.high : battle.memory.low;
  const uint64_t places[] = {top,   top - 16,    battle.memory.low, battle.memory.low - 16,
                             kEcam, 0xfee0'0000, ~uint64_t{0} - 15, uint64_t{1} << 63};
  for (const uint64_t place : places) {
    ProposeChanged(battle, [&](uint64_t& address, unsigned) { address = place; });
  }
}

void QueueSize(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    for (const uint16_t size : {uint16_t{0}, uint16_t{3}, uint16_t{33}, uint16_t{1024},
                                uint16_t{32768}, uint16_t{0xffff}}) {
      battle.arena.Clear();
      RingLayout layout = Ring(battle.arena, Victim::kRingSize).layout();
      layout.size = size;
      Propose(battle, function, layout);
    }
  });
}

void QueueEnabledAtWrongTime(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    const Driver driver(function);
    if (!driver.Reset(battle.patience_cycles())) return;
    driver.SetStatus(kSetUp);
    driver.Enable(0, Ring(battle.arena, Victim::kRingSize).layout());
    battle.AwaitNeedsReset(driver);

    if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(0)) return;
    driver.DriverOk();
    driver.Enable(0, Ring(battle.arena, Victim::kRingSize).layout());
    battle.AwaitNeedsReset(driver);
  });
}

// While the device works on the queue, it is resized, moved and enabled once more. The device must
// go on with what it latched: the requests all come back in the first ring.
void QueueMovedInUse(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    Victim victim(battle, function, 0);
    if (!victim.ready) return;
    const Ring other(battle.arena, 16);
    const uint64_t buffer = battle.Buffer(64);
    for (uint16_t i = 0; i < 16; ++i) {
      victim.ring.Describe(i, {buffer, 32, kReadable, 0});
      victim.Offer(i);
      RingLayout layout = other.layout();
      layout.size = static_cast<uint16_t>(1u << battle.random.Below(6));
      layout.table += 16 * battle.random.Below(8);
      victim.driver.Enable(victim.queue, layout);
    }
  });
}

// The used ring over the descriptor table, over the available ring, and over the buffers.
void UsedRingOverOthers(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    for (unsigned over = 0; over < 3; ++over) {
      battle.arena.Clear();
      const Driver driver(function);
      if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(kEventIndexFeature)) return;
      RingLayout layout = Ring(battle.arena, Victim::kRingSize).layout();
      const uint64_t buffer = battle.Buffer(4096);
      layout.used = over == 0 ? layout.table : over == 1 ? layout.available & ~uint64_t{3} : buffer;
      Ring ring(layout);
      driver.Enable(ListeningQueue(function.type), layout);
      driver.DriverOk();
      for (uint16_t i = 0; i < Victim::kRingSize; ++i) {
        const uint16_t flags = function.type == Type::kRng ? kWritable : kReadable;
        ring.Describe(i, {buffer + 16u * i, 16, flags, 0});
        ring.Offer(i);
        driver.Notify(ListeningQueue(function.type));
      }
      driver.WaitNeedsReset(battle.in_crowd ? 0 : kCyclesPerSecond / 100);
    }
  });
}

// The event fields and flags of both rings change all the time, and every doorbell rings.
void NotificationFlood(Battle& battle) {
  const unsigned rings = battle.in_crowd ? 200 : 2000;
  battle.OnDevices([&](const Function& function) {
    Victim victim(battle, function, kEventIndexFeature);
    if (!victim.ready) return;
    for (unsigned i = 0; i < rings; ++i) {
      // Also for queues that are not there: the notify area is 4 KiB.
      const uint64_t offset = battle.random.Below(4) == 0 ? battle.random.Below(1024) * 4 : 0;
      *AtAddress<volatile uint16_t>(victim.ring.layout().available) = battle.random.Next16();
      *AtAddress<volatile uint16_t>(victim.ring.layout().available +
                                    VirtqUsedEventOffset(Victim::kRingSize)) =
          battle.random.Next16();
      Write16(function.notify + offset, static_cast<uint16_t>(i));
    }
  });
}

void ResetInTheMiddle(Battle& battle) {
  const unsigned rounds = battle.in_crowd ? 3 : 20;
  battle.OnDevices([&](const Function& function) {
    for (unsigned round = 0; round < rounds; ++round) {
      battle.arena.Clear();
      Victim victim(battle, function, kIndirectFeature);
      if (!victim.ready) return;
      // Long requests of block; to the others they are whatever they take them for.
      const uint64_t header = battle.Buffer(16);
      const uint64_t data = battle.Buffer(64 * 1024);
      const uint64_t end = battle.Buffer(16);
      for (uint16_t i = 0; i + 3 <= Victim::kRingSize; i = static_cast<uint16_t>(i + 3)) {
        victim.ring.Describe(i, {header, 16, kNext, static_cast<uint16_t>(i + 1)});
        victim.ring.Describe(static_cast<uint16_t>(i + 1),
                             {data, 64 * 1024, kWritable | kNext, static_cast<uint16_t>(i + 2)});
        victim.ring.Describe(static_cast<uint16_t>(i + 2), {end, 1, kWritable, 0});
        victim.Offer(i);
      }
      const uint64_t pause = battle.random.Below(kCyclesPerSecond / 2000);
      const uint64_t begin = ReadTsc();
      while (ReadTsc() - begin < pause) SpinPause();
      victim.driver.SetStatus(0);
      // Not waiting, as one must: these are refused or meet a device that is reset already.
      victim.driver.SetStatus(kSetUp);
      victim.driver.Enable(victim.queue, victim.ring.layout());
      victim.driver.DriverOk();
      if (victim.driver.Reset(battle.patience_cycles())) ++battle.arrived;
    }
  });
}

// Life and death of a device as fast as registers can be written.
void ResetStorm(Battle& battle) {
  const unsigned rounds = battle.in_crowd ? 20 : 300;
  battle.OnDevices([&](const Function& function) {
    for (unsigned round = 0; round < rounds; ++round) {
      battle.arena.Clear();
      Victim victim(battle, function, 0);
      if (victim.ready) victim.driver.Notify(victim.queue);
    }
  });
}

constexpr Attack kAttacks[] = {{"queue_misaligned", QueueMisaligned},
                               {"queue_outside", QueueOutside},
                               {"queue_size", QueueSize},
                               {"queue_enabled_at_wrong_time", QueueEnabledAtWrongTime},
                               {"queue_moved_in_use", QueueMovedInUse},
                               {"used_ring_over_others", UsedRingOverOthers},
                               {"notification_flood", NotificationFlood},
                               {"reset_in_the_middle", ResetInTheMiddle},
                               {"reset_storm", ResetStorm}};

}  // namespace

std::span<const Attack> LayoutAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
