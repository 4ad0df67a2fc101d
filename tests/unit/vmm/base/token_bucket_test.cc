#include "vmm/base/token_bucket.h"

#include <gtest/gtest.h>

#include <random>

namespace pacsvisor {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(TokenBucket, BeginsFullAndOpensAgainWithTheFirstWholeToken) {
  TokenBucket bucket(10, 3, 0);
  EXPECT_EQ(bucket.WaitNs(0), 0u);
  bucket.Take(3);
  EXPECT_EQ(bucket.WaitNs(0), kSecond / 10);
  EXPECT_EQ(bucket.WaitNs(kSecond / 10 - 1), 1u);
  EXPECT_EQ(bucket.WaitNs(kSecond / 10), 0u);
}

TEST(TokenBucket, ADebtIsPaidBeforeTheNextIsServed) {
  TokenBucket bucket(100, 10, 0);
  bucket.Take(1010);  // 1,000 beyond what was there
  EXPECT_EQ(bucket.WaitNs(0), 10 * kSecond + kSecond / 100);
  EXPECT_EQ(bucket.WaitNs(10 * kSecond + kSecond / 100), 0u);
}

TEST(TokenBucket, AClockThatStandsStillOrGoesBackBringsNothing) {
  TokenBucket bucket(1000, 1, 5 * kSecond);
  bucket.Take(1);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(bucket.WaitNs(5 * kSecond), kSecond / 1000);
    EXPECT_EQ(bucket.WaitNs(4 * kSecond), kSecond / 1000);
  }
  EXPECT_EQ(bucket.WaitNs(5 * kSecond + kSecond / 1000), 0u);
}

TEST(TokenBucket, AnyIdleTimeFillsItOnce) {
  TokenBucket bucket(TokenBucket::kMaxTokens, 5, 0);
  for (const uint64_t now_ns : {kSecond, uint64_t{1} << 62, UINT64_MAX}) {
    EXPECT_EQ(bucket.WaitNs(now_ns), 0u);
    bucket.Take(4);
    EXPECT_EQ(bucket.WaitNs(now_ns), 0u) << "the fifth";
    bucket.Take(1);
    EXPECT_EQ(bucket.WaitNs(now_ns), 1u);
  }
}

TEST(TokenBucket, TheGreatestNumbersDoNotOverflow) {
  TokenBucket bucket(1, TokenBucket::kMaxTokens, 0);
  for (int i = 0; i < 4; ++i) {
    bucket.Take(TokenBucket::kMaxTokens);
  }
  // Three times the capacity in debt, and a token: more nanoseconds than a clock of 64 bits has.
  EXPECT_GT(bucket.WaitNs(UINT64_MAX), 0u);
  TokenBucket fast(TokenBucket::kMaxTokens, TokenBucket::kMaxTokens, 0);
  fast.Take(TokenBucket::kMaxTokens);
  fast.Take(TokenBucket::kMaxTokens);
  EXPECT_GT(fast.WaitNs(kSecond), 0u) << "paid, and nothing more";
  EXPECT_EQ(fast.WaitNs(UINT64_MAX), 0u);
}

// A debt of twenty days, asked after at odd moments: what is still to wait is always what was owed
// less what flowed in, to the nanosecond. Nothing is rounded away on the way.
TEST(TokenBucket, IsExactOverALongTime) {
  __extension__ using Wide = __int128;
  constexpr uint64_t kDays = 20 * 86'400 * kSecond;
  std::mt19937_64 random(1);
  for (const uint64_t rate : {1ul, 3ul, 7ul, 52'428'801ul, 599'999'993ul}) {
    TokenBucket bucket(rate, 1, 0);
    const uint64_t debt = rate * (kDays / kSecond);
    bucket.Take(debt);  // one was there, and one is needed to open
    for (uint64_t now_ns = 0; now_ns < kDays; now_ns += 1 + random() % (600 * kSecond)) {
      const Wide missing = Wide{debt} * kSecond - Wide{now_ns} * rate;
      ASSERT_EQ(bucket.WaitNs(now_ns), static_cast<uint64_t>((missing + rate - 1) / rate));
    }
    EXPECT_EQ(bucket.WaitNs(kDays - 1), 1u);
    EXPECT_EQ(bucket.WaitNs(kDays), 0u);
  }
}

// The promise itself, against a plain account: never more than capacity + rate × t + one taking,
// and whoever is always thirsty gets at least rate × t.
TEST(TokenBucket, GivesOutWhatItPromisesAtRandomTimes) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 200; ++round) {
    const uint64_t rate = 1 + random() % 1'000'000;
    const uint64_t capacity = 1 + random() % 100'000;
    const uint64_t greatest = 1 + random() % 200'000;
    TokenBucket bucket(rate, capacity, 0);
    uint64_t now_ns = 0;
    uint64_t given = 0;
    for (int step = 0; step < 500; ++step) {
      now_ns += bucket.WaitNs(now_ns);
      ASSERT_EQ(bucket.WaitNs(now_ns), 0u);
      const double flowed = static_cast<double>(rate) * static_cast<double>(now_ns) / 1e9;
      ASSERT_GE(static_cast<double>(given) + 1.0, flowed) << "thirsty, and yet too little";
      const uint64_t tokens = 1 + random() % greatest;
      bucket.Take(tokens);
      given += tokens;
      ASSERT_LE(static_cast<double>(given), static_cast<double>(capacity + tokens) + flowed + 1.0);
    }
  }
}

}  // namespace
}  // namespace pacsvisor
