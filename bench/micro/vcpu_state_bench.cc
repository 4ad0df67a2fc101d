// What a pause pays for each vCPU's registers, and what a restore pays to put them back.
#include <benchmark/benchmark.h>

#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_vm.h"

namespace pacsvisor {
namespace {

// A machine of one vCPU that has never run.
struct IdleVcpu {
  std::unique_ptr<KvmSystem> system;
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<KvmVm> vm;
  std::unique_ptr<KvmVcpu> vcpu;
};

bool Build(benchmark::State& state, IdleVcpu& idle) {
  Result<std::unique_ptr<KvmSystem>> system = KvmSystem::Open();
  if (!system.ok()) {
    state.SkipWithError(system.error().message().c_str());
    return false;
  }
  idle.system = std::move(system).value();
  idle.memory =
      GuestMemory::Create(MemoryLayout::Create(4 * kMiB, 40).value(), MemoryBacking::kAnonymous)
          .value();
  idle.vm = KvmVm::Create(*idle.system).value();
  idle.vm->AddMemory(*idle.memory).value();
  idle.vm->CreateInterruptControllers().value();
  idle.vcpu = idle.vm->CreateVcpu(VcpuId(0)).value();
  idle.vcpu
      ->SetCpuid(
          MakeCpuid(*idle.system, CpuModel::kHost, {.vcpu_count = 1, .tsc_khz = 0}, 0).value())
      .value();
  return true;
}

void SaveVcpu(benchmark::State& state) {
  IdleVcpu idle;
  if (!Build(state, idle)) {
    return;
  }
  for (auto _ : state) {
    StateNode node;
    idle.vcpu->Save(node).value();
    benchmark::DoNotOptimize(node);
  }
}
BENCHMARK(SaveVcpu);

void LoadVcpu(benchmark::State& state) {
  IdleVcpu idle;
  if (!Build(state, idle)) {
    return;
  }
  StateNode node;
  idle.vcpu->Save(node).value();
  for (auto _ : state) {
    idle.vcpu->LoadRegisters(node).value();
  }
}
BENCHMARK(LoadVcpu);

}  // namespace
}  // namespace pacsvisor
