// A machine from its first start to its end, resets included: what the control API and the signals
// act on. Holds the state that they see, and ends a machine whose guest ignores the power button.
//
// A snapshot excludes pause and resume (kBusy), not the end: a machine that ends, by itself, by a
// reset or by force, cancels it and waits only until it has let go. A stop lets it go on while the
// guest shuts down, unless the machine is paused: to hear the button it must be resumed, and the
// snapshot is cancelled for that.
//
// Threads: Run by one; the others by any, several at the same time.
// Lock order: operation_mutex_ before mutex_ before the lock of snapshots_; none is held while Run
// waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vmm/base/log.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/control/machine_control.h"
#include "vmm/control/machine_runner.h"
#include "vmm/control/scheduled_snapshots.h"
#include "vmm/control/snapshot_jobs.h"

namespace pacsvisor {

class MachineSession : public MachineControl {
 public:
  // `fixed` is the description; its state and uptime are filled in here. `on_force` is called once,
  // from any thread, when the machine is to end by force, whether one is there or not: the time
  // until Run returns is the host's from then on. It must not wait. `on_start`: called once, by
  // Run, when the first machine runs.
  MachineSession(MachineDescription fixed, MachineFactory factory, ConsoleOutput output,
                 std::function<void()> on_force, std::function<void()> on_start = {});

  // Before Run: it takes snapshots by itself as well.
  void SetSchedule(const ScheduleOptions& options) { schedule_.emplace(*this, options); }

  // Builds, starts and waits; after a reset of the guest again, unless it is being stopped. A stop
  // that comes before the start leaves nothing to be started: kForced. Once.
  Result<MachineEnd> Run() EXCLUDES(mutex_);

  MachineDescription Describe() override EXCLUDES(mutex_);
  Status Pause() override EXCLUDES(operation_mutex_, mutex_);
  Status Resume() override EXCLUDES(operation_mutex_, mutex_);
  Status RequestStop(const StopRequest& request) override EXCLUDES(mutex_);
  Result<uint64_t> StartSnapshot(const SnapshotRequest& request) override
      EXCLUDES(operation_mutex_, mutex_);
  Result<SnapshotProgress> SnapshotStatus(uint64_t number) override {
    return snapshots_.Progress(number);
  }
  Status CancelSnapshot(uint64_t number) override { return snapshots_.Cancel(number); }

  // Lost while no machine is there.
  void ConsoleInput(std::span<const uint8_t> bytes) EXCLUDES(mutex_);

 private:
  // The machine in use: RunOnce does not destroy it before the last user has let go.
  class Use {
   public:
    explicit Use(MachineSession& session);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

    MachineRunner* runner() const { return runner_; }  // null when there is none

   private:
    MachineSession& session_;
    MachineRunner* const runner_;
  };

  Result<MachineEnd> RunOnce() EXCLUDES(mutex_);
  Result<MachineEnd> RunUntilEnd() EXCLUDES(mutex_);
  MachineRunner* BeginUse() EXCLUDES(mutex_);
  void EndUse() EXCLUDES(mutex_);
  // Whether something may be done to `runner`, the machine in use; the second also refuses while a
  // snapshot is taken.
  Status CheckNotStopping(const MachineRunner* runner) REQUIRES(mutex_);
  Status CheckOperable(const MachineRunner* runner) EXCLUDES(mutex_);
  // Two threads: the button waits its turn behind a pause, which a disk that does not answer makes
  // long; the end of the grace waits for nothing.
  void ButtonLoop() EXCLUDES(operation_mutex_, mutex_);
  void ForceLoop() EXCLUDES(mutex_);
  bool GraceRuns() const REQUIRES(mutex_);
  void PressPowerButton() EXCLUDES(operation_mutex_, mutex_);
  void Force() EXCLUDES(mutex_);

  // Constant after construction.
  const MachineDescription fixed_;
  const MachineFactory factory_;
  const ConsoleOutput output_;
  const std::function<void()> on_force_;
  std::function<void()> on_start_;  // Run's; empty once it was called
  const uint64_t start_ns_;
  RateLimitedLog reset_log_;                    // any thread
  std::optional<ScheduledSnapshots> schedule_;  // set before Run
  // Held across a pause, a resume and the press of the button, so that these take turns.
  Mutex operation_mutex_;
  // Guarded; for short moments only.
  Mutex mutex_;
  std::condition_variable_any changed_;
  MachineRunner* runner_ GUARDED_BY(mutex_) = nullptr;  // started and not ended, or none
  int users_ GUARDED_BY(mutex_) = 0;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool forced_ GUARDED_BY(mutex_) = false;  // the grace is over: runner_ and all after it end
  bool ended_ GUARDED_BY(mutex_) = false;
  bool press_ GUARDED_BY(mutex_) = false;                   // the button is to be pressed
  std::optional<uint64_t> force_at_ns_ GUARDED_BY(mutex_);  // set: stopping
  // Begun with mutex_ held, while runner_ is there: interrupting it after runner_ was taken away
  // meets the last one of that machine. The last member: its threads end first.
  SnapshotJobs snapshots_;
};

}  // namespace pacsvisor
