// One virtual processor of KVM.
// Threads: everything belongs to the vCPU's own thread, or to the control thread while that one is
// parked; RequestExit may be called from any.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/mapping.h"
#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"
#include "vmm/base/unique_fd.h"
#include "vmm/kvm/kvm_system.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class KvmVcpu {
 public:
  static Result<std::unique_ptr<KvmVcpu>> Create(const KvmSystem& system, VcpuId id, UniqueFd fd);

  VcpuId id() const { return id_; }
  Status SetCpuid(const std::vector<kvm_cpuid_entry2>& entries);
  Result<std::vector<kvm_cpuid_entry2>> GetCpuid() const;
  Result<uint32_t> TscKhz() const;
  // What is added to the host's TSC for the guest (KVM_VCPU_TSC_OFFSET); none where KVM does not
  // say.
  std::optional<uint64_t> TscOffset() const;
  Status SetTscOffset(uint64_t offset);

  enum class RunResult {
    kExit,         // run().exit_reason says why
    kInterrupted,  // RequestExit or a signal
    kFailed,       // errno says why: the vCPU cannot go on
  };
  // KVM_RUN. What the last exit left to complete (a port read's data) is applied first.
  RunResult Run();
  // Makes the current or the next Run return kInterrupted, after it has completed the last exit's
  // access. A vCPU that is in guest code leaves it only on a signal to its thread, sent after this.
  void RequestExit() const;
  void ClearExitRequest() const;
  bool ExitRequested() const;

  kvm_run& run() { return *run_; }
  // Data of a KVM_EXIT_IO: `size` bytes each for `count` repetitions.
  std::span<uint8_t> io_data();

  // Of a VM with dirty rings of `entries`: this vCPU's, kvm_dirty_gfn[entries].
  Result<Mapping> MapDirtyRing(uint32_t entries) const;

  Result<kvm_regs> GetRegisters() const;
  Status SetRegisters(const kvm_regs& registers);
  Result<kvm_sregs> GetSpecialRegisters() const;
  Status SetSpecialRegisters(const kvm_sregs& registers);
  // After SetCpuid: what a processor has at reset beside the registers (PAT, MTRRs, MISC_ENABLE).
  Status SetBootMsrs();

  // Between a pause and the resume: the guest was stopped on purpose (KVM_KVMCLOCK_CTRL); a guest
  // without kvm-clock has nothing to be told.
  void NotifyPaused();

  // DESIGN.md sections 6.3 and 9 give the order within these. Clock: see KvmVm. `LoadCpu` comes
  // before the VM's interrupt controllers are loaded, `LoadRegisters` after.
  Status Save(StateNode& node) const;
  Status LoadCpu(const StateNode& node);
  Status LoadRegisters(const StateNode& node);

 private:
  KvmVcpu(const KvmSystem& system, VcpuId id, UniqueFd fd, Mapping mapping);

  Status SaveMsrs(StateNode& node) const;
  Status LoadMsrs(const StateNode& node);
  Status SaveXsave(StateNode& node) const;
  Status LoadXsave(const StateNode& node);
  Status SaveSpecialRegisters(StateNode& node) const;
  Status LoadSpecialRegisters(const StateNode& node);

  const KvmSystem& system_;
  const VcpuId id_;
  const UniqueFd fd_;
  const Mapping mapping_;
  kvm_run* const run_;
  // Those of KVM's MSR list that this vCPU has; empty before the first Save. Owned by who saves.
  mutable std::vector<uint32_t> readable_msrs_;
};

}  // namespace pacsvisor
