#include "vmm/control/machine_runner.h"

namespace pacsvisor {

Result<SnapshotResult> MachineRunner::Snapshot(const SnapshotRequest&, SnapshotObserver&) {
  return Error::Make(ErrorCode::kUnsupported, "this kind of machine takes no snapshots");
}

}  // namespace pacsvisor
