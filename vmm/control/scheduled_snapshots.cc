#include "vmm/control/scheduled_snapshots.h"

#include <chrono>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/duration.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kPollNs = 200'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr char kMessage[] = "scheduled";

uint64_t Left(uint64_t deadline_ns) {
  const uint64_t now_ns = MonotonicNs();
  return deadline_ns > now_ns ? deadline_ns - now_ns : 0;
}

}  // namespace

ScheduledSnapshots::ScheduledSnapshots(MachineControl& machine, ScheduleOptions options)
    : machine_(machine),
      options_(options),
      schedule_(options.every_ns, options.newest_age_ns, MonotonicNs()) {}

ScheduledSnapshots::~ScheduledSnapshots() { Stop(); }

Status ScheduledSnapshots::Start() {
  thread_ = TRY(StartThread(ThreadKind::kControl, "schedule", [this] { Loop(); }));
  return {};
}

void ScheduledSnapshots::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

ScheduleDescription ScheduledSnapshots::Describe() {
  MutexLock lock(mutex_);
  return {.every_ms = options_.every_ns / kNsPerMs,
          .next_in_ms = Left(schedule_.due_ns()) / kNsPerMs,
          .failures = schedule_.failures(),
          .last_error = schedule_.last_error()};
}

bool ScheduledSnapshots::WaitUntil(uint64_t deadline_ns) {
  MutexLock lock(mutex_);
  while (!stopping_ && Left(deadline_ns) > 0) {
    changed_.wait_for(mutex_, std::chrono::nanoseconds(Left(deadline_ns)));
  }
  return !stopping_;
}

void ScheduledSnapshots::Loop() {
  while (true) {
    uint64_t due_ns = 0;
    {
      MutexLock lock(mutex_);
      due_ns = schedule_.due_ns();
    }
    if (!WaitUntil(due_ns)) {
      return;
    }
    TakeOne();
  }
}

void ScheduledSnapshots::TakeOne() {
  const uint64_t begin_ns = MonotonicNs();
  const Result<uint64_t> number =
      machine_.StartSnapshot({.message = kMessage, .quiesce = options_.quiesce, .scheduled = true});
  if (!number.ok() && number.error().code() == ErrorCode::kBusy) {
    MutexLock lock(mutex_);
    schedule_.Busy(MonotonicNs());
    return;
  }
  if (!number.ok()) {
    Failed(number.error());
    return;
  }
  const std::optional<SnapshotProgress> end = AwaitEnd(*number);
  if (end && end->error) {
    Failed(*end->error);
  } else if (end) {
    for (const std::string& warning : end->result->warnings) {
      Log(LogLevel::kWarning, "scheduled snapshot {}: {}", *number, warning);
    }
    MutexLock lock(mutex_);
    schedule_.Done(begin_ns);
  }
}

std::optional<SnapshotProgress> ScheduledSnapshots::AwaitEnd(uint64_t number) {
  while (true) {
    Result<SnapshotProgress> progress = machine_.SnapshotStatus(number);
    if (!progress.ok()) {
      // Forgotten: others were taken since, so it is over.
      return SnapshotProgress{
          .number = number, .phase = SnapshotPhase::kFailed, .error = progress.error()};
    }
    if (progress->result || progress->error) {
      return *std::move(progress);
    }
    if (!WaitUntil(MonotonicNs() + kPollNs)) {
      return std::nullopt;
    }
  }
}

void ScheduledSnapshots::Failed(const Error& error) {
  MutexLock lock(mutex_);
  const uint64_t now_ns = MonotonicNs();
  schedule_.Failed(now_ns, error.message());
  Log(LogLevel::kWarning,
      "the scheduled snapshot failed ({} in a row), and is tried again in {}: {}",
      schedule_.failures(), FormatDuration(schedule_.due_ns() - now_ns), error.message());
}

}  // namespace pacsvisor
