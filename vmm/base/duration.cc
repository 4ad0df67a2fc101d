#include "vmm/base/duration.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <string_view>

namespace pacsvisor {
namespace {

constexpr uint64_t kUsPerMs = 1'000;
constexpr uint64_t kUsPerSecond = 1'000'000;
constexpr uint64_t kUsPerMinute = 60 * kUsPerSecond;
constexpr uint64_t kUsPerHour = 60 * kUsPerMinute;
constexpr uint64_t kUsPerDay = 24 * kUsPerHour;

struct Unit {
  std::string_view name;
  uint64_t us;
};
constexpr Unit kUnits[] = {{"d", kUsPerDay},    {"h", kUsPerHour}, {"m", kUsPerMinute},
                           {"s", kUsPerSecond}, {"ms", kUsPerMs},  {"us", 1}};

std::string ThreeDigits(double value) {
  return value < 10    ? fmt::format("{:.2f}", value)
         : value < 100 ? fmt::format("{:.1f}", value)
                       : fmt::format("{:.0f}", value);
}

}  // namespace

Result<uint64_t> ParseDurationUs(const std::string& text, uint64_t min_us, uint64_t max_us) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [unit, error] = std::from_chars(text.data(), end, number);
  const std::string_view suffix(unit, static_cast<size_t>(end - unit));
  const auto* const found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                         [&](const Unit& known) { return known.name == suffix; });
  const uint64_t factor = found == std::end(kUnits) ? 0 : found->us;
  if (error != std::errc() || factor == 0 || number > max_us / factor || number * factor < min_us) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is no time from {} to {}: write a whole number and its unit, such as "
                       "500us, 5ms, 1s or 12h",
                       text, DurationText(min_us), DurationText(max_us));
  }
  return number * factor;
}

std::string DurationText(uint64_t duration_us) {
  const auto* const unit =
      std::find_if(std::begin(kUnits), std::end(kUnits), [&](const Unit& known) {
        return duration_us % known.us == 0 && (duration_us != 0 || known.us == kUsPerSecond);
      });
  return fmt::format("{}{}", duration_us / unit->us, unit->name);
}

std::string FormatDuration(uint64_t duration_ns) {
  const auto ns = static_cast<double>(duration_ns);
  const uint64_t seconds = duration_ns / 1'000'000'000;
  // From 0.1 of a unit on: pauses are compared in milliseconds.
  return duration_ns < 1'000           ? fmt::format("{} ns", duration_ns)
         : duration_ns < 100'000       ? ThreeDigits(ns / 1e3) + " us"
         : duration_ns < 1'000'000'000 ? ThreeDigits(ns / 1e6) + " ms"
         : seconds < 100               ? ThreeDigits(ns / 1e9) + " s"
         : seconds < 3600              ? fmt::format("{}m{:02}s", seconds / 60, seconds % 60)
                          : fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
}

}  // namespace pacsvisor
