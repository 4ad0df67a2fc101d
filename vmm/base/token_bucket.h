// A token bucket: so many tokens a second flow in, up to a capacity; who takes may go below zero
// once, and then waits until the debt is paid. Over any time t at most
//
//   capacity + rate × t + the last taking
//
// tokens go out, and never less than were asked for and there. Pure arithmetic: the clock is handed
// in. It counts in billionths of a token, so that nothing is rounded away however long it runs.
// Threads: one at a time.
#pragma once

#include <cstdint>

namespace pacsvisor {

class TokenBucket {
 public:
  // Of rate, capacity and a single taking: nothing below overflows within a clock of 64 bits.
  static constexpr uint64_t kMaxTokens = uint64_t{1} << 50;

  // Full at `now_ns`. Rate and capacity are 1 to kMaxTokens.
  TokenBucket(uint64_t tokens_per_second, uint64_t capacity_tokens, uint64_t now_ns);

  // How long until Take is allowed: 0 at once. A clock that stands still or goes back brings no
  // tokens.
  uint64_t WaitNs(uint64_t now_ns);
  // Takes up to kMaxTokens. Whoever needs the limit kept asks WaitNs first; what cannot be refused
  // is taken all the same, and paid by those who ask.
  void Take(uint64_t tokens);

 private:
  // -Wpedantic knows no other way to say it.
  __extension__ using Level = __int128;
  void Refill(uint64_t now_ns);

  const uint64_t rate_;   // tokens a second: billionths of a token a nanosecond
  const Level capacity_;  // in billionths of a token, as level_
  Level level_;
  uint64_t last_ns_;
};

}  // namespace pacsvisor
