// Whether this host can run what a snapshot holds, asked before anything is written for it.
#pragma once

#include "vmm/base/result.h"
#include "vmm/machine/config.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

// Offers the saved processor to a virtual one that is thrown away: kUnsupported names what this
// host's KVM lacks (features, the TSC's frequency). `config` is the snapshot's. The caller's thread
// is the only one of its process.
Status CheckHostCanRun(const MachineConfig& config, SnapshotReader& snapshot);

}  // namespace pacsvisor
