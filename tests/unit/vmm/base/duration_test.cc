#include "vmm/base/duration.h"

#include <gmock/gmock.h>

namespace pacsvisor {
namespace {

TEST(Duration, IsAWholeNumberAndItsUnit) {
  EXPECT_EQ(ParseDurationUs("500us", 1, UINT64_MAX).value(), 500u);
  EXPECT_EQ(ParseDurationUs("5ms", 1, UINT64_MAX).value(), 5'000u);
  EXPECT_EQ(ParseDurationUs("1s", 1, UINT64_MAX).value(), 1'000'000u);
  EXPECT_EQ(ParseDurationUs("2m", 1, UINT64_MAX).value(), 120'000'000u);
  EXPECT_EQ(ParseDurationUs("12h", 1, UINT64_MAX).value(), 43'200'000'000u);
  EXPECT_EQ(ParseDurationUs("7d", 1, UINT64_MAX).value(), 604'800'000'000u);
  for (const char* text : {"", "5", "ms", "5 ms", " 5ms", "5ms ", "-5ms", "+5ms", "0.5ms", "5w",
                           "5MS", "5msx", "18446744073709551616us", "18446744073709551615s"}) {
    EXPECT_EQ(ParseDurationUs(text, 0, UINT64_MAX).error().code(), ErrorCode::kInvalidArgument)
        << text;
  }
}

TEST(Duration, KeepsToItsLimits) {
  EXPECT_TRUE(ParseDurationUs("1us", 1, 60'000'000).ok());
  EXPECT_TRUE(ParseDurationUs("60s", 1, 60'000'000).ok());
  EXPECT_FALSE(ParseDurationUs("0s", 1, 60'000'000).ok());
  EXPECT_THAT(ParseDurationUs("60001ms", 1, 60'000'000).error().message(),
              testing::HasSubstr("from 1us to 1m"));
}

TEST(Duration, IsTypedInTheLargestUnitThatDividesIt) {
  for (const char* text : {"7d", "36h", "90m", "61s", "1500ms", "1us", "0s"}) {
    EXPECT_EQ(DurationText(ParseDurationUs(text, 0, UINT64_MAX).value()), text);
  }
}

TEST(Duration, IsWrittenWithThreeDigits) {
  EXPECT_EQ(FormatDuration(0), "0 ns");
  EXPECT_EQ(FormatDuration(640), "640 ns");
  EXPECT_EQ(FormatDuration(12'340), "12.3 us");
  EXPECT_EQ(FormatDuration(940'000), "0.94 ms");
  EXPECT_EQ(FormatDuration(5'000'000), "5.00 ms");
  EXPECT_EQ(FormatDuration(123'400'000), "123 ms");
  EXPECT_EQ(FormatDuration(1'234'000'000), "1.23 s");
  EXPECT_EQ(FormatDuration(200'000'000'000), "3m20s");
  EXPECT_EQ(FormatDuration(7'500'000'000'000), "2h05m");
}

}  // namespace
}  // namespace pacsvisor
