// Pages of an instant on their way from a protection to the store: put here by who copies them
// (the snapshot's thread, and who serves a writer that waits), taken out by the snapshot's thread.
//
// Grows with what is put in: a writer waits for memory at most, never for the store.
// Threads: ResidueSink's calls by several at a time; the rest by the snapshot's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/mapping.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/memory/residue.h"

namespace pacsvisor {

class ResidueBuffer : public ResidueSink {
 public:
  Result<std::span<uint8_t>> Reserve(Extent pages) override EXCLUDES(mutex_);
  void Landed(Extent pages) override EXCLUDES(mutex_);

  // Of pages that were put in and not taken out.
  uint64_t size_bytes() const EXCLUDES(mutex_);
  // Takes out what has landed, page by page; stops at the first error (what is left is lost).
  Status Drain(const std::function<Status(BlockIndex page, std::span<const uint8_t> bytes)>& visit)
      EXCLUDES(mutex_);

 private:
  struct Piece {
    Mapping mapping;
    size_t used_bytes = 0;
  };
  struct Entry {
    Extent pages;
    std::shared_ptr<const Piece> piece;  // goes with the last entry in it
    std::span<uint8_t> bytes;
    bool landed = false;
  };

  mutable Mutex mutex_;
  std::shared_ptr<Piece> piece_ GUARDED_BY(mutex_);  // with room, or null
  std::vector<Entry> entries_ GUARDED_BY(mutex_);
  uint64_t size_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace pacsvisor
