#include "vmm/machine/restore_check.h"

#include <memory>
#include <span>
#include <vector>

#include "vmm/base/trial_process.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

// Tells while the virtual machine is still there.
void TryCpu(const MachineConfig& config, std::span<const StateNode> vcpus,
            const TellHowItWent& tell) {
  std::unique_ptr<KvmSystem> system;
  std::unique_ptr<KvmVm> vm;
  std::unique_ptr<KvmVcpu> vcpu;
  const auto load = [&]() -> Status {
    system = TRY(KvmSystem::Open());
    vm = TRY(KvmVm::Create(*system));
    TRY(vm->CreateInterruptControllers());
    vcpu = TRY(vm->CreateVcpu(VcpuId(0)));
    const CpuTopology topology{.vcpu_count = config.cpus, .tsc_khz = TRY(vcpu->TscKhz())};
    const std::vector<kvm_cpuid_entry2> cpuid = TRY(MakeCpuid(*system, config.cpu, topology, 0));
    TRY(vcpu->SetCpuid(cpuid));
    return vcpus.empty() ? Status() : vcpu->LoadCpu(vcpus.front());
  };
  tell(load());
}

}  // namespace

Status CheckHostCanRun(const MachineConfig& config, SnapshotReader& snapshot) {
  const std::vector<uint8_t> bytes = TRY(snapshot.State());
  if (bytes.empty()) {
    return {};  // disks only: that is somebody else's to say
  }
  const StateNode state = TRY(DecodeState(bytes));
  const std::span<const StateNode> vcpus = TRY(state.Children("vcpus"));
  // The end of a virtual machine takes KVM 20 ms: it waits for all who read the memory map of the
  // process, and this one has better things to do.
  return RunTrialProcess("the trial of the saved processor",
                         [&](const TellHowItWent& tell) { TryCpu(config, vcpus, tell); });
}

}  // namespace pacsvisor
