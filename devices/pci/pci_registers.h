// Offsets and bits of a type 0 configuration header (PCI Local Bus 3.0, chapter 6) that this bus
// uses.
#pragma once

#include <cstdint>

namespace pacsvisor {

inline constexpr uint32_t kPciVendorId = 0x00;
inline constexpr uint32_t kPciDeviceId = 0x02;
inline constexpr uint32_t kPciCommand = 0x04;
inline constexpr uint32_t kPciStatus = 0x06;
inline constexpr uint32_t kPciRevisionId = 0x08;
inline constexpr uint32_t kPciClassCode = 0x09;
inline constexpr uint32_t kPciCacheLineSize = 0x0c;
inline constexpr uint32_t kPciBar0 = 0x10;
inline constexpr uint32_t kPciSubsystemVendorId = 0x2c;
inline constexpr uint32_t kPciSubsystemId = 0x2e;
inline constexpr uint32_t kPciCapabilitiesPointer = 0x34;
inline constexpr uint32_t kPciInterruptLine = 0x3c;
inline constexpr uint32_t kPciHeaderEnd = 0x40;
inline constexpr uint32_t kPciConventionalConfigBytes = 256;

inline constexpr uint16_t kPciCommandMemory = 1u << 1;
inline constexpr uint16_t kPciCommandBusMaster = 1u << 2;
inline constexpr uint16_t kPciCommandInterruptDisable = 1u << 10;
inline constexpr uint16_t kPciStatusCapabilities = 1u << 4;

// 6.2.5.1: the low bits of a memory BAR.
inline constexpr uint32_t kPciBarMemory64 = 2u << 1;
inline constexpr uint32_t kPciBarPrefetchable = 1u << 3;
inline constexpr uint64_t kPciBarFlagsMask = 0xf;

inline constexpr uint8_t kPciCapabilityVendor = 0x09;
inline constexpr uint8_t kPciCapabilityMsix = 0x11;

}  // namespace pacsvisor
