// From a snapshot to a machine: memory filled, state loaded. Disks have their bytes before.
#pragma once

#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/machine/machine.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

enum class RestoredClock {
  kContinue,  // the guest's time goes on from the instant
  kAdvance,   // it has moved by the time away
};

// A machine that was built for a load, of the configuration of the snapshot. Afterwards it starts
// where it was saved; its dirty sets hold what the load itself changed and nothing else.
Status RestoreMachine(Machine& machine, SnapshotReader& snapshot, RestoredClock clock);

}  // namespace pacsvisor
