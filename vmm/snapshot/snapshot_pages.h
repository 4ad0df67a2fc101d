// The memory of a snapshot in a store, page by page: what a lazy restore fetches from.
//
// Threads: any, several at a time. The reader's locks are the store's own: nobody who holds one
// touches guest memory (a snapshot's writer is handed copies).
#pragma once

#include <memory>

#include "vmm/memory/page_source.h"
#include "vmm/snapshot/space.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

class SnapshotPages : public PageSource {
 public:
  // kInvalidArgument: the snapshot holds no memory, or another size of it than `memory`.
  static Result<std::shared_ptr<SnapshotPages>> Create(std::shared_ptr<SnapshotReader> snapshot,
                                                       const Space& memory);

  uint64_t page_count() const;
  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override;
  Result<uint64_t> ZeroRun(BlockIndex first) override;

 private:
  SnapshotPages(std::shared_ptr<SnapshotReader> snapshot, uint32_t space)
      : snapshot_(std::move(snapshot)), space_(space) {}

  const std::shared_ptr<SnapshotReader> snapshot_;
  const uint32_t space_;  // of the snapshot
};

}  // namespace pacsvisor
