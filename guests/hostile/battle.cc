#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

constexpr std::span<const Attack> (*kFamilies[])() = {
    QueueAttacks,    LayoutAttacks, TransportAttacks, PciAttacks,
    PlatformAttacks, BlockAttacks,  NetAttacks,       PortAttacks};

}  // namespace

uint16_t ListeningQueue(Type type) {
  switch (type) {
    case Type::kNet:
      return 1;
    case Type::kConsole:
      return 3;
    case Type::kBlock:
    case Type::kRng:
      break;
  }
  return 0;
}

Victim::Victim(Battle& battle, const Function& function, uint64_t features)
    : driver(function), queue(ListeningQueue(function.type)) {
  // VIRTIO_CONSOLE_F_MULTIPORT: without it there are no control queues.
  constexpr uint64_t kMultiport = 2;
  const uint64_t wanted = features | (function.type == Type::kConsole ? kMultiport : 0);
  // Only then: the device may still be at work in the same memory.
  const bool reset = driver.Reset(battle.patience_cycles());
  ring = Ring(battle.arena, kRingSize);
  if (!reset || !driver.Negotiate(wanted)) return;
  driver.Enable(queue, ring.layout());
  driver.DriverOk();
  ready = true;
}

const Attack* AttackAt(unsigned index) {
  for (const auto family : kFamilies) {
    const std::span<const Attack> attacks = family();
    if (index < attacks.size()) return &attacks[index];
    index -= static_cast<unsigned>(attacks.size());
  }
  return nullptr;
}

unsigned AttackCount() {
  unsigned count = 0;
  for (const auto family : kFamilies) count += static_cast<unsigned>(family().size());
  return count;
}

const Attack* FindAttack(std::string_view name) {
  for (unsigned i = 0; i < AttackCount(); ++i) {
    if (AttackAt(i)->name == name) return AttackAt(i);
  }
  return nullptr;
}

}  // namespace pacsvisor::hostile
