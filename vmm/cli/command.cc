#include "vmm/cli/command.h"

#include <charconv>

#include "vmm/cli/standard_streams.h"

namespace pacsvisor {

ExitStatus Fail(const Error& error) {
  Print(stderr, "pacsvisor: {}\n", error.message());
  return ExitStatus::kFailed;
}

Result<uint32_t> ParseSeconds(const std::string& text, uint32_t max_seconds) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, number);
  const std::string_view suffix(unit, static_cast<size_t>(end - unit));
  const uint64_t factor = suffix.empty() || suffix == "s" ? 1
                          : suffix == "m"                 ? 60
                          : suffix == "h"                 ? 3600
                          : suffix == "d"                 ? 86'400
                                                          : 0;
  if (error != std::errc() || factor == 0 || number > max_seconds / factor) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is no time of at most {} s: write 30s, 5m, 1h or 7d", text,
                       max_seconds);
  }
  return static_cast<uint32_t>(number * factor);
}

}  // namespace pacsvisor
