// A snapshot of the disks of a machine that does not run: no memory, no state; it can be started
// from by a cold start.
#pragma once

#include <span>
#include <string>

#include "vmm/base/result.h"
#include "vmm/snapshot/capture_observer.h"
#include "vmm/snapshot/file_space.h"
#include "vmm/store/store.h"

namespace pacsvisor {

// `parent`: whose blocks cost no room; none: whole. Nobody writes to the disks meanwhile.
Result<SnapshotInfo> TakeDisksSnapshot(Store& store, const std::optional<SnapshotId>& parent,
                                       std::span<const FileSpace* const> disks,
                                       const SnapshotDraft& draft, CaptureObserver& observer);

}  // namespace pacsvisor
