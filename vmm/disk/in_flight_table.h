// Every unfinished request of a disk, and the overlap rule: a request whose bytes an unfinished
// change touches, or which changes bytes under an unfinished read, starts only when that one has
// finished. Overlapping requests thus take effect in the order they were admitted.
//
// The table is a flat array that is scanned: a disk has tens of requests in flight, at most some
// hundreds, and an array of that length is searched faster than a tree is kept. While nothing that
// changes the disk is in it, reads skip the scan.
// Threads: one at a time, under the lock of whoever holds it.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/disk/block_request.h"

namespace pacsvisor {

class InFlightTable {
 public:
  // `granularity_bytes` (a power of two, at least 512): ranges are widened to its multiples before
  // they are compared.
  explicit InFlightTable(uint64_t granularity_bytes);

  // Sets request.id. True when it may start at once; otherwise Finish of another releases it.
  [[nodiscard]] bool Admit(BlockRequest& request);
  // Takes a request out and appends those that may start now to `released`, oldest first.
  void Finish(BlockRequest& request, std::vector<BlockRequest*>& released);

  size_t size() const { return entries_.size(); }
  size_t waiting() const { return waiting_; }
  template <typename Visitor>
  void ForEach(Visitor visit) const {
    for (const Entry& entry : entries_) {
      visit(*entry.request);
    }
  }

 private:
  struct Entry {
    uint64_t first;  // in units of the granularity
    uint64_t end;    // first == end: a flush, touches nothing
    uint64_t id;
    BlockRequest* request;
    uint32_t blockers;  // unfinished older requests it waits for
    bool changes;
  };
  static bool Conflict(const Entry& left, const Entry& right) {
    return (left.changes || right.changes) && left.first < right.end && right.first < left.end;
  }

  const unsigned granularity_shift_;
  uint64_t next_id_ = 1;
  size_t changes_ = 0;
  size_t waiting_ = 0;
  std::vector<Entry> entries_;  // in no order: the last one fills a gap
};

}  // namespace pacsvisor
