// How far a long task is, on one line of a terminal that is written over: share, bytes, rate, time
// left. Nothing is shown of what takes less than a second, nor where there is no terminal.
//
//   copying  [#####-------]  45%  1.80 GiB of 4.00 GiB  410 MiB/s  5 s left
//
// Threads: one.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace pacsvisor {

// The line itself, at most `width` columns: what does not fit is left out. A total of 0 is one that
// is not known; a rate of 0, in bytes a second, likewise.
std::string ProgressLine(std::string_view what, uint64_t bytes_done, uint64_t bytes_total,
                         uint64_t rate_bytes, size_t width);

class ProgressBar {
 public:
  static constexpr uint64_t kFirstNs = 1'000'000'000;  // from the beginning to the first line
  static constexpr uint64_t kEveryNs = 100'000'000;

  // On standard error, when that is a terminal.
  ProgressBar();
  // For tests.
  ProgressBar(std::function<void(std::string_view)> write, size_t width,
              std::function<uint64_t()> now_ns);
  ~ProgressBar() { Clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // As often as one likes. Another `what` is another phase, with a rate of its own.
  void Show(std::string_view what, uint64_t bytes_done, uint64_t bytes_total);
  // Takes the line away: before anything else is printed.
  void Clear();

 private:
  const std::function<void(std::string_view)> write_;  // none: nothing is shown
  const size_t width_;
  const std::function<uint64_t()> now_ns_;
  const uint64_t start_ns_;
  std::string what_;
  uint64_t phase_ns_;
  uint64_t phase_bytes_ = 0;  // done when the phase began
  uint64_t shown_ns_ = 0;
  bool visible_ = false;
};

}  // namespace pacsvisor
