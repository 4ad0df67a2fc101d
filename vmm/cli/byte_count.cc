#include "vmm/cli/byte_count.h"

#include <fmt/core.h>

#include <array>
#include <string_view>

namespace pacsvisor {

std::string FormatBytes(uint64_t size_bytes) {
  static constexpr std::array<std::string_view, 7> kUnits = {"B",   "KiB", "MiB", "GiB",
                                                             "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(size_bytes);
  size_t unit = 0;
  // 999.5 and more would be rounded to four digits.
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0       ? fmt::format("{} B", size_bytes)
         : value < 9.995 ? fmt::format("{:.2f} {}", value, kUnits[unit])
         : value < 99.95 ? fmt::format("{:.1f} {}", value, kUnits[unit])
                         : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

}  // namespace pacsvisor
