// The platform as plain data: what the tables tell the guest. The machine fills it in and builds
// the devices at these numbers; the defaults are the fixed ones.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/strong_integer.h"
#include "vmm/memory/guest_address.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

// 0xE0000 to 0xFFFFF is where an operating system looks for the RSDP (ACPI 6.4, 5.2.5.1). Its upper
// half is a "system ROM" to Linux, so that the tables keep to the lower one; the generation
// identifier has the last page to itself.
inline constexpr GuestAddress kAcpiAreaStart{0xe'0000};
inline constexpr GuestAddress kAcpiTablesEnd{0xf'0000};
// Where a system looks for it first in this area (MultiProcessor Specification 1.4, section 4).
inline constexpr GuestAddress kMpPointer{0xf'0000};
inline constexpr GuestAddress kVmGenIdPage{0xf'f000};
inline constexpr GuestAddress kAcpiAreaEnd{0x10'0000};
inline constexpr uint64_t kVmGenIdSizeBytes = 16;

// Sleep control register (ACPI 6.4, 4.8.3.7): SLP_TYP in bits 2 to 4, SLP_EN in bit 5.
inline constexpr uint8_t kSleepTypeS5 = 5;
inline constexpr uint8_t kSleepEnable = 1 << 5;
inline constexpr uint8_t kSleepControlS5 = (kSleepTypeS5 << 2) | kSleepEnable;

// Bits of the generic event device's register.
inline constexpr uint32_t kGedEventPowerButton = 1 << 0;
inline constexpr uint32_t kGedEventVmGenIdChanged = 1 << 1;

struct PlatformDescription {
  // One local APIC identifier a vCPU, in the order of the vCPUs.
  std::vector<uint32_t> apic_ids;
  MemoryLayout memory;

  uint16_t com1_port = 0x3f8;  // eight ports
  Gsi com1_gsi{4};             // edge, active high
  uint16_t rtc_port = 0x70;    // two ports

  // Eight ports: sleep control, reset, sleep status, unused, and four of the event register.
  uint16_t power_port = 0x600;
  uint16_t sleep_control_port = 0x600;  // 8 bits
  uint16_t reset_port = 0x601;          // 8 bits
  uint8_t reset_value = 1;
  uint16_t sleep_status_port = 0x602;  // 8 bits
  uint16_t ged_event_port = 0x604;     // 32 bits; a read clears the pending events
  Gsi ged_gsi{9};                      // edge, active high

  uint16_t pci_config_port = 0xcf8;  // eight ports
  MemoryRegion ecam = {kEcamStart, kEcamSizeBytes};
  MemoryRegion mmio32 = {kMmio32Start, kMmio32SizeBytes};
  GuestAddress ioapic = kIoapicStart;
  GuestAddress local_apic = kLocalApicStart;
  GuestAddress vmgenid = kVmGenIdPage;
};

}  // namespace pacsvisor
