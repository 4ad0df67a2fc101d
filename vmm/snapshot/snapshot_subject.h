// A running machine as a snapshot needs it.
// Threads: the snapshot's.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/dirty/dirty_tracker.h"
#include "vmm/snapshot/frozen_space.h"
#include "vmm/snapshot/space.h"
#include "vmm/snapshot/write_protection.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Of one pause, CLOCK_MONOTONIC. Between the first and the last no guest code ran on all vCPUs.
struct PauseTimes {
  uint64_t begun_ns = 0;    // directly before the first vCPU was told
  uint64_t stopped_ns = 0;  // vCPUs and devices stand still
  uint64_t resuming_ns = 0;
  uint64_t resumed_ns = 0;  // every vCPU may run again
};

class SnapshotSubject {
 public:
  virtual ~SnapshotSubject() = default;

  virtual const Space& memory() const = 0;
  virtual DirtyTracker& tracker() = 0;
  virtual std::vector<FrozenSpace*> disks() = 0;  // the same ones at each call
  // Of memory; null: what is left to the pause is copied in it.
  virtual WriteProtection* write_protection() { return nullptr; }

  // Stands the machine still, does `work`, lets it go on, whatever became of the work. One that
  // stood still before is left so. The error is the work's, or the machine's own.
  virtual Status AtInstant(const std::function<Status()>& work, PauseTimes& times) = 0;
  // Everything but memory and disks. Within AtInstant only.
  virtual Status SaveState(StateNode& node) = 0;
};

}  // namespace pacsvisor
