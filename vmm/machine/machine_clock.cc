#include "vmm/machine/machine_clock.h"

#include <x86intrin.h>

namespace pacsvisor {
namespace {

constexpr uint32_t kMachineClockStateVersion = 1;
constexpr uint64_t kNsPerKhzTick = 1'000'000;  // ns * kHz / this = ticks

uint64_t TscTicks(uint64_t time_ns, uint32_t tsc_khz) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(time_ns) * tsc_khz / kNsPerKhzTick);
}

}  // namespace

Status SaveClock(const KvmVm& vm, const VcpuGroup& vcpus, StateNode& node) {
  const kvm_clock_data clock = TRY(vm.GetClock());
  const bool exact = (clock.flags & KVM_CLOCK_HOST_TSC) != 0;
  const uint64_t host_tsc = exact ? clock.host_tsc : __rdtsc();
  node.SetVersion(kMachineClockStateVersion);
  node.SetU64("clock_ns", clock.clock);
  node.SetU64("host_tsc", host_tsc);
  if ((clock.flags & KVM_CLOCK_REALTIME) != 0) {
    node.SetU64("realtime_ns", clock.realtime);
  }
  for (const auto& thread : vcpus.threads()) {
    StateNode& vcpu = node.AppendTo("vcpus");
    const std::optional<uint64_t> offset = thread->vcpu().TscOffset();
    if (offset.has_value()) {
      vcpu.SetU64("tsc_offset", *offset);
    }
  }
  return {};
}

Status LoadClock(KvmVm& vm, VcpuGroup& vcpus, const StateNode& node, uint64_t advance_ns) {
  TRY(node.Version(kMachineClockStateVersion));
  const uint64_t saved_host_tsc = TRY(node.U64("host_tsc"));
  const std::span<const StateNode> saved = TRY(node.Children("vcpus"));
  if (saved.size() != vcpus.threads().size()) {
    return Error::Make(ErrorCode::kCorrupt, "clocks of {} vCPUs for {}", saved.size(),
                       vcpus.threads().size());
  }
  // One reading for all vCPUs: what their counters differed by, they differ by again. Offsets wrap.
  const uint64_t host_tsc = __rdtsc();
  for (size_t i = 0; i < saved.size(); ++i) {
    KvmVcpu& vcpu = vcpus.threads()[i]->vcpu();
    // Without offsets on either side the saved TSC register, loaded with the others, has to do.
    if (saved[i].Has("tsc_offset") && vcpu.TscOffset().has_value()) {
      const uint64_t offset = TRY(saved[i].U64("tsc_offset"));
      const uint32_t tsc_khz = TRY(vcpu.TscKhz());
      TRY(vcpu.SetTscOffset(offset + saved_host_tsc - host_tsc + TscTicks(advance_ns, tsc_khz)));
    }
  }
  const uint64_t clock_ns = TRY(node.U64("clock_ns"));
  return vm.SetClock(clock_ns + advance_ns);
}

}  // namespace pacsvisor
