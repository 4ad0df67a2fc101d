#include "vmm/cli/command.h"

#include <gtest/gtest.h>

namespace pacsvisor {
namespace {

TEST(ParseSeconds, TakesSecondsMinutesAndHours) {
  EXPECT_EQ(*ParseSeconds("0", 100), 0u);
  EXPECT_EQ(*ParseSeconds("30", 100), 30u);
  EXPECT_EQ(*ParseSeconds("30s", 100), 30u);
  EXPECT_EQ(*ParseSeconds("5m", 300), 300u);
  EXPECT_EQ(*ParseSeconds("24h", 86'400), 86'400u);
}

TEST(ParseSeconds, RefusesWhatIsNoneOrTooLong) {
  for (const char* text : {"", "s", "-1", "1.5s", "1d", "1 s", " 1", "1sm", "301", "6m", "1h",
                           "99999999999999999999", "18446744073709551615h"}) {
    EXPECT_FALSE(ParseSeconds(text, 300).ok()) << text;
  }
}

}  // namespace
}  // namespace pacsvisor
