#include "vmm/control/machine_agent.h"

#include <utility>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor {

class MachineAgent::ForOneSnapshot : public Quiescer {
 public:
  ForOneSnapshot(MachineAgent& owner, uint32_t timeout_ms, const SnapshotObserver& observer)
      : owner_(owner), timeout_ms_(timeout_ms), observer_(observer) {}

  Status Freeze() override {
    Status frozen = FreezeIfPossible();
    if (!frozen.ok()) {
      Log(LogLevel::kWarning, "not quiesced, the snapshot is as after a power cut: {}",
          frozen.error().message());
    }
    return frozen;
  }
  Status Thaw() override {
    Status thawed = owner_.agent_ ? owner_.agent_->Thaw(kThawTimeoutMs) : Status();
    if (!thawed.ok()) {
      Log(LogLevel::kError, "{}: run 'fsfreeze --unfreeze' in the guest, or reset it",
          thawed.error().message());
    }
    return thawed;
  }

 private:
  Status FreezeIfPossible() {
    if (!owner_.agent_) {
      return Error::Make(ErrorCode::kUnsupported,
                         "the machine has no port for a guest agent: add [agent] to its VM.toml "
                         "and start it again");
    }
    if (owner_.machine_.paused()) {
      return Error::Make(ErrorCode::kBusy, "the machine is paused, and its guest cannot answer");
    }
    return owner_.agent_->Freeze(timeout_ms_, [this] { return observer_.cancelled(); });
  }

  MachineAgent& owner_;
  const uint32_t timeout_ms_;
  const SnapshotObserver& observer_;
};

MachineAgent::MachineAgent(Machine& machine) : machine_(machine) {
  if (LocalLine* const line = machine.agent_line(); line != nullptr) {
    agent_.emplace(*line, [&machine] { return machine.Ended(); });
  }
}

MachineAgent::~MachineAgent() { StopWakingUp(); }

void MachineAgent::StopWakingUp() {
  stopping_ = true;
  if (waking_up_.joinable()) {
    waking_up_.join();
  }
}

std::unique_ptr<Quiescer> MachineAgent::ForSnapshot(uint32_t timeout_ms,
                                                    const SnapshotObserver& observer) {
  StopWakingUp();
  return std::make_unique<ForOneSnapshot>(*this, timeout_ms, observer);
}

Status MachineAgent::WakeRestored(const SnapshotInfo& snapshot, RestoredClock clock) {
  const bool frozen = snapshot.draft.consistency == kQuiesced;
  if (agent_ && frozen) {
    agent_->OweThaw();
    Status thawed = agent_->Thaw(kWakeTimeoutMs);
    if (!thawed.ok()) {
      return std::move(thawed).error().WithContext(
          fmt::format("snapshot {} cannot go on (with --cold it starts from its disks, which are "
                      "whole)",
                      snapshot.id.Short()));
    }
  }
  // A freeze that was not confirmed by the instant may have come about all the same.
  const bool thaw = !frozen && snapshot.draft.texts.contains(kNotQuiesced);
  const bool set_time = clock == RestoredClock::kContinue;
  if (!agent_ || !agent_->listens() || !(thaw || set_time)) {
    return {};
  }
  Result<std::thread> started = StartThread(ThreadKind::kControl, "agent",
                                            [this, thaw, set_time] { WakeUp(thaw, set_time); });
  if (!started.ok()) {
    Log(LogLevel::kWarning, "the guest's clock is not set: {}", started.error().message());
    return {};
  }
  waking_up_ = *std::move(started);
  return {};
}

void MachineAgent::WakeUp(bool thaw, bool set_time) {
  if (thaw) {
    agent_->OweThaw();
    if (const Status thawed = agent_->Thaw(kThawTimeoutMs); !thawed.ok()) {
      Log(LogLevel::kWarning, "{}", thawed.error().message());
    }
  }
  if (!set_time || stopping_) {
    return;
  }
  const Status set = agent_->SetTime(kSetTimeTimeoutMs, [this] { return stopping_.load(); });
  if (!set.ok() && !stopping_) {
    Log(LogLevel::kWarning, "the guest's clock is behind by the time away: {}",
        set.error().message());
  }
}

}  // namespace pacsvisor
