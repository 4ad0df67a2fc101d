// Where a machine's vCPUs wrote: one of the kernel's ways to tell, behind one interface. What the
// VMM itself writes is in the space's DirtyBitmap; vmm/dirty/dirty_tracker.h joins the two.
//
// Threads: one at a time, while vCPUs run or stand still.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class DirtySource {
 public:
  virtual ~DirtySource() = default;

  virtual std::string_view name() const = 0;  // "bitmap", "ring", "pagemap", "compare"

  // From here on every write of a vCPU is seen. Every page counts as unwritten: what happened
  // before is the caller's knowledge. Costs what it costs; the vCPUs may run.
  virtual Status Start() = 0;
  virtual void Stop() = 0;

  // Since Start, before the first Harvest, somebody has copied these pages of the space, with these
  // bytes, and wants no more of them than what changed since. For who tells pages by their
  // contents: one may have changed and changed back round the copy.
  virtual void Copied(BlockIndex /*first*/, std::span<const uint8_t> /*bytes*/) {}

  // ORs into `words` (DirtyBitmap::TakeInto's form, of the whole memory space) the pages written
  // since Start or the last Harvest, and watches them anew *before* it returns: whoever copies them
  // afterwards copies what the set says, and a later write is in the next set. A page may be
  // reported that was not written (page tables, races); none that was is left out.
  // On failure nothing is lost: what was taken from the kernel is in `words`, the rest comes with
  // the next call.
  virtual Status Harvest(std::span<uint64_t> words) = 0;

  // The same for a machine that stands still, at the least cost: pages need not be watched anew
  // (they may be reported again by the next Harvest, which is allowed).
  virtual Status HarvestPaused(std::span<uint64_t> words) { return Harvest(words); }
};

}  // namespace pacsvisor
