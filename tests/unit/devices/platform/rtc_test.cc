// The clock as Linux's rtc-cmos reads, sets and probes it; the oracle for dates is gmtime.
#include "devices/platform/rtc.h"

#include <gtest/gtest.h>

#include <atomic>
#include <ctime>

#include "tests/support/counting_line.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint8_t kControlA = 0x0a;
constexpr uint8_t kControlB = 0x0b;
constexpr uint8_t kFlagsC = 0x0c;
constexpr uint8_t kSet = 0x80;
constexpr uint8_t kBinary24 = 0x06;

class RtcTest : public testing::Test {
 protected:
  uint8_t Get(uint8_t reg) { return Get(rtc_, reg); }
  static uint8_t Get(Rtc& rtc, uint8_t reg) {
    const uint8_t index[] = {reg};
    rtc.Write(0, index);
    uint8_t value[1];
    rtc.Read(1, value);
    return value[0];
  }
  void Set(uint8_t reg, uint8_t value) { Set(rtc_, reg, value); }
  static void Set(Rtc& rtc, uint8_t reg, uint8_t value) {
    const uint8_t index[] = {reg};
    rtc.Write(0, index);
    const uint8_t data[] = {value};
    rtc.Write(1, data);
  }
  void SetTime(const std::tm& time) {
    Set(kControlB, kSet | kBinary24);
    Set(0, static_cast<uint8_t>(time.tm_sec));
    Set(2, static_cast<uint8_t>(time.tm_min));
    Set(4, static_cast<uint8_t>(time.tm_hour));
    Set(7, static_cast<uint8_t>(time.tm_mday));
    Set(8, static_cast<uint8_t>(time.tm_mon + 1));
    Set(9, static_cast<uint8_t>(time.tm_year % 100));
    Set(Rtc::kCenturyRegister, static_cast<uint8_t>((time.tm_year + 1900) / 100));
    Set(kControlB, kBinary24);
  }
  static uint8_t Bcd(int value) { return static_cast<uint8_t>(value / 10 * 16 + value % 10); }
  void SetHostTime(time_t seconds) { now_ns_ = static_cast<uint64_t>(seconds) * kSecondNs; }

  std::atomic<uint64_t> now_ns_ = uint64_t{1'700'000'000} * kSecondNs;
  Rtc rtc_{[this] { return now_ns_.load(); }};
};

TEST_F(RtcTest, ShowsTheHostsTimeInBothFormats) {
  // Ends of years, leap days, the last second of 32 bits, 2100 which has no leap day.
  for (const time_t seconds :
       std::initializer_list<time_t>{0, 951'782'399, 951'782'400, 1'700'000'000, 1'709'164'800,
                                     1'735'689'599, 2'147'483'647, 4'107'542'399, 4'107'542'400}) {
    SetHostTime(seconds);
    std::tm expected;
    gmtime_r(&seconds, &expected);
    for (const bool binary : {false, true}) {
      Set(kControlB, binary ? kBinary24 : 0x02);
      const auto shown = [&](int value) {
        return binary ? static_cast<uint8_t>(value) : Bcd(value);
      };
      EXPECT_EQ(Get(0), shown(expected.tm_sec)) << seconds;
      EXPECT_EQ(Get(2), shown(expected.tm_min)) << seconds;
      EXPECT_EQ(Get(4), shown(expected.tm_hour)) << seconds;
      EXPECT_EQ(Get(6), shown(expected.tm_wday + 1)) << seconds;
      EXPECT_EQ(Get(7), shown(expected.tm_mday)) << seconds;
      EXPECT_EQ(Get(8), shown(expected.tm_mon + 1)) << seconds;
      EXPECT_EQ(Get(9), shown(expected.tm_year % 100)) << seconds;
      EXPECT_EQ(Get(Rtc::kCenturyRegister), shown((expected.tm_year + 1900) / 100)) << seconds;
    }
  }
}

TEST_F(RtcTest, TwelveHoursHaveAnAfternoonBit) {
  const int midnight = 1'699'920'000;
  Set(kControlB, 0x04);
  for (int hour = 0; hour < 24; ++hour) {
    SetHostTime(midnight + hour * 3600);
    const int of_twelve = hour % 12 == 0 ? 12 : hour % 12;
    EXPECT_EQ(Get(4), of_twelve + (hour >= 12 ? 0x80 : 0)) << hour;
    const uint8_t shown = Get(4);
    Set(4, shown);
    EXPECT_EQ(Get(4), shown) << "written back";
  }
}

TEST_F(RtcTest, TheGuestSetsTheTimeAndItGoesOn) {
  std::tm time{
      .tm_sec = 58, .tm_min = 59, .tm_hour = 23, .tm_mday = 28, .tm_mon = 1, .tm_year = 124};
  SetTime(time);
  EXPECT_EQ(Get(0), 58);
  now_ns_ += 2 * kSecondNs;
  EXPECT_EQ(Get(0), 0);
  EXPECT_EQ(Get(4), 0);
  EXPECT_EQ(Get(7), 29) << "2024 is a leap year";
  EXPECT_EQ(Get(8), 2);
}

TEST_F(RtcTest, TheTimeStandsStillWhileItIsSet) {
  Set(kControlB, kSet | kBinary24);
  const uint8_t before = Get(0);
  now_ns_ += 10 * kSecondNs;
  EXPECT_EQ(Get(0), before);
  EXPECT_EQ(Get(kControlA) & 0x80, 0);
}

TEST_F(RtcTest, NoValueThatAGuestWritesIsHarmful) {
  for (const uint8_t format : std::initializer_list<uint8_t>{0x00, 0x02, 0x04, 0x06}) {
    for (int value = 0; value < 256; ++value) {
      Set(kControlB, kSet | format);
      for (const uint8_t reg : std::initializer_list<uint8_t>{0, 2, 4, 6, 7, 8, 9, 0x32}) {
        Set(reg, static_cast<uint8_t>(value));
      }
      Set(kControlB, format);
      for (int reg = 0; reg < 256; ++reg) {
        Get(static_cast<uint8_t>(reg));
        Set(static_cast<uint8_t>(reg), static_cast<uint8_t>(value));
      }
    }
  }
}

TEST_F(RtcTest, AnUpdateIsAnnouncedShortlyBeforeTheSecond) {
  EXPECT_EQ(Get(kControlA), 0x26);
  now_ns_ += kSecondNs - 100'000;
  EXPECT_EQ(Get(kControlA), 0xa6);
  now_ns_ += 100'000;
  EXPECT_EQ(Get(kControlA), 0x26);
}

TEST_F(RtcTest, UpdateEndedIsFlaggedOnceASecond) {
  Get(kFlagsC);
  EXPECT_EQ(Get(kFlagsC), 0);
  now_ns_ += kSecondNs;
  EXPECT_EQ(Get(kFlagsC), 0x10);
  EXPECT_EQ(Get(kFlagsC), 0);
}

TEST_F(RtcTest, AnAlarmIsFlaggedAtItsTimeAndByWildcards) {
  SetTime({.tm_sec = 0, .tm_min = 0, .tm_hour = 10, .tm_mday = 1, .tm_mon = 0, .tm_year = 124});
  Set(1, 5);
  Set(3, 0);
  Set(5, 10);
  Get(kFlagsC);
  now_ns_ += 4 * kSecondNs;
  EXPECT_EQ(Get(kFlagsC) & 0x20, 0);
  now_ns_ += kSecondNs;
  EXPECT_EQ(Get(kFlagsC) & 0x20, 0x20);
  now_ns_ += 3600 * kSecondNs;
  EXPECT_EQ(Get(kFlagsC) & 0x20, 0);
  Set(5, 0xff);  // each hour
  Set(1, 0xc0);  // each second
  now_ns_ += 3600 * kSecondNs;
  EXPECT_EQ(Get(kFlagsC) & 0x20, 0x20);
}

TEST_F(RtcTest, DaysWithoutALookAreOneAlarm) {
  Set(1, 0);
  Set(3, 0);
  Set(5, 0);
  Get(kFlagsC);
  now_ns_ += uint64_t{40} * 86'400 * kSecondNs;
  EXPECT_EQ(Get(kFlagsC), 0x30);
}

TEST_F(RtcTest, MemoryKeepsWhatIsWritten) {
  for (uint8_t reg = 0x0e; reg < 0x80; ++reg) {
    if (reg != Rtc::kCenturyRegister) {
      Set(reg, reg ^ 0x5a);
    }
  }
  for (uint8_t reg = 0x0e; reg < 0x80; ++reg) {
    if (reg != Rtc::kCenturyRegister) {
      EXPECT_EQ(Get(reg), reg ^ 0x5a);
    }
  }
  EXPECT_EQ(Get(0x0d), 0x80) << "power is good";
  EXPECT_EQ(Get(0x8e), Get(0x0e)) << "bit 7 of the index masks NMIs";
}

TEST_F(RtcTest, WideAccessesAreHarmless) {
  uint8_t data[4] = {0x00, 0x12, 0xff, 0xff};
  rtc_.Write(0, std::span(data, 2));
  rtc_.Read(0, std::span(data, 2));
  EXPECT_EQ(data[0], 0xff);
  EXPECT_EQ(data[1], 0x12) << "one access wrote index and data, one read the data back";
}

TEST_F(RtcTest, ARestoredClockShowsItsOwnTime) {
  SetTime({.tm_sec = 1, .tm_min = 2, .tm_hour = 3, .tm_mday = 4, .tm_mon = 4, .tm_year = 90});
  Set(0x40, 0x99);
  StateNode node;
  rtc_.Save(node);
  Rtc twin([this] { return now_ns_.load(); });
  ASSERT_TRUE(twin.Load(node).ok());
  for (const uint8_t reg :
       std::initializer_list<uint8_t>{0, 2, 4, 6, 7, 8, 9, 0x0a, 0x0b, 0x32, 0x40}) {
    EXPECT_EQ(Get(twin, reg), Get(reg)) << int{reg};
  }
}

TEST_F(RtcTest, AnOffsetThatIsImpossibleIsRefused) {
  StateNode node;
  rtc_.Save(node);
  node.mutable_fields().at("offset_seconds").value = uint64_t{1} << 62;
  EXPECT_FALSE(rtc_.Load(node).ok());
}

TEST(RtcInterruptTest, UpdateEndedInterruptsWhileEnabledOnly) {
  CountingLine line;
  auto rtc = Rtc::Create(RealtimeNs, line).value();
  const auto set = [&](uint8_t reg, uint8_t value) {
    const uint8_t index[] = {reg};
    rtc->Write(0, index);
    const uint8_t data[] = {value};
    rtc->Write(1, data);
  };
  set(kControlB, 0x12);
  ASSERT_TRUE(line.WaitFor(0));
  const uint8_t index[] = {kFlagsC};
  rtc->Write(0, index);
  uint8_t flags[1];
  rtc->Read(1, flags);
  EXPECT_EQ(flags[0] & 0x90, 0x90);
  ASSERT_TRUE(line.WaitFor(1)) << "read, so that it interrupts again";
  rtc->Pause();
  StateNode node;
  rtc->Save(node);
  CountingLine twin_line;
  auto twin = Rtc::Create(RealtimeNs, twin_line).value();
  ASSERT_TRUE(twin->Load(node).ok());
  EXPECT_EQ(twin_line.count(), 0u);
  twin->Resume();
  EXPECT_EQ(twin_line.count(), 1u) << "what was pending is raised again";
}

}  // namespace
}  // namespace pacsvisor
