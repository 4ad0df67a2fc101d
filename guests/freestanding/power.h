// Ending the machine as the command line says.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pacsvisor {

// poweroff=port:ADDRESS:VALUE[:BYTES], poweroff=mmio:ADDRESS:VALUE[:BYTES] (BYTES: 1, 2, 4;
// default 1), or poweroff=triple-fault.
struct PowerOffMethod {
  enum class Kind { kPort, kMmio, kTripleFault } kind;
  uint64_t address;
  uint32_t value;
  uint64_t bytes;
};

std::optional<PowerOffMethod> ParsePowerOff(std::string_view text);

// Comes back only when the machine goes on.
void PowerOff(const PowerOffMethod& method);

}  // namespace pacsvisor
