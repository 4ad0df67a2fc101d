#include "vmm/cli/progress_bar.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/duration.h"
#include "vmm/cli/byte_count.h"

namespace pacsvisor {
namespace {

constexpr size_t kBarColumns = 12;  // so that all of a line fits 80 columns
constexpr size_t kDefaultColumns = 80;
constexpr std::string_view kEraseLine = "\r\x1b[K";  // ECMA-48: EL
constexpr uint64_t kNsPerSecond = 1'000'000'000;

size_t ColumnsOf(int fd) {
  winsize size = {};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kDefaultColumns;
}

std::function<void(std::string_view)> WriterTo(std::FILE* stream) {
  if (isatty(fileno(stream)) == 0) {
    return nullptr;
  }
  return [stream](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stream);
    std::fflush(stream);
  };
}

std::string Bar(double done) {
  const double share = std::min(1.0, done);
  const auto filled = static_cast<size_t>(share * kBarColumns);
  return fmt::format("[{}{}] {:3.0f}%", std::string(filled, '#'),
                     std::string(kBarColumns - filled, '-'), share * 100);
}

std::string TimeLeft(uint64_t seconds) {
  constexpr uint64_t kNoForecast = 100 * 3600;
  return seconds >= kNoForecast ? ""
         : seconds < 100        ? fmt::format("  {} s left", seconds)
                                : fmt::format("  {} left", FormatDuration(seconds * kNsPerSecond));
}

uint64_t RateOf(uint64_t bytes, uint64_t elapsed_ns) {
  return elapsed_ns == 0 ? 0
                         : static_cast<uint64_t>(static_cast<double>(bytes) * kNsPerSecond /
                                                 static_cast<double>(elapsed_ns));
}

}  // namespace

std::string ProgressLine(std::string_view what, uint64_t bytes_done, uint64_t bytes_total,
                         uint64_t rate_bytes, size_t width) {
  std::string line(what.substr(0, width));
  // From the first part that does not fit all are left out: half a number is a wrong one.
  bool fits = true;
  const auto add = [&](const std::string& part) {
    fits = fits && line.size() + part.size() <= width;
    line += fits ? part : "";
  };
  if (bytes_total != 0) {
    add("  " + Bar(static_cast<double>(bytes_done) / static_cast<double>(bytes_total)));
    add(fmt::format("  {} of {}", FormatBytes(bytes_done), FormatBytes(bytes_total)));
  } else if (bytes_done != 0) {
    add("  " + FormatBytes(bytes_done));
  }
  if (rate_bytes != 0) {
    add(fmt::format("  {}/s", FormatBytes(rate_bytes)));
    if (bytes_total > bytes_done) {
      add(TimeLeft((bytes_total - bytes_done) / rate_bytes));
    }
  }
  return line;
}

ProgressBar::ProgressBar() : ProgressBar(WriterTo(stderr), ColumnsOf(STDERR_FILENO), MonotonicNs) {}

ProgressBar::ProgressBar(std::function<void(std::string_view)> write, size_t width,
                         std::function<uint64_t()> now_ns)
    : write_(std::move(write)),
      width_(width),
      now_ns_(std::move(now_ns)),
      start_ns_(now_ns_()),
      phase_ns_(start_ns_) {}

void ProgressBar::Show(std::string_view what, uint64_t bytes_done, uint64_t bytes_total) {
  if (!write_) {
    return;
  }
  const uint64_t now_ns = now_ns_();
  if (what != what_) {
    what_ = what;
    phase_ns_ = now_ns;
    phase_bytes_ = bytes_done;
    shown_ns_ = 0;
  }
  if (now_ns - start_ns_ < kFirstNs || (shown_ns_ != 0 && now_ns - shown_ns_ < kEveryNs)) {
    return;
  }
  shown_ns_ = now_ns;
  visible_ = true;
  // The last column stays free: writing it would move some terminals to the next line.
  write_(std::string(kEraseLine) +
         ProgressLine(what_, bytes_done, bytes_total,
                      RateOf(bytes_done - std::min(phase_bytes_, bytes_done), now_ns - phase_ns_),
                      width_ - 1));
}

void ProgressBar::Clear() {
  if (std::exchange(visible_, false)) {
    write_(kEraseLine);
    shown_ns_ = 0;
  }
}

}  // namespace pacsvisor
