#include "vmm/base/log.h"

#include <poll.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "vmm/base/clock.h"
#include "vmm/base/thread_annotations.h"

namespace pacsvisor {
namespace {

// Of a text, with room for time, name and what was lost: PIPE_BUF (4096) is written to a pipe whole
// or not at all, and poll(2) tells beforehand.
constexpr size_t kMaxTextBytes = 3500;

Mutex g_write_mutex;
uint64_t g_lost_lines GUARDED_BY(g_write_mutex) = 0;

// A terminal that somebody else is just writing to takes nothing for that moment.
constexpr int kTerminalMomentMs = 20;

// No: standard error is a pipe that nobody empties, or a terminal that is stopped. Whoever logs
// holds up a device, and must not wait for it but once.
bool StandardErrorTakesALine(bool lost_before) {
  pollfd entry{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
  return ::poll(&entry, 1, lost_before ? 0 : kTerminalMomentMs) != 0;
}

std::atomic<int> g_level = static_cast<int>(LogLevel::kInfo);

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made = std::make_shared<spdlog::logger>(
        "pacsvisor", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_level(spdlog::level::trace);  // g_level decides, before the text is made
    made->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  CHECK(false, "log level {}", static_cast<int>(level));
}

}  // namespace

Result<LogLevel> ParseLogLevel(std::string_view name) {
  constexpr std::pair<std::string_view, LogLevel> kNames[] = {
      {"trace", LogLevel::kTrace},     {"debug", LogLevel::kDebug}, {"info", LogLevel::kInfo},
      {"warning", LogLevel::kWarning}, {"error", LogLevel::kError}, {"off", LogLevel::kOff}};
  for (const auto& [known, level] : kNames) {
    if (known == name) {
      return level;
    }
  }
  return Error::Make(ErrorCode::kInvalidArgument,
                     "'{}' is no log level: use trace, debug, info, warning, error or off", name);
}

void SetLogLevel(LogLevel level) { g_level.store(static_cast<int>(level)); }

bool LogEnabled(LogLevel level) {
  return static_cast<int>(level) >= g_level.load(std::memory_order_relaxed);
}

void SetLogName(std::string_view name) {
  Logger().set_pattern(fmt::format("%Y-%m-%d %H:%M:%S.%e %^%l%$ {}: %v", name));
}

namespace internal {

void LogText(LogLevel level, std::string_view text) {
  // A library that throws is caught at the line that calls it; a log that cannot be written is
  // lost.
  const MutexLock lock(g_write_mutex);
  if (!StandardErrorTakesALine(g_lost_lines > 0)) {
    ++g_lost_lines;
    return;
  }
  try {
    std::string line(text.substr(0, kMaxTextBytes));
    if (const uint64_t lost = std::exchange(g_lost_lines, 0); lost != 0) {
      line +=
          fmt::format(" ({} lines before this one were lost: nobody read standard error)", lost);
    }
    Logger().log(ToSpdlog(level), spdlog::string_view_t(line));
  } catch (...) {
  }
}

}  // namespace internal

bool RateLimitedLog::Admit(uint64_t* left_out) {
  const uint64_t index = count_.fetch_add(1, std::memory_order_relaxed);
  if (index < kBurst) {
    return true;
  }
  const uint64_t now_ns = MonotonicNs();
  uint64_t next_ns = next_ns_.load(std::memory_order_relaxed);
  if (now_ns < next_ns || !next_ns_.compare_exchange_strong(next_ns, now_ns + 1'000'000'000)) {
    left_out_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *left_out = left_out_.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace pacsvisor
