#include "vmm/machine/restore_check.h"

#include <memory>
#include <vector>

#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {

Status CheckHostCanRun(const MachineConfig& config, SnapshotReader& snapshot) {
  const std::vector<uint8_t> bytes = TRY(snapshot.State());
  if (bytes.empty()) {
    return {};  // disks only: that is somebody else's to say
  }
  const StateNode state = TRY(DecodeState(bytes));
  const std::span<const StateNode> vcpus = TRY(state.Children("vcpus"));
  const std::unique_ptr<KvmSystem> system = TRY(KvmSystem::Open());
  const std::unique_ptr<KvmVm> vm = TRY(KvmVm::Create(*system));
  TRY(vm->CreateInterruptControllers());
  const std::unique_ptr<KvmVcpu> vcpu = TRY(vm->CreateVcpu(VcpuId(0)));
  const CpuTopology topology{.vcpu_count = config.cpus, .tsc_khz = TRY(vcpu->TscKhz())};
  const std::vector<kvm_cpuid_entry2> cpuid = TRY(MakeCpuid(*system, config.cpu, topology, 0));
  TRY(vcpu->SetCpuid(cpuid));
  return vcpus.empty() ? Status() : vcpu->LoadCpu(vcpus.front());
}

}  // namespace pacsvisor
