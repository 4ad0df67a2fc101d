// What a session needs of a machine in order to run it: the seam between the process
// (configuration, signals, console, control socket) and vmm/machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "vmm/base/result.h"
#include "vmm/control/machine_control.h"
#include "vmm/control/snapshot_control.h"
#include "vmm/machine/machine.h"

namespace pacsvisor {

// Threads: any, several at the same time, unless said otherwise. All may be called after the end.
class MachineRunner {
 public:
  virtual ~MachineRunner() = default;

  // Once, before all others. The vCPUs run when it returns.
  virtual Status Start() = 0;
  // One thread. Returns when the machine has ended; guest threads are gone then, or are in the
  // destructor at the latest.
  virtual MachineEnd Wait() = 0;
  // Pause returns when every vCPU stands still. Twice is no error, nor is resuming what runs.
  virtual Status Pause() = 0;
  virtual Status Resume() = 0;
  // When guest code first ran (CLOCK_MONOTONIC), 0 before that.
  virtual uint64_t first_entry_ns() const { return 0; }
  // When it began to be built for a restore (CLOCK_MONOTONIC), 0: it was not restored.
  virtual uint64_t restore_start_ns() const { return 0; }
  // How much of its memory is there: all of it, unless a restore is still fetching.
  virtual uint64_t memory_there_bytes() const { return 0; }
  // How much of a disk, by its number, is still in the snapshot that it was restored from.
  virtual uint64_t disk_left_bytes(size_t /*disk*/) const { return 0; }
  // How often the guest broke the hardware's rules.
  virtual FaultDescriptions guest_faults() const { return {}; }
  virtual void PressPowerButton() = 0;
  // Does not wait: Wait returns soon. Works in every state, paused included.
  virtual void ForceStop() = 0;
  // Bytes typed on the serial console. Never blocks: they are kept for the guest, up to a limit.
  virtual void ConsoleInput(std::span<const uint8_t> bytes) = 0;
  // One at a time, and never at the same time as Pause and Resume; all others may be called
  // meanwhile. Returns when the snapshot is durable, or is not and nothing of it is kept. A paused
  // machine stays paused. When `observer` says cancelled, and when the machine has ended (Wait is
  // about to return or has), it returns soon: the machine's end waits for it.
  virtual Result<SnapshotResult> Snapshot(const SnapshotRequest& request,
                                          SnapshotObserver& observer);
};

// Bytes the guest wrote to its serial console. Called from the machine's threads.
using ConsoleOutput = std::function<void(std::span<const uint8_t> bytes)>;
// Builds a machine that has not started; called again for each reset.
using MachineFactory =
    std::function<Result<std::unique_ptr<MachineRunner>>(const ConsoleOutput& output)>;

}  // namespace pacsvisor
