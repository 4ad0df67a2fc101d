// Logging to standard error by level (spdlog inside log.cc only). What a guest can trigger goes
// through a RateLimitedLog, so that a guest cannot fill the host's logs. A standard error that
// takes nothing (a pipe that nobody reads, a terminal that is stopped) loses lines and holds nobody
// up; so does a full disk. Threads: any.
#pragma once

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include "vmm/base/result.h"

namespace pacsvisor {

enum class LogLevel { kTrace, kDebug, kInfo, kWarning, kError, kOff };

// Names as written on the command line: trace, debug, info, warning, error, off.
Result<LogLevel> ParseLogLevel(std::string_view name);
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);
// Prefix of each line, usually the machine's name; set before threads start.
void SetLogName(std::string_view name);

namespace internal {
void LogText(LogLevel level, std::string_view text);
}  // namespace internal

template <typename... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level)) {
    internal::LogText(level, fmt::format(format, std::forward<Args>(args)...));
  }
}

// Lets `kBurst` lines through, then one a second, which says how many were left out.
class RateLimitedLog {
 public:
  static constexpr uint64_t kBurst = 5;

  template <typename... Args>
  void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
    uint64_t left_out = 0;
    if (LogEnabled(level) && Admit(&left_out)) {
      std::string text = fmt::format(format, std::forward<Args>(args)...);
      if (left_out != 0) {
        text += fmt::format(" ({} like this left out)", left_out);
      }
      internal::LogText(level, text);
    }
  }
  // How many times Log was called, let through or not.
  uint64_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  bool Admit(uint64_t* left_out);

  std::atomic<uint64_t> count_ = 0;
  std::atomic<uint64_t> left_out_ = 0;
  std::atomic<uint64_t> next_ns_ = 0;
};

}  // namespace pacsvisor
