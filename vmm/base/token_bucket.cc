#include "vmm/base/token_bucket.h"

#include <algorithm>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kPartsPerToken = 1'000'000'000;

}  // namespace

TokenBucket::TokenBucket(uint64_t tokens_per_second, uint64_t capacity_tokens, uint64_t now_ns)
    : rate_(tokens_per_second),
      capacity_(Level{capacity_tokens} * kPartsPerToken),
      level_(capacity_),
      last_ns_(now_ns) {
  CHECK(tokens_per_second >= 1 && tokens_per_second <= kMaxTokens && capacity_tokens >= 1 &&
            capacity_tokens <= kMaxTokens,
        "a bucket of {} tokens, {} a second", capacity_tokens, tokens_per_second);
}

void TokenBucket::Refill(uint64_t now_ns) {
  if (now_ns <= last_ns_) {
    return;
  }
  level_ = std::min(capacity_, level_ + Level{now_ns - last_ns_} * Level{rate_});
  last_ns_ = now_ns;
}

uint64_t TokenBucket::WaitNs(uint64_t now_ns) {
  Refill(now_ns);
  // A whole token: a bucket that serves parts of one would be asked a billion times for each.
  const Level missing = Level{kPartsPerToken} - level_;
  return missing <= 0 ? 0 : static_cast<uint64_t>((missing + Level{rate_} - 1) / Level{rate_});
}

void TokenBucket::Take(uint64_t tokens) {
  CHECK(tokens <= kMaxTokens, "{} tokens at once", tokens);
  // A debt has a floor, which no sum of takings that were allowed comes near.
  constexpr Level kFloor = -(Level{1} << 100);
  level_ = std::max(kFloor, level_ - Level{tokens} * kPartsPerToken);
}

}  // namespace pacsvisor
