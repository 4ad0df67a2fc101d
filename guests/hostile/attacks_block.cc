// Requests that a virtio-blk device must refuse (virtio 1.2, 5.2.6).
#include "devices/block/block_abi.h"
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint32_t kSector = 512;
constexpr uint8_t kNoStatus = 0xee;

struct Request {
  VirtioBlockHeader header;
  uint32_t header_bytes = sizeof(VirtioBlockHeader);
  uint32_t out_bytes = 0;  // data that the device reads
  uint32_t in_bytes = 0;   // data that it writes
  uint32_t status_bytes = 1;
};

class BlockVictim {
 public:
  BlockVictim(Battle& battle, uint64_t features)
      : battle_(battle), victim_(battle, *battle.functions.Find(Type::kBlock), features) {}

  bool ready() const { return victim_.ready; }
  Victim& victim() { return victim_; }
  uint64_t capacity() const { return Read64(victim_.driver.function().device); }

  // `data` is what the device reads after the header. The status; kNoStatus when none came.
  uint8_t Ask(const Request& request, uint64_t data = 0) {
    const uint16_t expected = static_cast<uint16_t>(victim_.ring.available_index() + 1);
    const uint64_t status = battle_.Buffer(1);
    *AtAddress<volatile uint8_t>(status) = kNoStatus;
    victim_.Offer(Build(request, data, status));
    victim_.ring.WaitUsed(expected, battle_.patience_cycles());
    return *AtAddress<volatile uint8_t>(status);
  }
  // A request that cannot even be answered.
  void Break(const Request& request) {
    victim_.Offer(Build(request, 0, battle_.Buffer(1)));
    battle_.AwaitNeedsReset(victim_.driver);
  }
  // Heads run through the ring four descriptors at a time.
  uint16_t Build(const Request& request, uint64_t data, uint64_t status) {
    const auto head = static_cast<uint16_t>(victim_.ring.available_index() * 4 % Victim::kRingSize);
    const uint64_t header = battle_.Buffer(sizeof(request.header));
    *AtAddress<VirtioBlockHeader>(header) = request.header;
    if (data == 0) data = battle_.Buffer(request.out_bytes + request.in_bytes + 1);
    uint16_t last = head;
    const auto add = [&](uint64_t address, uint32_t bytes, uint16_t flags) {
      if (bytes == 0) return;
      victim_.ring.Describe(last, {address, bytes, static_cast<uint16_t>(flags | kNext),
                                   static_cast<uint16_t>(last + 1)});
      ++last;
    };
    add(header, request.header_bytes, kReadable);
    add(data, request.out_bytes, kReadable);
    add(data, request.in_bytes, kWritable);
    add(status, request.status_bytes, kWritable);
    // The last one has no next.
    const uint64_t at = victim_.ring.layout().table + sizeof(VirtqDescriptor) * (last - 1u);
    auto* descriptor = AtAddress<VirtqDescriptor>(at);
    descriptor->flags = static_cast<uint16_t>(descriptor->flags & ~kNext);
    return head;
  }

 private:
  Battle& battle_;
  Victim victim_;
};

constexpr VirtioBlockHeader Header(VirtioBlockType type, uint64_t sector = 0) {
  return {.type = static_cast<uint32_t>(type), .sector = sector};
}

void Expect(Battle& battle, uint8_t status, VirtioBlockStatus expected) {
  if (status == static_cast<uint8_t>(expected)) ++battle.arrived;
}

void UnknownType(Battle& battle) {
  BlockVictim block(battle, 0);
  if (!block.ready()) return;
  for (const uint32_t type : {2u, 3u, 5u, 9u, 12u, 0x8000'0000u, 0xffff'ffffu}) {
    const Request request{.header = {.type = type}, .in_bytes = kSector};
    Expect(battle, block.Ask(request), VirtioBlockStatus::kUnsupported);
  }
}

void BeyondEnd(Battle& battle) {
  BlockVictim block(battle, 0);
  if (!block.ready()) return;
  const uint64_t end = block.capacity();
  for (const uint64_t sector : {end, end - 1, end + 1, uint64_t{1} << 55, uint64_t{1} << 63,
                                ~uint64_t{0}, ~uint64_t{0} >> 9}) {
    const Request read{.header = Header(VirtioBlockType::kIn, sector), .in_bytes = 2 * kSector};
    Expect(battle, block.Ask(read), VirtioBlockStatus::kIoError);
    const Request write{.header = Header(VirtioBlockType::kOut, sector), .out_bytes = 2 * kSector};
    Expect(battle, block.Ask(write), VirtioBlockStatus::kIoError);
  }
}

void PartialSector(Battle& battle) {
  BlockVictim block(battle, 0);
  if (!block.ready()) return;
  for (const uint32_t bytes : {1u, kSector - 1, kSector + 1, 4095u}) {
    const Request read{.header = Header(VirtioBlockType::kIn), .in_bytes = bytes};
    Expect(battle, block.Ask(read), VirtioBlockStatus::kIoError);
    const Request write{.header = Header(VirtioBlockType::kOut), .out_bytes = bytes};
    Expect(battle, block.Ask(write), VirtioBlockStatus::kIoError);
  }
}

void NoHeader(Battle& battle) {
  for (const uint32_t bytes : {0u, 1u, 15u}) {
    battle.arena.Clear();
    BlockVictim block(battle, 0);
    if (!block.ready()) return;
    block.Break({.header = Header(VirtioBlockType::kFlush), .header_bytes = bytes});
  }
}

void NoStatus(Battle& battle) {
  for (const VirtioBlockType type : {VirtioBlockType::kFlush, VirtioBlockType::kOut}) {
    battle.arena.Clear();
    BlockVictim block(battle, 0);
    if (!block.ready()) return;
    block.Break({.header = Header(type), .out_bytes = kSector, .status_bytes = 0});
  }
}

void Segments(Battle& battle) {
  constexpr uint64_t kBoth = kVirtioBlockDiscard | kVirtioBlockWriteZeroes;
  BlockVictim block(battle, kBoth);
  if (!block.ready()) return;
  const VirtioBlockSegment wrong[] = {{.sector = 0, .sector_count = 1, .flags = 0x8000'0000},
                                      {.sector = block.capacity(), .sector_count = 1},
                                      {.sector = ~uint64_t{0}, .sector_count = 0xffff'ffff},
                                      {.sector = 0, .sector_count = 0xffff'ffff}};
  for (const VirtioBlockType type : {VirtioBlockType::kDiscard, VirtioBlockType::kWriteZeroes}) {
    for (const VirtioBlockSegment& segment : wrong) {
      const uint64_t data = battle.Buffer(sizeof(segment));
      *AtAddress<VirtioBlockSegment>(data) = segment;
      const uint8_t status =
          block.Ask({.header = Header(type), .out_bytes = sizeof(segment)}, data);
      if (status != 0 && status != kNoStatus) ++battle.arrived;
    }
    // No range, part of one, far too many.
    for (const uint32_t bytes : {0u, 8u, 17u, 16u * 1000}) {
      Expect(battle, block.Ask({.header = Header(type), .out_bytes = bytes}),
             VirtioBlockStatus::kIoError);
    }
  }
}

// One head many times over, while the first is on its way.
void HeadInFlight(Battle& battle) {
  BlockVictim block(battle, 0);
  if (!block.ready()) return;
  const Request request{.header = Header(VirtioBlockType::kIn), .in_bytes = 64 * 1024};
  const uint16_t head = block.Build(request, 0, battle.Buffer(1));
  Ring& ring = block.victim().ring;
  for (unsigned i = 0; i < 8; ++i) ring.Offer(head);
  block.victim().driver.Notify(0);
  battle.AwaitNeedsReset(block.victim().driver);
}

constexpr Attack kAttacks[] = {
    {"block_unknown_type", UnknownType},     {"block_beyond_end", BeyondEnd},
    {"block_partial_sector", PartialSector}, {"block_no_header", NoHeader},
    {"block_no_status", NoStatus},           {"block_segments", Segments},
    {"block_head_in_flight", HeadInFlight}};

}  // namespace

std::span<const Attack> BlockAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
