// The DSDT: the platform's devices as an AML name space. PCI root bridge (with no interrupt
// routing: our functions have no INTx pin), motherboard resources, COM1, RTC, generic event device,
// power button, generation identifier, processors, and \_S5.
#pragma once

#include <cstdint>
#include <vector>

#include "firmware/acpi/platform_description.h"

namespace pacsvisor {

// The whole table.
std::vector<uint8_t> BuildDsdt(const PlatformDescription& platform);

}  // namespace pacsvisor
