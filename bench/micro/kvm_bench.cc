// What KVM itself costs on this host: making a VM, and an exit to user space and back.
#include <benchmark/benchmark.h>

#include <vector>

#include "vmm/kvm/kvm_vm.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kCodeStart = 0x1000;
constexpr uint64_t kDeviceStart = 0xd000'0000;  // no memory: every access leaves the guest
// Real mode: one access, and back to it.
const std::vector<uint8_t> kPortLoop = {0xe4, 0xe2, 0xeb, 0xfc};          // in al, 0xe2; jmp
const std::vector<uint8_t> kMemoryLoop = {0xa2, 0x00, 0x00, 0xeb, 0xfb};  // mov [0], al; jmp

std::unique_ptr<GuestMemory> MakeMemory(uint64_t size_bytes) {
  return GuestMemory::Create(MemoryLayout::Create(size_bytes, 46).value(),
                             MemoryBacking::kAnonymous)
      .value();
}

void ExitAndBack(benchmark::State& state, const std::vector<uint8_t>& code, uint32_t reason) {
  Result<std::unique_ptr<KvmSystem>> system = KvmSystem::Open();
  if (!system.ok()) {
    state.SkipWithError(system.error().message().c_str());
    return;
  }
  const auto memory = MakeMemory(4 * kMiB);
  const auto vm = KvmVm::Create(**system).value();
  CHECK(vm->AddMemory(*memory).ok() && memory->Write(GuestAddress(kCodeStart), code));
  const auto vcpu = vm->CreateVcpu(VcpuId(0)).value();
  kvm_sregs special = vcpu->GetSpecialRegisters().value();
  special.cs.base = 0;
  special.cs.selector = 0;
  special.ds.base = kDeviceStart;
  CHECK(vcpu->SetSpecialRegisters(special).ok());
  kvm_regs registers{};
  registers.rip = kCodeStart;
  registers.rflags = 2;
  CHECK(vcpu->SetRegisters(registers).ok());
  for (auto _ : state) {
    CHECK(vcpu->Run() == KvmVcpu::RunResult::kExit && vcpu->run().exit_reason == reason,
          "exit reason {}", uint32_t{vcpu->run().exit_reason});
  }
}
BENCHMARK_CAPTURE(ExitAndBack, port, kPortLoop, KVM_EXIT_IO)->UseRealTime();
BENCHMARK_CAPTURE(ExitAndBack, memory, kMemoryLoop, KVM_EXIT_MMIO)->UseRealTime();

// Argument: MiB of guest memory. The floor of every start and restore.
void MakeVm(benchmark::State& state) {
  Result<std::unique_ptr<KvmSystem>> system = KvmSystem::Open();
  if (!system.ok()) {
    state.SkipWithError(system.error().message().c_str());
    return;
  }
  for (auto _ : state) {
    const auto memory = MakeMemory(static_cast<uint64_t>(state.range(0)) * kMiB);
    const auto vm = KvmVm::Create(**system).value();
    CHECK(vm->AddMemory(*memory).ok() && vm->CreateInterruptControllers().ok());
    benchmark::DoNotOptimize(vm->CreateVcpu(VcpuId(0)).value());
  }
}
BENCHMARK(MakeVm)->Arg(128)->Arg(4096)->Arg(65536)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace pacsvisor
