// Guest memory's part of a snapshot: copied ahead while the guest runs, round after round, until
// what is left is little or does not shrink; the rest in the pause, or, where that is too much,
// protected and copied after it. DESIGN.md, section 6.
//
//   CopyAhead  the machine runs; CopyAgain where time went by since
//   Harvest, CopyRest  in the pause
//   Write      the machine runs again
//   GiveBack   instead of a commit: what was taken is owed to the next snapshot
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/dirty/dirty_tracker.h"
#include "vmm/snapshot/capture_observer.h"
#include "vmm/snapshot/memory_residue.h"
#include "vmm/snapshot/page_staging.h"
#include "vmm/snapshot/space.h"
#include "vmm/store/snapshot_writer.h"

namespace pacsvisor {

class MemoryCapture {
 public:
  // kWhole: every page, for a space that the parent does not tell of; tracking begins here.
  enum class Extent { kWhole, kChanges };
  struct Options {
    Extent extent = Extent::kChanges;
    uint64_t staging_bytes = 0;  // of copies kept before they are drained to the store
    uint32_t max_rounds = 8;
    uint64_t enough_pages = 128;  // so few are left to the pause: some 50 us of copying
    uint64_t pause_budget_ns = 5'000'000;
    WriteProtection* protection = nullptr;  // borrowed; null: there is none
  };

  // `number` is memory's among the spaces of `writer`. All borrowed.
  MemoryCapture(const Space& memory, DirtyTracker& tracker, uint32_t number, SnapshotWriter& writer,
                Options options);

  Status CopyAhead(CaptureObserver& observer);
  Status CopyAgain(CaptureObserver& observer);
  Status Harvest();
  Status CopyRest();
  Status Write(CaptureObserver& observer);
  void GiveBack();

  uint64_t rounds() const { return rounds_; }
  uint64_t taken_pages() const;  // pages that the dirty sets named; of a whole one all
  uint64_t residue_pages() const { return residue_pages_; }  // left to the pause
  const MemoryResidue& residue() const { return residue_; }

 private:
  Status CopyWhole(CaptureObserver& observer);
  // Into round_. How many pages it were.
  Result<uint64_t> HarvestRound(CaptureObserver& observer);
  // One round: harvests and copies, or protects.
  Result<uint64_t> CopyRound(CaptureObserver& observer);
  Result<uint64_t> ArmRound(CaptureObserver& observer);
  Status ArmAhead(CaptureObserver& observer);
  enum class Guest { kRuns, kStands };
  // Drains where `most_staged` pages are staged already.
  Status CopyPages(std::span<const uint64_t> words, Guest guest, uint64_t most_staged);
  Status Drain();

  const Space& memory_;
  DirtyTracker& tracker_;
  const uint32_t number_;
  SnapshotWriter& writer_;
  const Options options_;
  PageStaging staging_;
  MemoryResidue residue_;
  std::vector<uint64_t> taken_;  // the union of all that was harvested
  std::vector<uint64_t> round_;
  uint64_t rounds_ = 0;
  uint64_t residue_pages_ = 0;
};

}  // namespace pacsvisor
