#include "firmware/boot/initial_state.h"

#include <array>

#include "firmware/boot/low_memory_map.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

// Control register bits (Intel SDM 3A, 2.5; AMD APM 2, 3.1).
constexpr uint64_t kCr0ProtectionEnable = 1 << 0;
constexpr uint64_t kCr0ExtensionType = 1 << 4;
constexpr uint64_t kCr0Paging = uint64_t{1} << 31;
constexpr uint64_t kCr4Pae = 1 << 5;
constexpr uint64_t kEferLongModeEnable = 1 << 8;
constexpr uint64_t kEferLongModeActive = 1 << 10;

// Segment types (Intel SDM 3A, tables 3-1 and 3-2).
constexpr uint8_t kCodeReadAccessed = 0xb;
constexpr uint8_t kDataWriteAccessed = 0x3;
constexpr uint8_t kTssBusy = 0xb;
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr uint16_t kTaskSelector = 0x20;
constexpr uint32_t kTssLimitBytes = 0x67;
constexpr size_t kGdtEntries = 6;  // null, unused, code, data, TSS (two in long mode)

// Page table entries (Intel SDM 3A, 4.5.4).
constexpr uint64_t kPresentWritable = 0x3;
constexpr uint64_t kLargePage = 1 << 7;
constexpr uint64_t kEntriesPerTable = 512;
constexpr uint64_t kMappedGib = 4;

// Intel SDM 3A, figure 3-8.
uint64_t Descriptor(const SegmentState& segment) {
  const uint64_t limit = segment.page_granularity ? segment.limit_bytes >> 12 : segment.limit_bytes;
  const uint64_t access = segment.type | uint64_t{segment.code_or_data} << 4 |
                          uint64_t{segment.present} << 7 | uint64_t{segment.long_mode} << 13 |
                          uint64_t{segment.default_32} << 14 |
                          uint64_t{segment.page_granularity} << 15;
  return (limit & 0xffff) | (segment.base & 0xff'ffff) << 16 | access << 40 |
         (limit >> 16 & 0xf) << 48 | (segment.base >> 24 & 0xff) << 56;
}

SegmentState FlatSegment(uint16_t selector, uint8_t type) {
  return {.selector = selector,
          .base = 0,
          .limit_bytes = 0xffff'ffff,
          .type = type,
          .present = true,
          .code_or_data = true,
          .long_mode = false,
          .default_32 = true,
          .page_granularity = true};
}

void Store(GuestMemory& memory, GuestAddress to, std::span<const uint8_t> bytes) {
  // Below 1 MiB, and every machine has 2 MiB.
  CHECK(memory.Write(to, bytes), "no memory at {}", to);
}

BootState CommonState(GuestMemory& memory, const SegmentState& code) {
  BootState state;
  state.code = code;
  state.data = FlatSegment(kDataSelector, kDataWriteAccessed);
  state.task = {
      .selector = kTaskSelector, .limit_bytes = kTssLimitBytes, .type = kTssBusy, .present = true};
  state.cr0 = kCr0ProtectionEnable | kCr0ExtensionType;
  state.rsp = kBootStackTop.raw();
  state.gdt = kBootGdt;
  state.gdt_limit_bytes = kGdtEntries * sizeof(uint64_t) - 1;
  std::array<uint8_t, kGdtEntries * sizeof(uint64_t)> gdt{};
  for (const SegmentState& segment : {state.code, state.data, state.task}) {
    StoreLe(&gdt[segment.selector], Descriptor(segment));
  }
  Store(memory, kBootGdt, gdt);
  return state;
}

// One table each of levels 4 and 3, four of level 2 with 2 MiB pages: every x86-64 CPU has these.
void WriteIdentityMap(GuestMemory& memory) {
  std::array<uint8_t, (2 + kMappedGib) * kPageSizeBytes> tables{};
  const uint64_t base = kBootPageTables.raw();
  StoreLe(&tables[0], (base + kPageSizeBytes) | kPresentWritable);
  for (uint64_t gib = 0; gib < kMappedGib; ++gib) {
    StoreLe(&tables[kPageSizeBytes + gib * sizeof(uint64_t)],
            (base + (2 + gib) * kPageSizeBytes) | kPresentWritable);
  }
  for (uint64_t page = 0; page < kMappedGib * kEntriesPerTable; ++page) {
    StoreLe(&tables[2 * kPageSizeBytes + page * sizeof(uint64_t)],
            page * 2 * kMiB | kPresentWritable | kLargePage);
  }
  static_assert(kBootPageTables.raw() + sizeof(tables) <= kBootParamsPage.raw());
  Store(memory, kBootPageTables, tables);
}

}  // namespace

BootState WriteLongModeState(GuestMemory& memory) {
  SegmentState code = FlatSegment(kCodeSelector, kCodeReadAccessed);
  code.long_mode = true;
  code.default_32 = false;
  BootState state = CommonState(memory, code);
  state.mode = CpuMode::kLong64;
  state.cr0 |= kCr0Paging;
  state.cr3 = kBootPageTables.raw();
  state.cr4 = kCr4Pae;
  state.efer = kEferLongModeEnable | kEferLongModeActive;
  WriteIdentityMap(memory);
  return state;
}

BootState WriteProtectedModeState(GuestMemory& memory) {
  BootState state = CommonState(memory, FlatSegment(kCodeSelector, kCodeReadAccessed));
  state.mode = CpuMode::kProtected32;
  return state;
}

}  // namespace pacsvisor
