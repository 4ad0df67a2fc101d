#include "vmm/cli/local_time.h"

#include <charconv>
#include <chrono>
#include <ctime>
#include <optional>
#include <string_view>

namespace pacsvisor {
namespace {

constexpr uint64_t kCalendarNsPerSecond = 1'000'000'000;
constexpr uint64_t kCalendarNsPerDay = 86'400 * kCalendarNsPerSecond;
constexpr uint64_t kMostDays = 100 * 366;

std::optional<unsigned> Digits(std::string_view text) {
  unsigned number = 0;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && last == end ? std::optional(number) : std::nullopt;
}

std::optional<uint64_t> BeginningOfDay(std::string_view text) {
  if (text.size() != 10 || text[4] != '-' || text[7] != '-') {
    return std::nullopt;
  }
  const std::optional<unsigned> year = Digits(text.substr(0, 4));
  const std::optional<unsigned> month = Digits(text.substr(5, 2));
  const std::optional<unsigned> day = Digits(text.substr(8, 2));
  if (!year || !month || !day || *year < 1970 || *year > 2500) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                         std::chrono::month(*month), std::chrono::day(*day)};
  if (!date.ok()) {
    return std::nullopt;
  }
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<uint64_t>(days) * kCalendarNsPerDay;
}

}  // namespace

std::string LocalTime(uint64_t instant_ns) {
  const auto seconds = static_cast<time_t>(instant_ns / kCalendarNsPerSecond);
  tm parts = {};
  char text[32];
  return localtime_r(&seconds, &parts) != nullptr &&
                 std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts) != 0
             ? text
             : "-";
}

Result<uint64_t> ParseUntil(const std::string& text, uint64_t now_ns) {
  if (text == "forever") {
    return 0u;
  }
  std::optional<uint64_t> until_ns = BeginningOfDay(text);
  if (!until_ns && text.ends_with('d')) {
    const std::optional<unsigned> days = Digits(std::string_view(text).substr(0, text.size() - 1));
    if (days && *days <= kMostDays) {
      until_ns = now_ns + *days * kCalendarNsPerDay;
    }
  }
  if (!until_ns) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is no end: write a day such as 2030-12-31, days from now such as 30d, "
                       "or forever",
                       text);
  }
  if (*until_ns <= now_ns) {
    return Error::Make(ErrorCode::kInvalidArgument, "'{}' is over already", text);
  }
  return *until_ns;
}

}  // namespace pacsvisor
