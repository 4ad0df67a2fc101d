// A processor's look at its clock: keeps the longest gap and, on processor 0, the millisecond
// counter. Every loop that can take longer than some microseconds beats inside.
#pragma once

#include <atomic>
#include <cstdint>

#include "guests/dirtier/control_block.h"
#include "guests/freestanding/cpu.h"

namespace pacsvisor::dirtier {

// Words that several processors touch, each access by itself.
inline uint64_t LoadShared(uint64_t& word) {
  return std::atomic_ref(word).load(std::memory_order_relaxed);
}
inline void StoreShared(uint64_t& word, uint64_t value) {
  std::atomic_ref(word).store(value, std::memory_order_relaxed);
}
inline uint64_t TakeShared(uint64_t& word) {
  return std::atomic_ref(word).exchange(0, std::memory_order_relaxed);
}

// One a processor; called by that processor only. Processor 0 takes the gap records at any time: a
// gap that ends at that very moment may be counted on either side.
class Heartbeat {
 public:
  // `counter_ms` null: this processor keeps no counter.
  void Start(uint64_t tsc_hz, uint64_t tsc_start, GapRecord* gaps, uint64_t* counter_ms) {
    gaps_ = gaps;
    counter_ms_ = counter_ms;
    tsc_start_ = tsc_start;
    cycles_per_ms_ = tsc_hz / 1000;
    cycles_per_100_us_ = tsc_hz / 10000;
    last_ = tsc_start;
    next_ms_ = tsc_start;
  }

  // A processor that begins later than the clock: what was before is no gap.
  void Arrive() { last_ = ReadTsc(); }

  // Returns the TSC.
  uint64_t Beat() {
    const uint64_t now = ReadTsc();
    // Two's complement: a TSC that went back gives a negative gap.
    const auto gap = static_cast<int64_t>(now - last_);
    if (gap < 0) {
      NoteStepBack(gap);
    } else if (static_cast<uint64_t>(gap) > cycles_per_100_us_ ||
               static_cast<uint64_t>(gap) > LoadShared(gaps_->longest)) {
      NoteGap(static_cast<uint64_t>(gap), now);
    }
    last_ = now;
    if (counter_ms_ != nullptr && now >= next_ms_) Tick(now);
    return now;
  }

 private:
  static void Increment(uint64_t& word) { StoreShared(word, LoadShared(word) + 1); }

  void NoteStepBack(int64_t gap) {
    Increment(gaps_->backwards);
    // The counter goes on from where it was.
    tsc_start_ += static_cast<uint64_t>(gap);
    next_ms_ += static_cast<uint64_t>(gap);
  }

  void NoteGap(uint64_t gap, uint64_t now) {
    if (gap > LoadShared(gaps_->longest)) {
      StoreShared(gaps_->longest, gap);
      StoreShared(gaps_->longest_at, now);
    }
    if (gap > cycles_per_100_us_) Increment(gaps_->over_100_us);
    if (gap > cycles_per_ms_) Increment(gaps_->over_1_ms);
    if (gap > 10 * cycles_per_ms_) Increment(gaps_->over_10_ms);
  }

  void Tick(uint64_t now) {
    const uint64_t ms = (now - tsc_start_) / cycles_per_ms_;
    StoreShared(*counter_ms_, ms);
    next_ms_ = tsc_start_ + (ms + 1) * cycles_per_ms_;
  }

  GapRecord* gaps_ = nullptr;
  uint64_t* counter_ms_ = nullptr;
  uint64_t tsc_start_ = 0;
  uint64_t cycles_per_ms_ = 0;
  uint64_t cycles_per_100_us_ = 0;
  uint64_t last_ = 0;
  uint64_t next_ms_ = 0;
};

}  // namespace pacsvisor::dirtier
