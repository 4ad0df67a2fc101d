// Resource descriptors for _CRS (ACPI 6.4, 6.4): each function returns one descriptor; a template
// joins them in a buffer with its end tag.
// Threads: any.
#pragma once

#include <initializer_list>

#include "firmware/acpi/aml.h"
#include "vmm/base/strong_integer.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor::aml {

Bytes ResourceTemplate(std::initializer_list<Bytes> descriptors);

// 6.4.2.5: fixed ports, 16-bit decode.
Bytes IoPorts(uint16_t first, uint8_t count);
// 6.4.3.4: a fixed range below 4 GiB, readable and writable.
Bytes Memory32Fixed(const MemoryRegion& region);
// 6.4.3.6: one interrupt that this device uses: edge, active high, not shared.
Bytes EdgeInterrupt(Gsi gsi);
// 6.4.3.5: what a bridge hands on to the devices behind it.
Bytes WordBusNumbers(uint16_t first, uint16_t last);
Bytes DwordMemoryWindow(const MemoryRegion& region);  // wholly below 4 GiB
Bytes QwordMemoryWindow(const MemoryRegion& region);

}  // namespace pacsvisor::aml
