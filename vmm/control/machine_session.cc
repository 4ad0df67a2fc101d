#include "vmm/control/machine_session.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;
constexpr uint64_t kNsPerMillisecond = 1'000'000;

std::chrono::nanoseconds Until(uint64_t deadline_ns) {
  const uint64_t now_ns = MonotonicNs();
  return std::chrono::nanoseconds(deadline_ns > now_ns ? deadline_ns - now_ns : 0);
}

}  // namespace

MachineSession::MachineSession(MachineDescription fixed, MachineFactory factory,
                               ConsoleOutput output, std::function<void()> on_force,
                               std::function<void()> on_start)
    : fixed_(std::move(fixed)),
      factory_(std::move(factory)),
      output_(std::move(output)),
      on_force_(std::move(on_force)),
      on_start_(std::move(on_start)),
      start_ns_(MonotonicNs()) {}

Result<MachineEnd> MachineSession::Run() {
  TRY(snapshots_.StartWorker());
  std::thread button = TRY(StartThread(ThreadKind::kControl, "button", [this] { ButtonLoop(); }));
  Result<std::thread> force = StartThread(ThreadKind::kControl, "force", [this] { ForceLoop(); });
  const Status scheduled = schedule_ && force.ok() ? schedule_->Start() : Status();
  Result<MachineEnd> exit = !force.ok()       ? Result<MachineEnd>(force.error())
                            : !scheduled.ok() ? Result<MachineEnd>(scheduled.error())
                                              : RunUntilEnd();
  if (schedule_) {
    schedule_->Stop();
  }
  {
    MutexLock lock(mutex_);
    ended_ = true;
  }
  changed_.notify_all();
  button.join();
  if (force.ok()) {
    force->join();
  }
  return exit;
}

Result<MachineEnd> MachineSession::RunUntilEnd() {
  while (true) {
    MachineEnd exit = TRY(RunOnce());
    MutexLock lock(mutex_);
    if (exit.reason != MachineEnd::Reason::kReset || force_at_ns_) {
      return exit;
    }
    reset_log_.Log(LogLevel::kInfo, "the guest resets: starting it again");
  }
}

Result<MachineEnd> MachineSession::RunOnce() {
  const std::unique_ptr<MachineRunner> runner = TRY(factory_(output_));
  {
    MutexLock lock(mutex_);
    if (force_at_ns_) {
      return MachineEnd{.reason = MachineEnd::Reason::kForced};
    }
  }
  TRY(runner->Start());
  bool forced = false;
  {
    MutexLock lock(mutex_);
    runner_ = runner.get();
    paused_ = false;
    forced = forced_;  // while it was starting
  }
  if (forced) {
    runner->ForceStop();
  }
  changed_.notify_all();
  if (const std::function<void()> on_start = std::exchange(on_start_, {})) {
    on_start();
  }
  MachineEnd exit = runner->Wait();
  MutexLock lock(mutex_);
  runner_ = nullptr;
  snapshots_.Interrupt("the machine ended while the snapshot was taken: nothing of it is kept");
  while (users_ != 0) {
    changed_.wait(mutex_);
  }
  return exit;
}

MachineSession::Use::Use(MachineSession& session)
    : session_(session), runner_(session.BeginUse()) {}

MachineSession::Use::~Use() {
  if (runner_ != nullptr) {
    session_.EndUse();
  }
}

MachineRunner* MachineSession::BeginUse() {
  MutexLock lock(mutex_);
  users_ += runner_ == nullptr ? 0 : 1;
  return runner_;
}

void MachineSession::EndUse() {
  {
    MutexLock lock(mutex_);
    --users_;
  }
  changed_.notify_all();
}

void MachineSession::ButtonLoop() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!ended_ && (runner_ == nullptr || !press_)) {
        changed_.wait(mutex_);
      }
      if (ended_) {
        return;
      }
      press_ = false;
    }
    PressPowerButton();
  }
}

bool MachineSession::GraceRuns() const { return force_at_ns_ && !forced_; }

void MachineSession::ForceLoop() {
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!ended_ && !(GraceRuns() && *force_at_ns_ <= MonotonicNs())) {
        if (GraceRuns()) {
          changed_.wait_for(mutex_, Until(*force_at_ns_));
        } else {
          changed_.wait(mutex_);
        }
      }
      if (ended_) {
        return;
      }
    }
    Force();
  }
}

void MachineSession::PressPowerButton() {
  MutexLock operation(operation_mutex_);
  const Use use(*this);
  bool paused = false;
  {
    MutexLock lock(mutex_);
    paused = std::exchange(paused_, false);
  }
  if (use.runner() == nullptr) {
    return;
  }
  // A paused guest sees no button.
  if (paused) {
    snapshots_.Interrupt(
        "the paused machine is resumed to be stopped: nothing of the snapshot is kept");
    snapshots_.WaitUntilIdle();
    if (const Status resumed = use.runner()->Resume(); !resumed.ok()) {
      Log(LogLevel::kError, "the paused machine cannot be resumed to be stopped: {}",
          resumed.error().message());
    }
  }
  use.runner()->PressPowerButton();
}

void MachineSession::Force() {
  const Use use(*this);
  {
    MutexLock lock(mutex_);
    if (ended_ || std::exchange(forced_, true)) {
      return;
    }
  }
  snapshots_.Interrupt("the machine is ended by force: nothing of the snapshot is kept");
  Log(LogLevel::kWarning, "the machine is ended by force");
  on_force_();
  if (use.runner() != nullptr) {
    use.runner()->ForceStop();
  }
}

MachineDescription MachineSession::Describe() {
  MachineDescription description = fixed_;
  description.uptime_ms = (MonotonicNs() - start_ns_) / kNsPerMillisecond;
  if (schedule_) {
    description.schedule = schedule_->Describe();
  }
  MutexLock lock(mutex_);
  if (runner_ != nullptr) {
    description.memory_there_bytes = runner_->memory_there_bytes();
    description.restore_start_ns = runner_->restore_start_ns();
    description.first_entry_ns = runner_->first_entry_ns();
    description.faults = runner_->guest_faults();
    for (size_t i = 0; i < description.disks.size(); ++i) {
      DiskDescription& disk = description.disks[i];
      disk.there_bytes = disk.size_bytes - std::min(disk.size_bytes, runner_->disk_left_bytes(i));
    }
  }
  description.state = force_at_ns_ ? MachineState::kStopping
                      : paused_    ? MachineState::kPaused
                                   : MachineState::kRunning;
  return description;
}

Status MachineSession::CheckNotStopping(const MachineRunner* runner) {
  if (force_at_ns_ || ended_) {
    return Error::Make(ErrorCode::kBusy, "the machine is stopping: wait for its end");
  }
  if (runner == nullptr) {
    return Error::Make(ErrorCode::kBusy, "the machine is starting: try again in a moment");
  }
  return {};
}

Status MachineSession::CheckOperable(const MachineRunner* runner) {
  MutexLock lock(mutex_);
  TRY(CheckNotStopping(runner));
  if (const std::optional<uint64_t> number = snapshots_.running()) {
    return Error::Make(ErrorCode::kBusy,
                       "snapshot {} is being taken: wait until it is done, or cancel it", *number);
  }
  return {};
}

Status MachineSession::Pause() {
  MutexLock operation(operation_mutex_);
  const Use use(*this);
  TRY(CheckOperable(use.runner()));
  TRY(use.runner()->Pause());
  MutexLock lock(mutex_);
  paused_ = true;
  return {};
}

Status MachineSession::Resume() {
  MutexLock operation(operation_mutex_);
  const Use use(*this);
  TRY(CheckOperable(use.runner()));
  TRY(use.runner()->Resume());
  MutexLock lock(mutex_);
  paused_ = false;
  return {};
}

Status MachineSession::RequestStop(const StopRequest& request) {
  {
    MutexLock lock(mutex_);
    const uint64_t now_ns = MonotonicNs();
    const uint64_t force_at_ns =
        request.force ? now_ns : now_ns + request.grace_seconds * kNsPerSecond;
    force_at_ns_ = force_at_ns;
    press_ = press_ || !request.force;
  }
  changed_.notify_all();
  if (request.force) {
    Force();
  }
  return {};
}

Result<uint64_t> MachineSession::StartSnapshot(const SnapshotRequest& request) {
  TRY(CheckSnapshotRequest(request));
  if (fixed_.store.empty()) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this machine has no store for snapshots: add [store] with path = "
                       "\"DIRECTORY\" to its VM.toml and start it again");
  }
  MutexLock operation(operation_mutex_);  // no pause or resume is under way
  // Let go of after mutex_, when no job begins that would hold it.
  const auto use = std::make_shared<Use>(*this);
  MutexLock lock(mutex_);
  TRY(CheckNotStopping(runner_ == use->runner() ? runner_ : nullptr));
  return snapshots_.Start([request, use](SnapshotObserver& observer) {
    return use->runner()->Snapshot(request, observer);
  });
}

void MachineSession::ConsoleInput(std::span<const uint8_t> bytes) {
  const Use use(*this);
  if (use.runner() != nullptr) {
    use.runner()->ConsoleInput(bytes);
  }
}

}  // namespace pacsvisor
