// A machine from its first start to its end, resets included: what the control API and the signals
// act on. Holds the state that they see, and ends a machine whose guest ignores the power button.
//
// Threads: Run by one; the others by any, several at the same time.
// Lock order: operation_mutex_ before mutex_; neither is held while Run waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/control/machine_control.h"
#include "vmm/control/machine_runner.h"

namespace pacsvisor {

class MachineSession : public MachineControl {
 public:
  // `fixed` is the description; its state and uptime are filled in here.
  MachineSession(MachineDescription fixed, MachineFactory factory, ConsoleOutput output);

  // Builds, starts and waits; after a reset of the guest again, unless it is being stopped. Once.
  Result<MachineEnd> Run() EXCLUDES(mutex_);

  MachineDescription Describe() override EXCLUDES(mutex_);
  Status Pause() override EXCLUDES(operation_mutex_, mutex_);
  Status Resume() override EXCLUDES(operation_mutex_, mutex_);
  Status RequestStop(const StopRequest& request) override EXCLUDES(mutex_);

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
  Status CheckOperable(const MachineRunner* runner) EXCLUDES(mutex_);
  // The stop thread: presses the button, and forces when the grace is over.
  void StopLoop() EXCLUDES(operation_mutex_, mutex_);
  bool GraceIsOver() const REQUIRES(mutex_);
  void PressPowerButton() EXCLUDES(operation_mutex_, mutex_);
  void Force() EXCLUDES(mutex_);

  // Constant after construction.
  const MachineDescription fixed_;
  const MachineFactory factory_;
  const ConsoleOutput output_;
  const uint64_t start_ns_;
  // Held across a pause, a resume and the press of the button, so that these take turns.
  Mutex operation_mutex_;
  // Guarded; for short moments only.
  Mutex mutex_;
  std::condition_variable_any changed_;
  MachineRunner* runner_ GUARDED_BY(mutex_) = nullptr;  // started and not ended, or none
  int users_ GUARDED_BY(mutex_) = 0;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool forced_ GUARDED_BY(mutex_) = false;  // runner_ was
  bool ended_ GUARDED_BY(mutex_) = false;
  bool press_ GUARDED_BY(mutex_) = false;                   // the button is to be pressed
  std::optional<uint64_t> force_at_ns_ GUARDED_BY(mutex_);  // set: stopping
};

}  // namespace pacsvisor
