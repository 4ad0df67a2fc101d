// Leases: who reads a store's snapshots now (FORMAT.md, 10). A dead owner's lapses with its lock.
// Threads: any.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/snapshot_id.h"
#include "vmm/store/store_files.h"

namespace pacsvisor {

// To be had before the first look-up in the store and kept as long as it counts. `id`: of the only
// snapshot that is looked at; none: of any. Null where nothing can be written (a full disk, a
// read-only file system, another user's store): it must be read all the same, and a prune that is
// running elsewhere may end that with an error.
//
// Giving one up closes a descriptor and no more, which every thread may do; the file goes when the
// next lease is taken or the store is pruned.
Result<std::unique_ptr<StoreFiles::Lock>> TakeLease(StoreFiles& files, const std::string& owner,
                                                    const std::optional<SnapshotId>& id);

struct LiveLease {
  std::string owner;             // "pid 123, machine pacs"
  std::optional<SnapshotId> id;  // none: of any snapshot
};
// Removes dead ones' files.
Result<std::vector<LiveLease>> LiveLeases(StoreFiles& files);

}  // namespace pacsvisor
