#include "vmm/base/log.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

class LogTest : public testing::Test {
 protected:
  void SetUp() override { SetLogLevel(LogLevel::kInfo); }
  void TearDown() override { SetLogLevel(LogLevel::kInfo); }
};

uint64_t CountLines(const std::string& text, const std::string& part) {
  uint64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// The sum of all "(N like this left out)".
uint64_t LeftOut(const std::string& text) {
  const std::regex pattern("\\((\\d+) like this left out\\)");
  uint64_t sum = 0;
  for (std::sregex_iterator match(text.begin(), text.end(), pattern), end; match != end; ++match) {
    sum += std::stoull((*match)[1]);
  }
  return sum;
}

TEST_F(LogTest, LinesBelowTheLevelAreNotMade) {
  testing::internal::CaptureStderr();
  Log(LogLevel::kDebug, "hidden");
  Log(LogLevel::kWarning, "shown {}", 1);
  SetLogLevel(LogLevel::kOff);
  Log(LogLevel::kError, "off");
  const std::string output = testing::internal::GetCapturedStderr();
  EXPECT_EQ(CountLines(output, "hidden") + CountLines(output, "off"), 0u);
  EXPECT_EQ(CountLines(output, "shown 1"), 1u);
}

TEST_F(LogTest, LevelsAreReadByName) {
  EXPECT_EQ(*ParseLogLevel("warning"), LogLevel::kWarning);
  EXPECT_EQ(*ParseLogLevel("off"), LogLevel::kOff);
  const Result<LogLevel> wrong = ParseLogLevel("loud");
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message().find("'loud'"), std::string::npos);
}

TEST_F(LogTest, AFloodIsCutToABurstAndOneLineASecond) {
  constexpr uint64_t kCalls = 10'000;
  RateLimitedLog limited;
  testing::internal::CaptureStderr();
  const uint64_t begin_ns = MonotonicNs();
  for (uint64_t i = 0; i < kCalls; ++i) {
    limited.Log(LogLevel::kWarning, "flood");
  }
  const uint64_t seconds = (MonotonicNs() - begin_ns) / 1'000'000'000;
  const std::string output = testing::internal::GetCapturedStderr();
  EXPECT_EQ(limited.count(), kCalls);
  EXPECT_GE(CountLines(output, "flood"), RateLimitedLog::kBurst);
  EXPECT_LE(CountLines(output, "flood"), RateLimitedLog::kBurst + 2 + seconds);
}

TEST_F(LogTest, AFloodFromSeveralThreadsClaimsNoLineTwice) {
  constexpr uint64_t kCallsEach = 5'000;
  constexpr uint64_t kThreads = 4;
  RateLimitedLog limited;
  testing::internal::CaptureStderr();
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < kCallsEach; ++i) {
        limited.Log(LogLevel::kWarning, "flood");
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  const std::string output = testing::internal::GetCapturedStderr();
  EXPECT_EQ(limited.count(), kCallsEach * kThreads);
  EXPECT_LE(CountLines(output, "flood") + LeftOut(output), kCallsEach * kThreads);
}

}  // namespace
}  // namespace pacsvisor
