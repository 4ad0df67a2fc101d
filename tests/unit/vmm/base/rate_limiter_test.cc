#include "vmm/base/rate_limiter.h"

#include <gtest/gtest.h>
#include <poll.h>

namespace pacsvisor {
namespace {

constexpr uint64_t kOneSecond = 1'000'000'000;

bool TimerFires(const RateLimiter& limiter, int timeout_ms) {
  pollfd wait{.fd = limiter.timer_fd(), .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, timeout_ms) == 1;
}

class RateLimiterTest : public testing::Test {
 protected:
  std::shared_ptr<RateLimiter> Make(const RateLimits& limits) {
    return RateLimiter::Create(limits, [this] { return now_ns_; }).value();
  }
  uint64_t now_ns_ = 7 * kOneSecond;
};

TEST_F(RateLimiterTest, TheTighterOfTwoLimitsDecides) {
  const auto limiter = Make({.bytes_per_second = 1000, .operations_per_second = 20});
  limiter->Charge(1, 2);  // the operations' burst
  EXPECT_FALSE(limiter->Admit());
  now_ns_ += kOneSecond / 20;
  EXPECT_TRUE(limiter->Admit());
  limiter->Charge(300, 0);  // 200 bytes into debt
  now_ns_ += kOneSecond / 10;
  EXPECT_FALSE(limiter->Admit()) << "operations there are, but no bytes";
  now_ns_ += kOneSecond;
  EXPECT_TRUE(limiter->Admit());
}

TEST_F(RateLimiterTest, TheBurstIsATenthOfASecond) {
  const auto limiter = Make({.bytes_per_second = 1000, .operations_per_second = std::nullopt});
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(limiter->Admit()) << i;
    limiter->Charge(1, 1);
  }
  EXPECT_FALSE(limiter->Admit());
  EXPECT_EQ(RateLimiter::BurstOf(3), 1u) << "one at least";
}

TEST_F(RateLimiterTest, WhoIsToldNoIsWokenByTheTimer) {
  const auto limiter = Make({.bytes_per_second = std::nullopt, .operations_per_second = 100});
  EXPECT_TRUE(limiter->Admit());
  EXPECT_FALSE(TimerFires(*limiter, 0)) << "nobody waits";
  limiter->Charge(0, 11);
  EXPECT_FALSE(limiter->Admit());
  EXPECT_TRUE(TimerFires(*limiter, 60'000));
  limiter->ConsumeTimer();
  EXPECT_FALSE(TimerFires(*limiter, 0));
  limiter->ConsumeTimer();  // of nothing
}

}  // namespace
}  // namespace pacsvisor
