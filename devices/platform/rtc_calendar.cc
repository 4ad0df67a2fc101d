#include "devices/platform/rtc_calendar.h"

#include <algorithm>
#include <chrono>

namespace pacsvisor {
namespace {

constexpr uint8_t kAfternoon = 0x80;

uint8_t Encode(unsigned value, RtcFormat format) {
  return static_cast<uint8_t>(format.binary ? value : (value / 10) << 4 | value % 10);
}

unsigned Decode(uint8_t value, RtcFormat format) {
  return format.binary ? value : (value >> 4) * 10u + (value & 0x0f);
}

uint8_t EncodeHours(unsigned hours, RtcFormat format) {
  if (format.hours_24) {
    return Encode(hours, format);
  }
  const unsigned of_twelve = hours % 12 == 0 ? 12 : hours % 12;
  return static_cast<uint8_t>(Encode(of_twelve, format) | (hours >= 12 ? kAfternoon : 0));
}

unsigned DecodeHours(uint8_t value, RtcFormat format) {
  if (format.hours_24) {
    return std::min(Decode(value, format), 23u);
  }
  const unsigned of_twelve = Decode(value & ~kAfternoon, format) % 12;
  return of_twelve + ((value & kAfternoon) != 0 ? 12 : 0);
}

}  // namespace

RtcTimeOfDay EncodeRtcTimeOfDay(uint32_t second_of_day, RtcFormat format) {
  return {.seconds = Encode(second_of_day % 60, format),
          .minutes = Encode(second_of_day / 60 % 60, format),
          .hours = EncodeHours(second_of_day / 3600, format)};
}

RtcTime EncodeRtcTime(int64_t unix_seconds, RtcFormat format) {
  using namespace std::chrono;
  const sys_seconds moment{seconds(unix_seconds)};
  const sys_days day = floor<days>(moment);
  const year_month_day date(day);
  const auto year_number = static_cast<unsigned>(static_cast<int>(date.year()));
  const RtcTimeOfDay time =
      EncodeRtcTimeOfDay(static_cast<uint32_t>((moment - day).count()), format);
  RtcTime encoded;
  encoded.registers[kRtcSeconds] = time.seconds;
  encoded.registers[kRtcMinutes] = time.minutes;
  encoded.registers[kRtcHours] = time.hours;
  // Sunday is 1.
  encoded.registers[kRtcDayOfWeek] = Encode(weekday(day).c_encoding() + 1, format);
  encoded.registers[kRtcDayOfMonth] = Encode(static_cast<unsigned>(date.day()), format);
  encoded.registers[kRtcMonth] = Encode(static_cast<unsigned>(date.month()), format);
  encoded.registers[kRtcYear] = Encode(year_number % 100, format);
  encoded.century = Encode(year_number / 100 % 100, format);
  return encoded;
}

int64_t DecodeRtcTime(const RtcTime& time, RtcFormat format) {
  using namespace std::chrono;
  const auto field = [&](uint8_t reg, unsigned low, unsigned high) {
    return std::clamp(Decode(time.registers[reg], format), low, high);
  };
  const unsigned century = std::min(Decode(time.century, format), 99u);
  const int year_number = std::max(1, static_cast<int>(century * 100 + field(kRtcYear, 0, 99)));
  const year_month month = year(year_number) / static_cast<int>(field(kRtcMonth, 1, 12));
  const auto last = static_cast<unsigned>((month / std::chrono::last).day());
  const sys_days date(month / static_cast<int>(field(kRtcDayOfMonth, 1, last)));
  const int64_t of_day = int64_t{DecodeHours(time.registers[kRtcHours], format)} * 3600 +
                         field(kRtcMinutes, 0, 59) * 60 + field(kRtcSeconds, 0, 59);
  return duration_cast<seconds>(date.time_since_epoch()).count() + of_day;
}

}  // namespace pacsvisor
