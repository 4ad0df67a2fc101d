// A machine, and what somebody outside found it to be while it stood still: at each instant a
// program of its own (programs/instant_witness.cc) reads memory and disks, knowing nothing of dirty
// sets, and a snapshot is held against that.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "tests/guest/recorded_requests.h"
#include "tests/support/temporary_directory.h"
#include "vmm/machine/machine_subject.h"
#include "vmm/store/snapshot_reader.h"

namespace pacsvisor {

// Of a 4 KiB block: XXH3-128.
using BlockHash = std::pair<uint64_t, uint64_t>;

struct SeenAtInstant {
  std::vector<std::vector<BlockHash>> spaces;  // memory, then each disk
  std::vector<uint64_t> log_batches;           // of each disk's layers
  // These are on their way: what they touch may be as before, or after, or in between.
  std::vector<RecordedRequest> requests;
};

struct Differences {
  uint64_t memory_pages = 0;
  uint64_t disk_blocks = 0;
  uint64_t left_out = 0;  // blocks and pages of requests on their way
};

class WitnessedSubject : public SnapshotSubject {
 public:
  explicit WitnessedSubject(Machine& machine);

  const Space& memory() const override { return subject_->memory(); }
  DirtyTracker& tracker() override { return subject_->tracker(); }
  std::vector<FrozenSpace*> disks() override { return subject_->disks(); }
  WriteProtection* write_protection() override { return subject_->write_protection(); }
  Status AtInstant(const std::function<Status()>& work, PauseTimes& times) override;
  Status SaveState(StateNode& node) override;

  // Without, an instant is as short as it is in the program.
  void LookAtInstants(bool look) { look_ = look; }
  // Called when the pause is over.
  void AfterInstant(std::function<void()> call) { after_instant_ = std::move(call); }

  const SeenAtInstant& seen() const { return seen_; }
  // What of a snapshot is not as it was seen.
  Differences Compare(SnapshotReader& snapshot, const SeenAtInstant& seen) const;

 private:
  void Witness();
  std::vector<std::vector<bool>> Unsettled(const SeenAtInstant& seen) const;

  Machine& machine_;
  const std::unique_ptr<MachineSubject> subject_;
  const TemporaryDirectory directory_;
  bool look_ = true;
  std::function<void()> after_instant_;
  StateNode state_;
  SeenAtInstant seen_;
};

}  // namespace pacsvisor
