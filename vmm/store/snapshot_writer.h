// A snapshot on its way into a store. Nothing of it is seen by anybody before Commit; one that is
// destroyed without it leaves nothing. Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"
#include "vmm/store/snapshot_info.h"

namespace pacsvisor {

class SnapshotWriter {
 public:
  virtual ~SnapshotWriter() = default;

  // The bytes of block `block` of space number `space` (as given to Begin): block_bytes of them.
  // In any order; of a block that is given twice, the last counts. The bytes are the writer's from
  // a copy of its own on: it hashes, compresses and writes the same ones, on other threads too. An
  // error may be of a block that was given before.
  virtual Status Add(uint32_t space, BlockIndex block, std::span<const uint8_t> bytes) = 0;
  // Blocks that are known to hold nothing but zeroes, without handing these over.
  virtual Status AddZeroes(uint32_t space, BlockIndex first, uint64_t count) = 0;

  // All that was given is looked at, and counts() tells of it. (Commit needs no Flush before.)
  virtual Status Flush() = 0;
  virtual WriterCounts counts() const = 0;

  // Everything is durable, and the snapshot in the store, when it returns: data, fsync, root under
  // a temporary name, fsync, rename, fsync of the directory. kInvalidArgument when a space without
  // a counterpart in the parent was not given whole. The writer is done, whatever the result.
  virtual Result<SnapshotInfo> Commit(const SnapshotDraft& draft,
                                      std::span<const uint8_t> state) = 0;
};

}  // namespace pacsvisor
