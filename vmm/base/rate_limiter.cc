#include "vmm/base/rate_limiter.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
// A debt of longer is asked for again when this is over.
constexpr uint64_t kLongestWaitNs = 3600 * kNsPerSecond;

void MakeBucket(std::optional<uint64_t> per_second, uint64_t now_ns,
                std::optional<TokenBucket>& bucket) {
  if (per_second) {
    bucket.emplace(*per_second, RateLimiter::BurstOf(*per_second), now_ns);
  }
}

}  // namespace

Result<std::shared_ptr<RateLimiter>> RateLimiter::Create(const RateLimits& limits) {
  return Create(limits, MonotonicNs);
}

Result<std::shared_ptr<RateLimiter>> RateLimiter::Create(const RateLimits& limits, Clock clock) {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) {
    return Error::FromErrno(errno, "cannot create a timer for a rate limit");
  }
  return std::shared_ptr<RateLimiter>(new RateLimiter(limits, std::move(clock), std::move(timer)));
}

RateLimiter::RateLimiter(const RateLimits& limits, Clock clock, UniqueFd timer)
    : clock_(std::move(clock)), timer_(std::move(timer)) {
  const uint64_t now_ns = clock_();
  MakeBucket(limits.bytes_per_second, now_ns, bytes_);
  MakeBucket(limits.operations_per_second, now_ns, operations_);
}

void RateLimiter::ConsumeTimer() const {
  uint64_t expirations = 0;
  // Nothing to read: the timer was set anew since it fired.
  [[maybe_unused]] const ssize_t size = ::read(timer_.get(), &expirations, sizeof(expirations));
}

bool RateLimiter::Admit() {
  const uint64_t now_ns = clock_();
  uint64_t wait_ns = bytes_ ? bytes_->WaitNs(now_ns) : 0;
  if (operations_) {
    wait_ns = std::max(wait_ns, operations_->WaitNs(now_ns));
  }
  if (wait_ns != 0) {
    Arm(wait_ns);
  }
  return wait_ns == 0;
}

void RateLimiter::Charge(uint64_t bytes, uint64_t operations) {
  if (bytes_) {
    bytes_->Take(std::min(bytes, TokenBucket::kMaxTokens));
  }
  if (operations_) {
    operations_->Take(std::min(operations, TokenBucket::kMaxTokens));
  }
}

void RateLimiter::Arm(uint64_t wait_ns) const {
  const uint64_t wait = std::min(wait_ns, kLongestWaitNs);
  const itimerspec once = {.it_interval = {},
                           .it_value = {.tv_sec = static_cast<time_t>(wait / kNsPerSecond),
                                        .tv_nsec = static_cast<long>(wait % kNsPerSecond)}};
  const int armed = ::timerfd_settime(timer_.get(), 0, &once, nullptr);
  CHECK(armed == 0, "timerfd_settime: errno {}", errno);
}

}  // namespace pacsvisor
