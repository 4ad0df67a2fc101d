// The CPU a guest sees: KVM's supported CPUID, cut to a model, with this machine's topology.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/kvm/kvm_system.h"

namespace pacsvisor {

// The baselines are those of the x86-64 psABI (version 1.0, section 3.1.1): a guest of a baseline
// moves between hosts whose KVM offers it.
enum class CpuModel { kHost, kX86_64V2, kX86_64V3 };

Result<CpuModel> ParseCpuModel(std::string_view name);  // "host", "x86-64-v2", "x86-64-v3"
std::string_view CpuModelName(CpuModel model);

struct CpuTopology {
  uint32_t vcpu_count = 1;  // one socket, one thread a core; APIC id = vCPU number
  uint32_t tsc_khz = 0;     // told in leaf 0x40000010 when not 0
};

// The tables of vCPU `apic_id`. kUnsupported names the features a baseline needs and this KVM
// lacks. Virtualization extensions, SMM and MONITOR are always masked.
Result<std::vector<kvm_cpuid_entry2>> MakeCpuid(const KvmSystem& system, CpuModel model,
                                                const CpuTopology& topology, uint32_t apic_id);

const kvm_cpuid_entry2* FindCpuid(const std::vector<kvm_cpuid_entry2>& entries, uint32_t function,
                                  uint32_t index = 0);

}  // namespace pacsvisor
