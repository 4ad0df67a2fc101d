// Virtqueues whose contents break the rules (virtio 1.2, 2.7).
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kSmall = 64;

// One device, one malformed chain: `build(victim)` returns its head.
template <typename Build>
void Strike(Battle& battle, const Function& function, uint64_t features, Build build) {
  Victim victim(battle, function, features);
  if (!victim.ready) return;
  victim.Offer(build(victim));
  battle.AwaitNeedsReset(victim.driver);
}

template <typename Build>
void StrikeAll(Battle& battle, uint64_t features, Build build) {
  battle.OnDevices([&](const Function& function) { Strike(battle, function, features, build); });
}

// One chain of a single buffer at each of these places, each on a device anew.
void StrikeWithBuffers(Battle& battle, std::span<const VirtqDescriptor> places) {
  battle.OnDevices([&](const Function& function) {
    for (const VirtqDescriptor& place : places) {
      battle.arena.Clear();
      Strike(battle, function, 0, [&](Victim& victim) {
        victim.ring.Describe(0, place);
        return uint16_t{0};
      });
    }
  });
}

void ChainLoop(Battle& battle) {
  StrikeAll(battle, 0, [&](Victim& victim) {
    // A ring of 1 to 8 descriptors that has no end.
    const auto length = static_cast<uint16_t>(1 + battle.random.Below(8));
    const uint64_t buffer = battle.Buffer(kSmall);
    for (uint16_t i = 0; i < length; ++i) {
      victim.ring.Describe(i, {buffer, kSmall, kNext, static_cast<uint16_t>((i + 1) % length)});
    }
    return static_cast<uint16_t>(battle.random.Below(length));
  });
}

void ChainTooLong(Battle& battle) {
  constexpr uint16_t kDescriptors = 2000;
  StrikeAll(battle, kIndirectFeature, [&](Victim& victim) {
    const uint64_t table = battle.Buffer(sizeof(VirtqDescriptor) * kDescriptors);
    const uint64_t buffer = battle.Buffer(kSmall);
    for (uint16_t i = 0; i < kDescriptors; ++i) {
      const bool last = i == kDescriptors - 1;
      Ring::DescribeAt(table, i,
                       {buffer, 1, last ? kReadable : kNext, static_cast<uint16_t>(i + 1)});
    }
    victim.ring.Describe(0, {table, sizeof(VirtqDescriptor) * kDescriptors, kIndirect, 0});
    return uint16_t{0};
  });
}

void ChainTooManyBytes(Battle& battle) {
  constexpr uint16_t kDescriptors = 1000;
  StrikeAll(battle, kIndirectFeature, [&](Victim& victim) {
    const uint64_t table = battle.Buffer(sizeof(VirtqDescriptor) * kDescriptors);
    // Readable: nothing is overwritten should it be taken.
    for (uint16_t i = 0; i < kDescriptors; ++i) {
      const bool last = i == kDescriptors - 1;
      Ring::DescribeAt(table, i,
                       {0, static_cast<uint32_t>(battle.memory.low - kPage),
                        last ? kReadable : kNext, static_cast<uint16_t>(i + 1)});
    }
    victim.ring.Describe(0, {table, sizeof(VirtqDescriptor) * kDescriptors, kIndirect, 0});
    return uint16_t{0};
  });
}

void NextBeyondTable(Battle& battle) {
  StrikeAll(battle, 0, [&](Victim& victim) {
    const auto next = static_cast<uint16_t>(Victim::kRingSize + battle.random.Below(60000));
    victim.ring.Describe(0, {battle.Buffer(kSmall), kSmall, kNext, next});
    return uint16_t{0};
  });
}

void HeadBeyondQueue(Battle& battle) {
  StrikeAll(battle, 0, [&](Victim&) {
    return static_cast<uint16_t>(Victim::kRingSize + battle.random.Below(60000));
  });
}

void AvailableIndexJump(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    Victim victim(battle, function, 0);
    if (!victim.ready) return;
    const uint64_t jump = Victim::kRingSize + 1 + battle.random.Below(60000);
    victim.ring.SetAvailableIndex(static_cast<uint16_t>(jump));
    victim.driver.Notify(victim.queue);
    battle.AwaitNeedsReset(victim.driver);
  });
}

void AddressOutside(Battle& battle) {
  const uint64_t end = battle.memory.low;
  const uint64_t top = battle.memory.high != 0 ? battle.memory.high : end;
  const VirtqDescriptor places[] = {
      {top, 1, kReadable, 0},
      {top - 8, 16, kReadable, 0},
      {top - 1, kSmall, kWritable, 0},
      {end, kSmall, kWritable, 0},
      {kEcam, kSmall, kWritable, 0},
      {0xfee0'0000, kSmall, kWritable, 0},
      {battle.random.Next() | uint64_t{1} << 62, kSmall, kWritable, 0},
      {uint64_t{1} << 63, kSmall, kReadable, 0}};
  StrikeWithBuffers(battle, places);
}

void AddressOverflow(Battle& battle) {
  const VirtqDescriptor places[] = {{~uint64_t{0}, 1, kReadable, 0},
                                    {~uint64_t{0} - 7, kSmall, kWritable, 0},
                                    {~uint64_t{0} << 12, 0xffff'ffff, kWritable, 0},
                                    {battle.memory.low - 1, 0xffff'ffff, kReadable, 0},
                                    {1, 0xffff'ffff, kReadable, 0}};
  StrikeWithBuffers(battle, places);
}

// Begins in low memory and ends in high memory, where there is some: both ends are memory, what
// lies between is not.
void AddressAcrossHole(Battle& battle) {
  constexpr uint64_t kFourGib = uint64_t{4} << 30;
  const uint64_t end = battle.memory.low;
  const VirtqDescriptor places[] = {
      {end - kPage, static_cast<uint32_t>(kFourGib - end + 2 * kPage), kReadable, 0},
      {end - 1, 2, kReadable, 0},
      {end - kSmall, 2 * kSmall, kWritable, 0},
      {kFourGib - 1, 2, kReadable, 0}};
  StrikeWithBuffers(battle, places);
}

void ReadableBehindWritable(Battle& battle) {
  StrikeAll(battle, 0, [&](Victim& victim) {
    const uint64_t buffer = battle.Buffer(2 * kSmall);
    victim.ring.Describe(0, {buffer, kSmall, kWritable | kNext, 1});
    victim.ring.Describe(1, {buffer + kSmall, kSmall, kReadable, 0});
    return uint16_t{0};
  });
}

void IndirectNotNegotiated(Battle& battle) {
  StrikeAll(battle, 0, [&](Victim& victim) {
    victim.ring.Describe(0, {battle.Buffer(kSmall), sizeof(VirtqDescriptor), kIndirect, 0});
    return uint16_t{0};
  });
}

void IndirectNested(Battle& battle) {
  StrikeAll(battle, kIndirectFeature, [&](Victim& victim) {
    const uint64_t table = battle.Buffer(sizeof(VirtqDescriptor));
    // To itself: it would have no end.
    Ring::DescribeAt(table, 0, {table, sizeof(VirtqDescriptor), kIndirect, 0});
    victim.ring.Describe(0, {table, sizeof(VirtqDescriptor), kIndirect, 0});
    return uint16_t{0};
  });
}

void IndirectWithNext(Battle& battle) {
  StrikeAll(battle, kIndirectFeature, [&](Victim& victim) {
    const uint64_t table = battle.Buffer(sizeof(VirtqDescriptor));
    Ring::DescribeAt(table, 0, {battle.Buffer(kSmall), kSmall, kReadable, 0});
    victim.ring.Describe(0, {table, sizeof(VirtqDescriptor), kIndirect | kNext, 1});
    victim.ring.Describe(1, {battle.Buffer(kSmall), kSmall, kReadable, 0});
    return uint16_t{0};
  });
}

void IndirectTableSize(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    for (const uint32_t bytes : {0u, 1u, 15u, 17u, 0x1001u}) {
      battle.arena.Clear();
      Strike(battle, function, kIndirectFeature, [&](Victim& victim) {
        victim.ring.Describe(0, {battle.Buffer(2 * kPage), bytes, kIndirect, 0});
        return uint16_t{0};
      });
    }
  });
}

void IndirectTableOutside(Battle& battle) {
  const uint64_t top = battle.memory.high != 0 ? battle.memory.high : battle.memory.low;
  const VirtqDescriptor places[] = {{top, 16, kIndirect, 0},
                                    {top - 16, 32, kIndirect, 0},
                                    {~uint64_t{0} - 15, 32, kIndirect, 0},
                                    {kEcam, 16, kIndirect, 0},
                                    {battle.memory.low - 16, 0xffff'fff0, kIndirect, 0}};
  battle.OnDevices([&](const Function& function) {
    for (const VirtqDescriptor& place : places) {
      battle.arena.Clear();
      Strike(battle, function, kIndirectFeature, [&](Victim& victim) {
        victim.ring.Describe(0, place);
        return uint16_t{0};
      });
    }
  });
}

// Descriptors of which every field is whatever comes, but none that a device may write: the guest
// has to live on.
void RandomDescriptors(Battle& battle) {
  StrikeAll(battle, kIndirectFeature | kEventIndexFeature, [&](Victim& victim) {
    for (uint16_t i = 0; i < Victim::kRingSize; ++i) {
      const bool inside = battle.random.Below(2) == 0;
      const uint64_t address =
          inside ? battle.arena.begin() + battle.random.Below(Arena::kBytes) : battle.random.Next();
      const auto flags = static_cast<uint16_t>(battle.random.Next() & ~uint64_t{kWritable});
      victim.ring.Describe(i, {address, battle.random.Next32() >> battle.random.Below(32), flags,
                               battle.random.Next16()});
    }
    // At the end one that certainly breaks it.
    for (uint16_t i = 0; i < 8; ++i) {
      victim.Offer(static_cast<uint16_t>(battle.random.Below(Victim::kRingSize)));
    }
    return uint16_t{0xffff};
  });
}

constexpr Attack kAttacks[] = {{"chain_loop", ChainLoop},
                               {"chain_too_long", ChainTooLong},
                               {"chain_too_many_bytes", ChainTooManyBytes},
                               {"next_beyond_table", NextBeyondTable},
                               {"head_beyond_queue", HeadBeyondQueue},
                               {"available_index_jump", AvailableIndexJump},
                               {"address_outside", AddressOutside},
                               {"address_overflow", AddressOverflow},
                               {"address_across_hole", AddressAcrossHole},
                               {"readable_behind_writable", ReadableBehindWritable},
                               {"indirect_not_negotiated", IndirectNotNegotiated},
                               {"indirect_nested", IndirectNested},
                               {"indirect_with_next", IndirectWithNext},
                               {"indirect_table_size", IndirectTableSize},
                               {"indirect_table_outside", IndirectTableOutside},
                               {"random_descriptors", RandomDescriptors}};

}  // namespace

std::span<const Attack> QueueAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
