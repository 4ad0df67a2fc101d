// Values of the configuration as text, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/machine/config.h"

namespace pacsvisor {

// Decimal with an optional K, M, G or T (powers of 1024; "Ki"/"KiB" mean the same).
std::optional<uint64_t> ParseSize(std::string_view text);
std::string FormatSize(uint64_t size_bytes);  // the largest unit that divides it: "2G", "1536M"

std::optional<MacBytes> ParseMac(std::string_view text);  // six pairs of hex digits and colons
// The error says what is wrong with the text.
Result<PortForward> ParseForward(std::string_view text);

// At most 64 bytes of user input for a message, without control characters.
std::string Printable(std::string_view text);

}  // namespace pacsvisor
