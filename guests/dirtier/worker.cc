#include "guests/dirtier/worker.h"

#include "guests/freestanding/cpu.h"

namespace pacsvisor::dirtier {
namespace {

// A writer that was held up catches up with a twentieth of a second, no more: what a pause
// prevented is not done in one burst behind it.
constexpr uint64_t kCatchUpPerSecond = 20;

}  // namespace

void Worker::Begin(RunRecord* record, const RunLimits& limits) {
  record_ = record;
  limits_ = limits;
  state_.store(State::kStarting, std::memory_order_release);
}

void Worker::RequestStop() {
  for (const State from : {State::kStarting, State::kRunning}) {
    State expected = from;
    if (state_.compare_exchange_strong(expected, State::kStopping)) return;
  }
}

Worker::Outcome Worker::Acknowledge() {
  const Outcome outcome{record_, end_ - begin_, reason_};
  state_.store(State::kIdle, std::memory_order_relaxed);
  return outcome;
}

void Worker::Step(uint64_t now) {
  switch (state_.load(std::memory_order_acquire)) {
    case State::kIdle:
    case State::kFinished:
      SpinPause();
      return;
    case State::kStarting: {
      begin_ = due_ = now;
      due_fraction_ = 0;
      State expected = State::kStarting;
      state_.compare_exchange_strong(expected, State::kRunning);
      return;
    }
    case State::kStopping:
      Finish(now, RunEnd::kStop);
      return;
    case State::kRunning:
      break;
  }
  // Signed: a TSC that went back does not end the run.
  if (limits_.cycles != 0 &&
      static_cast<int64_t>(now - begin_) >= static_cast<int64_t>(limits_.cycles)) {
    return Finish(now, RunEnd::kTime);
  }
  if (limits_.writes != 0 && record_->writes >= limits_.writes) {
    return Finish(now, RunEnd::kWrites);
  }
  if (IsDue(now)) {
    WriteOnePage();
  } else {
    SpinPause();
  }
}

void Worker::Finish(uint64_t now, RunEnd end) {
  end_ = now;
  reason_ = end;
  state_.store(State::kFinished, std::memory_order_release);
}

bool Worker::IsDue(uint64_t now) {
  const uint64_t rate = limits_.writes_per_second;
  if (rate == 0) return true;
  // No write is due later than in a second: otherwise the TSC went back.
  if (now < due_ && due_ - now <= tsc_hz_) return false;
  const uint64_t catch_up = tsc_hz_ / kCatchUpPerSecond;
  if (now < due_) due_ = now;
  if (now - due_ > catch_up) due_ = now - catch_up;
  due_ += tsc_hz_ / rate;
  due_fraction_ += tsc_hz_ % rate;
  if (due_fraction_ >= rate) {
    due_fraction_ -= rate;
    ++due_;
  }
  return true;
}

void Worker::WriteOnePage() {
  const uint64_t ordinal = record_->writes + 1;
  const uint64_t page = PageOfWrite(record_->plan, ordinal);
  WritePage(record_->plan, page, ordinal, AtAddress<uint64_t>(AreaPageAddress(*control_, page)));
  std::atomic_ref(record_->writes).store(ordinal, std::memory_order_release);
}

}  // namespace pacsvisor::dirtier
