// The tables of fixed layout: FADT, MADT, MCFG, XSDT and the RSDP that leads to them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "firmware/acpi/platform_description.h"

namespace pacsvisor {

// ACPI 6.4, 5.2.9: hardware-reduced, no fixed power button, no 8042, no VGA.
std::vector<uint8_t> BuildFadt(const PlatformDescription& platform, GuestAddress dsdt);
// ACPI 6.4, 5.2.12: local APICs (x2APIC entries from identifier 255 on), one IOAPIC, no 8259 pair.
std::vector<uint8_t> BuildMadt(const PlatformDescription& platform);
// PCI Firmware Specification 3.3, 4.1.2.
std::vector<uint8_t> BuildMcfg(const PlatformDescription& platform);
// ACPI 6.4, 5.2.8.
std::vector<uint8_t> BuildXsdt(std::span<const GuestAddress> tables);
// ACPI 6.4, 5.2.5.3, revision 2: with an XSDT and no RSDT.
std::vector<uint8_t> BuildRsdp(GuestAddress xsdt);

}  // namespace pacsvisor
