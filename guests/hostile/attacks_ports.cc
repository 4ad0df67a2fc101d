// Console ports (virtio 1.2, 5.3.6) and the entropy device (5.4.6).
#include "devices/console/virtio_console_abi.h"
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

// Says `message` on the control queue, on which the victim listens.
void Say(Battle& battle, Victim& victim, const VirtioConsoleControl& message) {
  const uint64_t buffer = battle.Buffer(sizeof(message));
  *AtAddress<VirtioConsoleControl>(buffer) = message;
  victim.ring.Describe(0, {buffer, sizeof(message), kReadable, 0});
  const auto expected = static_cast<uint16_t>(victim.ring.available_index() + 1);
  victim.Offer(0);
  if (victim.ring.WaitUsed(expected, battle.patience_cycles())) ++battle.arrived;
}

void ConsoleControl(Battle& battle) {
  Victim victim(battle, *battle.functions.Find(Type::kConsole), 0);
  if (!victim.ready) return;
  constexpr auto kOpen = static_cast<uint16_t>(ConsoleEvent::kPortOpen);
  for (const uint32_t port : {0u, 2u, 1000u, 0x8000'0000u, 0xffff'ffffu}) {
    Say(battle, victim, {.port = port, .event = kOpen, .value = 1});
  }
  for (const uint32_t event : {1u, 2u, 4u, 5u, 7u, 8u, 0xffffu}) {
    Say(battle, victim, {.port = 1, .event = static_cast<uint16_t>(event), .value = 0xffff});
  }
  for (unsigned i = 0; i < 64; ++i) {
    Say(battle, victim,
        {.port = static_cast<uint32_t>(battle.random.Below(3)),
         .event = static_cast<uint16_t>(battle.random.Below(9)),
         .value = battle.random.Next16()});
  }
}

void BreakConsole(Battle& battle, uint16_t queue, uint32_t bytes, uint16_t flags) {
  battle.arena.Clear();
  const Function& function = *battle.functions.Find(Type::kConsole);
  const Driver driver(function);
  constexpr uint64_t kMultiport = 2;
  if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(kMultiport)) return;
  Ring ring(battle.arena, Victim::kRingSize);
  driver.Enable(queue, ring.layout());
  driver.DriverOk();
  ring.Describe(0, {battle.Buffer(64), bytes, flags, 0});
  ring.Offer(0);
  driver.Notify(queue);
  battle.AwaitNeedsReset(driver);
}

void ConsoleTooShort(Battle& battle) {
  for (const uint32_t bytes : {0u, 1u, 7u}) {
    BreakConsole(battle, kConsoleControlTransmitQueue, bytes, kReadable);
  }
}

void ConsoleDirection(Battle& battle) {
  BreakConsole(battle, kConsoleControlTransmitQueue, 8, kWritable);
  BreakConsole(battle, ConsoleTransmitQueue(1), 8, kWritable);
}

void RngReadable(Battle& battle) {
  Victim victim(battle, *battle.functions.Find(Type::kRng), 0);
  if (!victim.ready) return;
  victim.ring.Describe(0, {battle.Buffer(64), 64, kReadable | kNext, 1});
  victim.ring.Describe(1, {battle.Buffer(64), 64, kWritable, 0});
  victim.Offer(0);
  if (victim.ring.WaitUsed(1, battle.patience_cycles())) ++battle.arrived;
}

void RngNoRoom(Battle& battle) {
  Victim victim(battle, *battle.functions.Find(Type::kRng), 0);
  if (!victim.ready) return;
  const uint64_t buffer = battle.Buffer(64);
  for (uint16_t i = 0; i < Victim::kRingSize; ++i) {
    const bool empty = i % 2 == 0;
    victim.ring.Describe(i, {buffer, empty ? 0u : 64u, empty ? kWritable : kReadable, 0});
    victim.Offer(i);
  }
  if (victim.ring.WaitUsed(Victim::kRingSize, battle.patience_cycles())) ++battle.arrived;
}

// More than anybody has a use for, without end.
void RngGreed(Battle& battle) {
  Victim victim(battle, *battle.functions.Find(Type::kRng), 0);
  if (!victim.ready) return;
  const uint64_t buffer = battle.Buffer(1 << 20);
  for (uint16_t i = 0; i < 200; ++i) {
    const auto head = static_cast<uint16_t>(i % Victim::kRingSize);
    victim.ring.Describe(head, {buffer, 1 << 20, kWritable, 0});
    victim.Offer(head);
    victim.ring.WaitUsed(static_cast<uint16_t>(i > 16 ? i - 16 : 0), battle.patience_cycles());
  }
}

constexpr Attack kAttacks[] = {{"console_control", ConsoleControl},
                               {"console_too_short", ConsoleTooShort},
                               {"console_direction", ConsoleDirection},
                               {"rng_readable", RngReadable},
                               {"rng_no_room", RngNoRoom},
                               {"rng_greed", RngGreed}};

}  // namespace

std::span<const Attack> PortAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
