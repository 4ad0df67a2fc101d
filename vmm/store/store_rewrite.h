// A snapshot of one store written anew into another, block by block, whatever that is encrypted
// with. Names and keys depend on a store's secret, so that what comes of it has an id of its own;
// kRewrittenFrom in its texts says whose contents it has. Threads: any.
#pragma once

#include "vmm/store/store.h"

namespace pacsvisor {

// The id, in hex, of the snapshot that one was written anew from.
inline constexpr char kRewrittenFrom[] = "rewritten_from";

// Every block is proven on the way, and read; what the target has costs no room there. Its parent
// is what the parent of `id` has become there, if that was rewritten before; carried holds come
// along. Rewritten already: no more than holds. Interrupted, nothing of it stays. kCancelled as
// CopyWatch says. The report's snapshot is the target's.
Result<CopyReport> RewriteSnapshot(Store& source, Store& target, const SnapshotId& id,
                                   const CopyWatch& watch = {});

}  // namespace pacsvisor
