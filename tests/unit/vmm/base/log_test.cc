#include "vmm/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

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

// Standard error as a pipe that nobody empties: whoever logs goes on, and the first line that is
// taken again says what was lost. The deadline of a test that waits here is the runner's.
TEST_F(LogTest, AReaderThatHangsHoldsNobodyUp) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const int before = ::dup(STDERR_FILENO);
  ASSERT_EQ(::dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
  for (int i = 0; i < 2000; ++i) {
    Log(LogLevel::kError, "line {} {}", i, std::string(100, 'x'));
  }
  std::string text(1 << 20, '\0');
  const ssize_t size = ::read(ends[0], text.data(), text.size());
  Log(LogLevel::kError, "after {}", std::string(5000, 'y'));
  std::string last(1 << 20, '\0');
  const ssize_t last_size = ::read(ends[0], last.data(), last.size());
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(ends[0]);
  ::close(ends[1]);
  ASSERT_GT(size, 0);
  text.resize(static_cast<size_t>(size));
  const uint64_t written = CountLines(text, "line ");
  EXPECT_GT(written, 100u);
  EXPECT_LT(written, 2000u);
  EXPECT_EQ(text.back(), '\n') << "whole lines only";
  ASSERT_GT(last_size, 0);
  last.resize(static_cast<size_t>(last_size));
  EXPECT_NE(last.find("after yyy"), std::string::npos);
  EXPECT_NE(last.find("(" + std::to_string(2000 - written) + " lines before this one were lost"),
            std::string::npos)
      << last;
  EXPECT_LE(last_size, 4096) << "a line is cut to what a pipe takes whole";
}

// Nothing more than the lines is lost where they cannot be written: a full disk, no descriptor.
TEST_F(LogTest, AFullDiskAndAClosedDescriptorEndNothing) {
  const int before = ::dup(STDERR_FILENO);
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  ASSERT_EQ(::dup2(full, STDERR_FILENO), STDERR_FILENO);
  for (int i = 0; i < 100; ++i) {
    Log(LogLevel::kError, "nowhere");
  }
  ::close(STDERR_FILENO);
  Log(LogLevel::kError, "nowhere");
  ::dup2(before, STDERR_FILENO);
  ::close(before);
  ::close(full);
  testing::internal::CaptureStderr();
  Log(LogLevel::kError, "here again");
  EXPECT_EQ(CountLines(testing::internal::GetCapturedStderr(), "here again"), 1u);
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
