// Where a machine's memory and its fixed devices lie in guest-physical space.
//
//   0          ... low memory (at most 3 GiB; a multiple of 4 KiB)
//   0xc0000000 ... 32-bit MMIO window (PCI BARs)
//   0xe0000000 ... ECAM of bus 0: 1 MiB (PCI Firmware Specification 3.3, section 4.1). No more buses
//                  than there are: Linux asks each device of every bus that ECAM could reach, 16,000
//                  port accesses for 256 buses
//   0xfec00000     IOAPIC;  0xfee00000 local APICs;  0xfeffc000 KVM's identity map page and TSS
//   0x1_00000000 . high memory: what does not fit below 3 GiB
//   high MMIO  ... 64-bit MMIO window (PCI BARs), behind high memory, 64 GiB
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/memory/guest_address.h"

namespace pacsvisor {

inline constexpr uint64_t kLowMemoryLimitBytes = 3 * kGiB;
inline constexpr GuestAddress kMmio32Start{0xc000'0000};
inline constexpr uint64_t kMmio32SizeBytes = 0x2000'0000;
inline constexpr GuestAddress kEcamStart{0xe000'0000};
inline constexpr uint64_t kEcamSizeBytes = 0x10'0000;
inline constexpr GuestAddress kIoapicStart{0xfec0'0000};
inline constexpr GuestAddress kLocalApicStart{0xfee0'0000};
inline constexpr GuestAddress kKvmIdentityMapPage{0xfeff'c000};
inline constexpr GuestAddress kKvmTssStart{0xfeff'd000};  // three pages
inline constexpr GuestAddress kHighMemoryStart{0x1'0000'0000};
inline constexpr uint64_t kMmio64SizeBytes = 64 * kGiB;

struct MemoryRegion {
  GuestAddress start;
  uint64_t size_bytes = 0;

  friend bool operator==(const MemoryRegion&, const MemoryRegion&) = default;
};

struct MemoryLayout {
  uint64_t memory_bytes = 0;
  std::vector<MemoryRegion> regions;  // one or two, ascending: below and above the hole
  MemoryRegion mmio64;                // starts at a multiple of 1 GiB

  // `memory_bytes`: a multiple of 4 KiB from 2 MiB on. `physical_address_bits` as CPUID
  // 0x80000008 tells the guest: what does not fit below it is refused.
  static Result<MemoryLayout> Create(uint64_t memory_bytes, unsigned physical_address_bits);
};

}  // namespace pacsvisor
