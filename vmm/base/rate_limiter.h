// What a device may pass in a second, in bytes and in operations: a token bucket for each that is
// limited, and a timer for the device's event loop to wait on while one is empty.
//
// The bucket holds what a tenth of a second brings: short enough that a burst is not felt next
// door, long enough for the timer. A device asks Admit before it takes a request and charges what
// it took: the last one before the limit may go over it, by its own size, and the next ones wait
// for that.
//
// It belongs to the host's side of a disk or a card and outlives a guest that resets itself: who
// could have a full bucket by a reset would have no limit.
// Threads: one at a time (under the device's queue lock); timer_fd: any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "vmm/base/result.h"
#include "vmm/base/token_bucket.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

struct RateLimits {
  std::optional<uint64_t> bytes_per_second;  // 1 to TokenBucket::kMaxTokens
  std::optional<uint64_t> operations_per_second;

  bool any() const { return bytes_per_second.has_value() || operations_per_second.has_value(); }
};

class RateLimiter {
 public:
  using Clock = std::function<uint64_t()>;  // nanoseconds

  static constexpr uint64_t kBurstsPerSecond = 10;
  static constexpr uint64_t BurstOf(uint64_t per_second) {
    return per_second < kBurstsPerSecond ? 1 : per_second / kBurstsPerSecond;
  }

  // The host's monotonic clock. Errors: the host's, for the timer.
  static Result<std::shared_ptr<RateLimiter>> Create(const RateLimits& limits);
  static Result<std::shared_ptr<RateLimiter>> Create(const RateLimits& limits, Clock clock);

  // Readable (level triggered) when it is worth asking Admit again after it said no.
  int timer_fd() const { return timer_.get(); }
  void ConsumeTimer() const;

  // Whether one more may be taken now. No: the timer is set.
  [[nodiscard]] bool Admit();
  // What was taken. What cannot wait is charged without asking.
  void Charge(uint64_t bytes, uint64_t operations);

 private:
  RateLimiter(const RateLimits& limits, Clock clock, UniqueFd timer);
  void Arm(uint64_t wait_ns) const;

  const Clock clock_;
  const UniqueFd timer_;
  std::optional<TokenBucket> bytes_;
  std::optional<TokenBucket> operations_;
};

}  // namespace pacsvisor
