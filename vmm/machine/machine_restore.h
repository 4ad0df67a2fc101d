// From a snapshot to a machine: its memory, at once or as it is touched, and its state. Disks have
// their bytes before.
#pragma once

#include <cstdint>
#include <memory>

#include "vmm/base/result.h"
#include "vmm/machine/machine.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

enum class RestoredClock {
  kContinue,  // the guest's time goes on from the instant
  kAdvance,   // it has moved by the time away
};

enum class MemoryFill {
  kLazy,   // as it is touched, the rest in the background; kEager where the host cannot
  kEager,  // before this returns
};

// A machine that was built for a load, of the configuration of the snapshot. Afterwards it starts
// where it was saved; its dirty sets hold what the load itself changed and nothing else. With kLazy
// the machine keeps `snapshot` until its memory is whole.
Status RestoreMachine(Machine& machine, const std::shared_ptr<SnapshotReader>& snapshot,
                      RestoredClock clock, MemoryFill fill);

}  // namespace pacsvisor
