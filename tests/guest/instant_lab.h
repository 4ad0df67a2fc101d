// A Linux guest in this process whose snapshots a test takes step by step: a store beside it, each
// disk but the first two (root and job) on an engine that the test can make hold everything back,
// and a witness at each instant. And what comes of its snapshots.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/guest/linux_guest.h"
#include "tests/guest/witnessed_subject.h"
#include "tests/support/fault_engine.h"
#include "vmm/machine/host_resources.h"
#include "vmm/machine/machine_restore.h"
#include "vmm/snapshot/snapshot_taker.h"

namespace pacsvisor {

class InstantLab {
 public:
  static constexpr size_t kFirstDisk = 2;  // of those that can be held
  enum class Engines { kHeld, kTheHosts };

  // Boots. kTheHosts: nothing can be held.
  InstantLab(const GuestFiles& files, MachineConfig config, Engines engines = Engines::kHeld);
  ~InstantLab();

  GuestMachine& guest() { return *guest_; }
  WitnessedSubject& subject() { return *subject_; }
  Store& store() { return *host_->store; }
  const MachineConfig& config() const { return config_; }
  FaultEngine& engine(size_t disk) { return *engines_[disk - kFirstDisk]; }

  // From now on nothing that the guest asks of these disks comes to the host; LetGo: all of it.
  void Hold();
  void LetGo();
  // Until each of these disks has so many operations waiting.
  void AwaitHeld(size_t each);
  // Until no disk has layers any more.
  void AwaitMerged();

  Result<TakenSnapshot> Take();
  Result<TakenSnapshot> Take(CaptureObserver& observer);

 private:
  MachineConfig config_;
  std::vector<std::shared_ptr<FaultEngine>> engines_;
  std::shared_ptr<const HostResources> host_;
  std::unique_ptr<GuestMachine> guest_;
  std::unique_ptr<WitnessedSubject> subject_;
  std::unique_ptr<SnapshotTaker> taker_;
};

// A snapshot as if it had been taken so much earlier.
class AgedSnapshot : public SnapshotReader {
 public:
  AgedSnapshot(std::shared_ptr<SnapshotReader> snapshot, uint64_t age_ns)
      : snapshot_(std::move(snapshot)), info_(snapshot_->info()) {
    info_.draft.instant_ns -= age_ns;
  }
  const SnapshotInfo& info() const override { return info_; }
  Result<std::vector<uint8_t>> State() override { return snapshot_->State(); }
  Status Read(uint32_t space, BlockIndex first, std::span<uint8_t> bytes) override {
    return snapshot_->Read(space, first, bytes);
  }
  Result<uint64_t> ZeroRun(uint32_t space, BlockIndex first) override {
    return snapshot_->ZeroRun(space, first);
  }

 private:
  const std::shared_ptr<SnapshotReader> snapshot_;
  SnapshotInfo info_;
};

// A machine of a snapshot that was taken `age_ns` earlier than it was, with disks of its own in a
// directory that is made for it; loaded, not started.
std::unique_ptr<GuestMachine> RestoreBeside(Store& store, const SnapshotId& id,
                                            const MachineConfig& source,
                                            const std::string& directory,
                                            RestoredClock clock = RestoredClock::kContinue,
                                            uint64_t age_ns = 0);

}  // namespace pacsvisor
