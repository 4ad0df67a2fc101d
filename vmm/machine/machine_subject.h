// A Machine as vmm/snapshot sees it. Threads: the snapshot's; SnapshotSubject says more.
#pragma once

#include <memory>
#include <vector>

#include "vmm/machine/machine.h"
#include "vmm/snapshot/memory_space.h"
#include "vmm/snapshot/snapshot_subject.h"

namespace pacsvisor {

class MachineSubject : public SnapshotSubject {
 public:
  // The machine outlives it. kUnsupported where a disk cannot be frozen.
  static Result<std::unique_ptr<MachineSubject>> Create(Machine& machine);
  ~MachineSubject() override;

  const Space& memory() const override { return memory_; }
  DirtyTracker& tracker() override { return machine_.tracker(); }
  std::vector<FrozenSpace*> disks() override;
  WriteProtection* write_protection() override;
  Status AtInstant(const std::function<Status()>& work, PauseTimes& times) override {
    return machine_.AtInstant(work, times);
  }
  Status SaveState(StateNode& node) override { return machine_.SaveAtInstant(node); }

 private:
  class Disk;
  class Protection;

  explicit MachineSubject(Machine& machine);

  Machine& machine_;
  const MemorySpace memory_;
  std::vector<std::unique_ptr<Disk>> disks_;
  std::unique_ptr<Protection> protection_;  // null: the machine's memory has none
};

}  // namespace pacsvisor
