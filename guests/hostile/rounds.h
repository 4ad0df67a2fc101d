// Attacks at random, by several processors at once, round by round.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {

inline constexpr unsigned kMaxProcessors = 16;
inline constexpr unsigned kAttacksPerRound = 3;

// What all processors share. Processor 0 begins rounds and serves; the others wait for it.
class Rounds {
 public:
  constexpr Rounds() = default;

  // Before other processors start.
  void Prepare(const Functions& functions, const MemoryEnds& memory, uint64_t arenas,
               unsigned processors);
  unsigned processors() const { return processors_; }

  // Processor 0: all of them attack; returns when the last has finished.
  void Fight(uint64_t seed);
  // Processor 0, while the others wait. One attack on every device in turn; how often a refusal was
  // seen.
  uint64_t RunAlone(const Attack& attack, uint64_t seed);
  // Processor 0, while the others wait: every device as it was, then used. Empty: all served.
  std::string_view Serve(uint64_t number, uint64_t seed);

  // The device status of function `index` when the last Serve had done with it.
  uint8_t status(unsigned index) const { return statuses_[index]; }
  unsigned functions() const { return functions_->count; }

  // The other processors; does not return.
  [[noreturn]] void Follow(unsigned processor);

 private:
  Battle MakeBattle(unsigned processor, uint64_t seed);
  void Quieten(Type type);
  void AttackAtRandom(unsigned processor, uint64_t seed);

  const Functions* functions_ = nullptr;
  MemoryEnds memory_;
  Arena arenas_[kMaxProcessors];
  unsigned processors_ = 1;
  uint8_t statuses_[kMaxFunctions] = {};
  uint64_t seed_ = 0;
  std::atomic<uint64_t> round_ = 0;
  std::atomic<uint64_t> finished_ = 0;
};

}  // namespace pacsvisor::hostile
