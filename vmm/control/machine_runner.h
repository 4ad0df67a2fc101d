// What a session needs of a machine in order to run it: the seam between the process
// (configuration, signals, console, control socket) and vmm/machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "vmm/base/result.h"
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
  virtual void PressPowerButton() = 0;
  // Does not wait: Wait returns soon. Works in every state, paused included.
  virtual void ForceStop() = 0;
  // Bytes typed on the serial console. Never blocks: they are kept for the guest, up to a limit.
  virtual void ConsoleInput(std::span<const uint8_t> bytes) = 0;
};

// Bytes the guest wrote to its serial console. Called from the machine's threads.
using ConsoleOutput = std::function<void(std::span<const uint8_t> bytes)>;
// Builds a machine that has not started; called again for each reset.
using MachineFactory =
    std::function<Result<std::unique_ptr<MachineRunner>>(const ConsoleOutput& output)>;

}  // namespace pacsvisor
