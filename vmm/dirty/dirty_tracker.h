// The dirty set of guest memory: what the VMM marked, joined with what a DirtySource saw of the
// vCPUs, and what an earlier snapshot took and did not bring home.
// Threads: one at a time (the VMM's marks come from any).
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "vmm/base/result.h"
#include "vmm/dirty/dirty_bitmap.h"
#include "vmm/dirty/dirty_source.h"

namespace pacsvisor {

class DirtyTracker {
 public:
  // `marks` outlives the tracker.
  DirtyTracker(DirtyBitmap& marks, std::unique_ptr<DirtySource> source)
      : marks_(marks), source_(std::move(source)) {}

  std::string_view source_name() const { return source_->name(); }
  bool started() const { return started_; }
  // Once, until Stop; the other calls lie between the two. What the VMM marked before is in the
  // first set.
  Status Start();
  void Stop();
  // DirtySource says.
  void Copied(BlockIndex first, std::span<const uint8_t> bytes) { source_->Copied(first, bytes); }

  // ORs the set into `words` and leaves it empty, watched anew (DirtySource::Harvest). On failure
  // all of `words` is owed (Return): whether the caller drops or returns it, nothing is lost.
  Status Harvest(std::span<uint64_t> words);
  Status HarvestPaused(std::span<uint64_t> words);
  // A set that was taken is owed until its snapshot is committed: back into the next one.
  void Return(std::span<const uint64_t> words) { marks_.Return(words); }

 private:
  Status Settle(Status harvested, std::span<uint64_t> words);

  DirtyBitmap& marks_;
  const std::unique_ptr<DirtySource> source_;
  bool started_ = false;
};

}  // namespace pacsvisor
