// The guest's agent in the life of a machine: it freezes file systems for a snapshot, and thaws
// them and sets the clock of a guest that was restored. Threads: one at a time; a thread of its own
// does what nobody waits for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "vmm/base/result.h"
#include "vmm/control/guest_agent.h"
#include "vmm/control/snapshot_control.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_restore.h"
#include "vmm/snapshot/quiescer.h"
#include "vmm/store/snapshot_info.h"

namespace pacsvisor {

class MachineAgent {
 public:
  static constexpr uint32_t kThawTimeoutMs = 10'000;  // after the pause of a snapshot
  static constexpr uint32_t kWakeTimeoutMs = 30'000;  // of a restored guest: its host may be slow
  static constexpr uint32_t kSetTimeTimeoutMs = 30'000;  // nobody waits for it

  explicit MachineAgent(Machine& machine);  // borrowed
  ~MachineAgent();

  // For one snapshot; both outlive it.
  std::unique_ptr<Quiescer> ForSnapshot(uint32_t timeout_ms, const SnapshotObserver& observer);

  // Directly after the start of a machine that was restored from `snapshot`. Returns when a guest
  // that was frozen for it is thawed, or with an error that says that it is not. What else it is to
  // know (the time, where its clock went on from the instant) it is told behind our back.
  Status WakeRestored(const SnapshotInfo& snapshot, RestoredClock clock);

 private:
  class ForOneSnapshot;

  void StopWakingUp();
  void WakeUp(bool thaw, bool set_time);

  Machine& machine_;
  std::optional<GuestAgent> agent_;  // none: the machine has no port for one
  std::atomic<bool> stopping_ = false;
  std::thread waking_up_;
};

}  // namespace pacsvisor
