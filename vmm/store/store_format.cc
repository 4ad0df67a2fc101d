#include "vmm/store/store_format.h"

#include <charconv>

namespace pacsvisor {

std::optional<uint32_t> PackNumber(std::string_view file_name) {
  uint32_t number = 0;
  const char* const begin = file_name.data();
  const auto [end, error] = std::from_chars(begin, begin + file_name.size(), number, 16);
  const bool whole = error == std::errc() && number > 0 && PackPath(number).substr(6) == file_name;
  return whole ? std::optional(number) : std::nullopt;
}

std::optional<SnapshotId> SnapshotOfFile(std::string_view file_name) {
  constexpr std::string_view kEnding = ".snapshot";
  if (!file_name.ends_with(kEnding)) {
    return std::nullopt;
  }
  return SnapshotId::FromHex(file_name.substr(0, file_name.size() - kEnding.size()));
}

}  // namespace pacsvisor
