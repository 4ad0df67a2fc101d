// Time as the registers of an MC146818 clock hold it (Motorola MC146818A data sheet, table 3):
// seconds to years, in binary or BCD, 12 or 24 hours.
#pragma once

#include <array>
#include <cstdint>

namespace pacsvisor {

// Register numbers.
inline constexpr uint8_t kRtcSeconds = 0;
inline constexpr uint8_t kRtcSecondsAlarm = 1;
inline constexpr uint8_t kRtcMinutes = 2;
inline constexpr uint8_t kRtcMinutesAlarm = 3;
inline constexpr uint8_t kRtcHours = 4;
inline constexpr uint8_t kRtcHoursAlarm = 5;
inline constexpr uint8_t kRtcDayOfWeek = 6;
inline constexpr uint8_t kRtcDayOfMonth = 7;
inline constexpr uint8_t kRtcMonth = 8;
inline constexpr uint8_t kRtcYear = 9;

struct RtcFormat {
  bool binary = false;   // else BCD
  bool hours_24 = true;  // else 1 to 12, bit 7 for the afternoon
};

struct RtcTime {
  // Registers 0 to 9 (alarms are not touched) and the century, as the guest reads them.
  std::array<uint8_t, 10> registers{};
  uint8_t century = 0;
};

// Seconds, minutes, hours of a second of the day.
struct RtcTimeOfDay {
  uint8_t seconds = 0;
  uint8_t minutes = 0;
  uint8_t hours = 0;
};
RtcTimeOfDay EncodeRtcTimeOfDay(uint32_t second_of_day, RtcFormat format);

// `unix_seconds` from the year 1 on; of years from 10000 on the last four digits are shown.
RtcTime EncodeRtcTime(int64_t unix_seconds, RtcFormat format);
// Any register values are taken: what is out of range is brought into it, month and day first.
int64_t DecodeRtcTime(const RtcTime& time, RtcFormat format);

}  // namespace pacsvisor
