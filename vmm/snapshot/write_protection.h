// Pages of guest memory that are protected from being written until they are copied: what
// vmm/snapshot needs of it; the machine hands it one (vmm/memory/memory_faults.h, residue.h).
//
// Order: Prepare; Arm, as often as wanted; in the pause Begin, then CopyNow and Protect; when the
// machine runs again CopySome until it says that none is left, and Finish. Abandon instead of the
// rest at any point. Of each call that fails nothing stays protected.
// Threads: the snapshot's.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/base/result.h"
#include "vmm/dirty/extent.h"
#include "vmm/memory/residue.h"

namespace pacsvisor {

class WriteProtection {
 public:
  virtual ~WriteProtection() = default;

  // What need not be in the pause. kUnsupported: this host cannot protect this memory.
  virtual Status Prepare() = 0;
  // While the machine runs: a page that is written before the instant is let go, and listed.
  virtual Status Arm(std::span<const Extent> pages) = 0;

  // The instant. ORs the listed pages into `listed`; `sink` stays until Finish or Abandon has
  // returned.
  virtual Status Begin(ResidueSink& sink, std::span<uint64_t> listed) = 0;
  // ORs the pages that may be written past a protection: targets of reads that are in flight.
  virtual void AddPinned(std::span<uint64_t> words) = 0;
  // Those of them that are protected are copied and let go.
  virtual Status CopyNow(std::span<const Extent> pages) = 0;
  virtual Status Protect(std::span<const Extent> pages) = 0;

  // Copies some pages that nobody has written yet. False: none is left.
  virtual Result<bool> CopySome() = 0;
  // An error: some of the pages are not copied.
  virtual Status Finish() = 0;
  // Nothing is protected, and the sink not in use, when it returns.
  virtual void Abandon() = 0;
};

}  // namespace pacsvisor
