// Amounts of bytes for reading: three digits, powers of 1024. (FormatSize of vmm/machine writes
// them exactly, for configurations.)
#pragma once

#include <cstdint>
#include <string>

namespace pacsvisor {

std::string FormatBytes(uint64_t size_bytes);  // "0 B", "512 B", "1.50 KiB", "12.3 MiB", "120 GiB"

}  // namespace pacsvisor
