// One processor's share of a run: one page write a step, at the rate asked for.
#pragma once

#include <atomic>
#include <cstdint>

#include "guests/dirtier/control_block.h"

namespace pacsvisor::dirtier {

struct RunLimits {
  uint64_t writes_per_second = 0;  // 0: as fast as it can
  uint64_t cycles = 0;             // 0: no limit
  uint64_t writes = 0;             // 0: no limit
};

enum class RunEnd : uint32_t { kTime, kWrites, kStop };

// Begin, RequestStop, finished and Acknowledge belong to processor 0; Step to the worker's own.
class Worker {
 public:
  void Prepare(ControlBlock* control, uint64_t tsc_hz) {
    control_ = control;
    tsc_hz_ = tsc_hz;
  }

  // Only when idle. `record` is this run's, with its plan filled in and no writes.
  void Begin(RunRecord* record, const RunLimits& limits);
  void RequestStop();
  bool idle() const { return state_.load(std::memory_order_acquire) == State::kIdle; }
  bool finished() const { return state_.load(std::memory_order_acquire) == State::kFinished; }

  // What a finished run came to; makes the worker idle.
  struct Outcome {
    const RunRecord* record;
    uint64_t cycles;
    RunEnd end;
  };
  Outcome Acknowledge();

  // At most one page write. `now`: this processor's TSC.
  void Step(uint64_t now);

 private:
  enum class State : uint32_t { kIdle, kStarting, kRunning, kStopping, kFinished };

  void Finish(uint64_t now, RunEnd end);
  bool IsDue(uint64_t now);
  void WriteOnePage();

  std::atomic<State> state_ = State::kIdle;

  // Constant after Prepare.
  ControlBlock* control_ = nullptr;
  uint64_t tsc_hz_ = 0;

  // Handed over by state_.
  RunRecord* record_ = nullptr;
  RunLimits limits_;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  RunEnd reason_ = RunEnd::kStop;

  // The worker's processor only: when the next write is due, in cycles plus a fraction of
  // 1 / writes_per_second.
  uint64_t due_ = 0;
  uint64_t due_fraction_ = 0;
};

}  // namespace pacsvisor::dirtier
