// Saving and loading a machine, memory and disks excepted. The order is DESIGN.md, sections 6.3
// and 9.
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_clock.h"
#include "vmm/machine/machine_parts.h"
#include "vmm/machine/working_set.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kMachineStateVersion = 1;

}  // namespace

Status Machine::Save(StateNode& node) const {
  const MutexLock lock(control_mutex_);
  CHECK(started_ && paused_, "machine {} is saved while it runs", config_.name);
  return SaveParts(node);
}

Status Machine::SaveAtInstant(StateNode& node) const {
  CHECK(at_instant_, "machine {} is saved while it runs", config_.name);
  return SaveParts(node);
}

Status Machine::SaveParts(StateNode& node) const {
  node.SetVersion(kMachineStateVersion);
  node.SetU64("memory_bytes", config_.memory_bytes);
  // A tick that is lost hangs a guest, one that is doubled does not: the PIT before the local
  // APICs, these before the IOAPIC.
  TRY(parts_->vm->SavePit(node.AddChild("pit")));
  for (const auto& thread : parts_->vcpus.threads()) {
    TRY(thread->vcpu().Save(node.AppendTo("vcpus")));
  }
  TRY(parts_->vm->SaveIrqchips(node.AddChild("irqchips")));
  TRY(SaveClock(*parts_->vm, parts_->vcpus, node.AddChild("clock")));
  parts_->platform->Save(node.AddChild("platform"));
  parts_->pci.Save(node.AddChild("pci"));
  parts_->virtio.Save(node.AddChild("virtio"));
  if (parts_->faults != nullptr) {
    SaveWorkingSet(parts_->faults->WorkingSet(), node);
  }
  return {};
}

Status Machine::Load(const StateNode& node, uint64_t clock_advance_ns) {
  const MutexLock lock(control_mutex_);
  CHECK(!started_, "machine {} is loaded while it runs", config_.name);
  TRY(node.Version(kMachineStateVersion));
  const uint64_t memory_bytes = TRY(node.U64("memory_bytes"));
  const std::span<const StateNode> vcpus = TRY(node.Children("vcpus"));
  const auto& threads = parts_->vcpus.threads();
  if (memory_bytes != config_.memory_bytes || vcpus.size() != threads.size()) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the saved machine has {} MiB and {} vCPUs, this configuration {} MiB and "
                       "{}: only a cold start can change them",
                       memory_bytes / kMiB, vcpus.size(), config_.memory_bytes / kMiB,
                       threads.size());
  }
  for (size_t i = 0; i < vcpus.size(); ++i) {
    TRY(threads[i]->vcpu().LoadCpu(vcpus[i]));
  }
  const StateNode* const pci = TRY(node.Child("pci"));
  const StateNode* const virtio = TRY(node.Child("virtio"));
  const StateNode* const platform = TRY(node.Child("platform"));
  const StateNode* const irqchips = TRY(node.Child("irqchips"));
  const StateNode* const pit = TRY(node.Child("pit"));
  const StateNode* const clock = TRY(node.Child("clock"));
  // MSI routes are set up by the functions that own them.
  TRY(parts_->pci.Load(*pci));
  TRY(parts_->virtio.Load(*virtio));
  TRY(parts_->platform->Load(*platform));
  TRY(parts_->vm->LoadIrqchips(*irqchips));
  for (size_t i = 0; i < vcpus.size(); ++i) {
    TRY(threads[i]->vcpu().LoadRegisters(vcpus[i]));
  }
  TRY(parts_->vm->LoadPit(*pit));
  TRY(LoadClock(*parts_->vm, parts_->vcpus, *clock, clock_advance_ns));
  // Its watchdogs would take the time away for a hang.
  for (const auto& thread : threads) {
    thread->vcpu().NotifyPaused();
  }
  return {};
}

Status Machine::RenewGenerationId() {
  const MutexLock lock(control_mutex_);
  CHECK(!started_, "machine {} is loaded while it runs", config_.name);
  TRY(parts_->platform->RenewGenerationId());
  parts_->platform->AnnounceGeneration();
  return {};
}

}  // namespace pacsvisor
