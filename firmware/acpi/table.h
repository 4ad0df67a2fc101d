// The common frame of ACPI tables (ACPI 6.4, 5.2.6): header, body, checksum.
// Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace pacsvisor {

inline constexpr size_t kAcpiHeaderBytes = 36;
inline constexpr std::string_view kAcpiOemId = "PACSVR";  // six characters
inline constexpr std::string_view kAcpiOemTableId = "PACSVISR";
inline constexpr std::string_view kAcpiCreatorId = "PVSR";

// The byte that makes all bytes sum to zero, where `bytes` holds a zero in its place.
uint8_t AcpiChecksum(std::span<const uint8_t> bytes);

// `signature` has four characters; `body` is what follows the header.
std::vector<uint8_t> AcpiTable(std::string_view signature, uint8_t revision,
                               std::span<const uint8_t> body);

}  // namespace pacsvisor
