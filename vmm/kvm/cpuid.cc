#include "vmm/kvm/cpuid.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

namespace pacsvisor {
namespace {

enum class Register { kEax, kEbx, kEcx, kEdx };

struct Feature {
  std::string_view name;
  uint32_t function;
  Register reg;
  unsigned bit;
};

// psABI levels by CPUID bit (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix D).
constexpr Feature kV2[] = {
    {"SSE3", 1, Register::kEcx, 0},           {"SSSE3", 1, Register::kEcx, 9},
    {"CMPXCHG16B", 1, Register::kEcx, 13},    {"SSE4.1", 1, Register::kEcx, 19},
    {"SSE4.2", 1, Register::kEcx, 20},        {"POPCNT", 1, Register::kEcx, 23},
    {"LAHF", 0x8000'0001, Register::kEcx, 0},
};
constexpr Feature kV3[] = {
    {"FMA", 1, Register::kEcx, 12},
    {"MOVBE", 1, Register::kEcx, 22},
    {"XSAVE", 1, Register::kEcx, 26},
    {"AVX", 1, Register::kEcx, 28},
    {"F16C", 1, Register::kEcx, 29},
    {"BMI1", 7, Register::kEbx, 3},
    {"AVX2", 7, Register::kEbx, 5},
    {"BMI2", 7, Register::kEbx, 8},
    {"LZCNT", 0x8000'0001, Register::kEcx, 5},
};

// What a baseline keeps beside its level: what every x86-64 system expects of a virtual CPU.
constexpr uint32_t kBaseLeaf1Edx = 0x0fab'fbff;   // FPU..CLFLUSH, MMX, FXSR, SSE, SSE2, HTT as set
constexpr uint32_t kBaseLeaf1Ecx = (1u << 1)      // PCLMULQDQ
                                   | (1u << 17)   // PCID
                                   | (1u << 21)   // x2APIC
                                   | (1u << 24)   // TSC deadline
                                   | (1u << 25)   // AES
                                   | (1u << 30)   // RDRAND
                                   | (1u << 31);  // HYPERVISOR
constexpr uint32_t kBaseLeaf7Ebx = (1u << 7) | (1u << 10) | (1u << 20);  // SMEP, INVPCID, SMAP
constexpr uint32_t kBaseExtendedEdx = 0x2c10'0800;  // SYSCALL, NX, 1 GiB pages, RDTSCP, LM
constexpr uint64_t kXcr0Avx = 7;                    // x87, SSE, AVX

constexpr uint32_t kLeaf1EcxMonitor = 1u << 3;
constexpr uint32_t kLeaf1EcxVmx = 1u << 5;
constexpr uint32_t kLeaf1EcxX2Apic = 1u << 21;
constexpr uint32_t kLeaf1EcxTscDeadline = 1u << 24;
constexpr uint32_t kLeaf1EcxOsxsave = 1u << 27;
constexpr uint32_t kLeaf1EcxHypervisor = 1u << 31;
constexpr uint32_t kLeaf1EdxHtt = 1u << 28;
constexpr uint32_t k80000007EdxInvariantTsc = 1u << 8;
constexpr uint32_t kLeaf7EdxArchCapabilities = 1u << 29;
constexpr uint32_t kExtendedEcxSvm = 1u << 2;
constexpr uint32_t kExtendedEcxTopology = 1u << 22;

uint32_t& Word(kvm_cpuid_entry2& entry, Register reg) {
  switch (reg) {
    case Register::kEax:
      return entry.eax;
    case Register::kEbx:
      return entry.ebx;
    case Register::kEcx:
      return entry.ecx;
    case Register::kEdx:
      return entry.edx;
  }
  CHECK(false, "register {}", static_cast<int>(reg));
}

kvm_cpuid_entry2* Find(std::vector<kvm_cpuid_entry2>& entries, uint32_t function) {
  return const_cast<kvm_cpuid_entry2*>(FindCpuid(entries, function));
}

kvm_cpuid_entry2& FindOrAdd(std::vector<kvm_cpuid_entry2>& entries, uint32_t function) {
  kvm_cpuid_entry2* found = Find(entries, function);
  if (found == nullptr) {
    kvm_cpuid_entry2 entry{};
    entry.function = function;
    entries.push_back(entry);
    found = &entries.back();
  }
  return *found;
}

std::string MissingFeatures(std::vector<kvm_cpuid_entry2>& entries,
                            std::span<const Feature> features) {
  std::string missing;
  for (const Feature& feature : features) {
    kvm_cpuid_entry2* entry = Find(entries, feature.function);
    if (entry == nullptr || (Word(*entry, feature.reg) >> feature.bit & 1) == 0) {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", feature.name);
    }
  }
  return missing;
}

uint32_t KeptBits(CpuModel model, uint32_t function, Register reg, uint32_t base) {
  const auto add = [&](std::span<const Feature> features) {
    for (const Feature& feature : features) {
      if (feature.function == function && feature.reg == reg) {
        base |= 1u << feature.bit;
      }
    }
  };
  add(kV2);
  if (model == CpuModel::kX86_64V3) {
    add(kV3);
  }
  return base;
}

Status CutToBaseline(std::vector<kvm_cpuid_entry2>& entries, CpuModel model) {
  std::string missing = MissingFeatures(entries, kV2);
  if (model == CpuModel::kX86_64V3) {
    const std::string more = MissingFeatures(entries, kV3);
    missing += missing.empty() || more.empty() ? more : ", " + more;
  }
  if (!missing.empty()) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this host's KVM cannot offer cpu = \"{}\": it lacks {}; choose \"host\" or "
                       "a lower baseline",
                       CpuModelName(model), missing);
  }
  const bool with_avx = model == CpuModel::kX86_64V3;
  std::erase_if(entries, [&](const kvm_cpuid_entry2& entry) {
    return (entry.function == 7 && entry.index > 0) ||
           (entry.function == 0xd && (!with_avx || entry.index > 2)) || entry.function == 6 ||
           (entry.function >= 0xe && entry.function < 0x4000'0000 && entry.function != 0x1f) ||
           entry.function == 0xa || (entry.function > 0x8000'0008 && entry.function < 0xc000'0000);
  });
  for (kvm_cpuid_entry2& entry : entries) {
    switch (entry.function) {
      case 0:
        entry.eax = std::min(entry.eax, 0x1fu);
        break;
      case 1:
        entry.ecx &= KeptBits(model, 1, Register::kEcx, kBaseLeaf1Ecx);
        entry.edx &= kBaseLeaf1Edx;
        break;
      case 7:
        entry.eax = 0;
        entry.ebx &= KeptBits(model, 7, Register::kEbx, kBaseLeaf7Ebx);
        entry.ecx = 0;
        entry.edx = 0;
        break;
      case 0xd:
        if (entry.index == 0) {
          entry.eax &= kXcr0Avx;
          entry.edx = 0;
        } else if (entry.index == 1) {
          entry.eax = entry.ebx = entry.ecx = entry.edx = 0;  // no XSAVES, XSAVEC, XGETBV(1)
        }
        break;
      case 0x8000'0000:
        entry.eax = 0x8000'0008;
        break;
      case 0x8000'0001:
        entry.ecx &= KeptBits(model, 0x8000'0001, Register::kEcx, 0);
        entry.edx &= kBaseExtendedEdx;
        break;
      default:
        break;
    }
  }
  return {};
}

void MaskForbidden(std::vector<kvm_cpuid_entry2>& entries, const KvmSystem& system) {
  for (kvm_cpuid_entry2& entry : entries) {
    if (entry.function == 1) {
      entry.ecx &= ~(kLeaf1EcxMonitor | kLeaf1EcxVmx | kLeaf1EcxOsxsave);
      entry.ecx |= kLeaf1EcxHypervisor | kLeaf1EcxX2Apic;
      if (system.Check(KVM_CAP_TSC_DEADLINE_TIMER) > 0) {
        entry.ecx |= kLeaf1EcxTscDeadline;  // KVM leaves this bit to user space (api.rst, 4.46)
      }
    } else if (entry.function == 7 && entry.index == 0) {
      // MSR_IA32_ARCH_CAPABILITIES of a paravirtual KVM names the outer host's mitigations, not
      // ours.
      if (system.kind() == KvmKind::kPvm) {
        entry.edx &= ~kLeaf7EdxArchCapabilities;
      }
    } else if (entry.function == 0x8000'0001) {
      entry.ecx &= ~(kExtendedEcxSvm | kExtendedEcxTopology);
    } else if (entry.function == 0x8000'0007 && system.kind() == KvmKind::kPvm) {
      // A paravirtual KVM takes TSC offsets and ignores them: RDTSC at CPL 3 reads the host's
      // counter, which jumps by the time away in a restored guest. kvm-clock does not; Linux
      // keeps to it where the TSC is not said to be invariant.
      entry.edx &= ~k80000007EdxInvariantTsc;
    }
  }
  std::erase_if(entries, [](const kvm_cpuid_entry2& entry) {
    return entry.function == 0x8000'000a || entry.function == 0x8000'001e;  // SVM, AMD topology
  });
}

// One socket of single-threaded cores. Leaf 0xb (Intel SDM 2A) tells x2APIC ids; leaf 1 the rest.
void SetTopology(std::vector<kvm_cpuid_entry2>& entries, const CpuTopology& topology,
                 uint32_t apic_id) {
  const auto core_bits =
      static_cast<uint32_t>(std::bit_width(std::bit_ceil(topology.vcpu_count)) - 1);
  kvm_cpuid_entry2& leaf1 = FindOrAdd(entries, 1);
  leaf1.ebx = (leaf1.ebx & 0xffff) | (apic_id << 24) | (topology.vcpu_count << 16);
  leaf1.edx = topology.vcpu_count > 1 ? leaf1.edx | kLeaf1EdxHtt : leaf1.edx & ~kLeaf1EdxHtt;

  for (kvm_cpuid_entry2& entry : entries) {
    if (entry.function == 4 && (entry.eax & 0x1f) != 0) {
      const bool shared_by_all = (entry.eax >> 5 & 7) >= 3;  // last-level cache
      entry.eax &= 0x3fff;
      entry.eax |= (topology.vcpu_count - 1) << 26;
      entry.eax |= (shared_by_all ? topology.vcpu_count - 1 : 0) << 14;
    } else if (entry.function == 0x8000'0008) {
      // AMD APM 3, E.4.7: core count - 1 and the width of the core part of APIC ids.
      entry.ecx = (core_bits << 12) | (topology.vcpu_count - 1);
    }
  }
  std::erase_if(entries, [](const kvm_cpuid_entry2& entry) {
    return entry.function == 0xb || entry.function == 0x1f;
  });
  const auto level = [&](uint32_t index, uint32_t shift, uint32_t count, uint32_t type) {
    kvm_cpuid_entry2 entry{};
    entry.function = 0xb;
    entry.index = index;
    entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry.eax = shift;
    entry.ebx = count;
    entry.ecx = (type << 8) | index;
    entry.edx = apic_id;
    entries.push_back(entry);
  };
  level(0, 0, 1, 1);                            // SMT
  level(1, core_bits, topology.vcpu_count, 2);  // core
  level(2, 0, 0, 0);                            // end
  kvm_cpuid_entry2& leaf0 = FindOrAdd(entries, 0);
  leaf0.eax = std::max(leaf0.eax, 0xbu);
}

// Leaf 0x40000010 (a convention of VMware's that Linux and the BSDs read): TSC and bus kHz.
void SetTiming(std::vector<kvm_cpuid_entry2>& entries, uint32_t tsc_khz) {
  if (tsc_khz == 0) {
    return;
  }
  constexpr uint32_t kApicBusKhz = 1'000'000;  // KVM's local APIC timer runs at 1 GHz
  FindOrAdd(entries, 0x4000'0000).eax = 0x4000'0010;
  kvm_cpuid_entry2& timing = FindOrAdd(entries, 0x4000'0010);
  timing.eax = tsc_khz;
  timing.ebx = kApicBusKhz;
}

}  // namespace

Result<CpuModel> ParseCpuModel(std::string_view name) {
  for (const CpuModel model : {CpuModel::kHost, CpuModel::kX86_64V2, CpuModel::kX86_64V3}) {
    if (CpuModelName(model) == name) {
      return model;
    }
  }
  return Error::Make(ErrorCode::kInvalidArgument,
                     "'{}' is no CPU model: use host, x86-64-v2 or x86-64-v3", name);
}

std::string_view CpuModelName(CpuModel model) {
  switch (model) {
    case CpuModel::kHost:
      return "host";
    case CpuModel::kX86_64V2:
      return "x86-64-v2";
    case CpuModel::kX86_64V3:
      return "x86-64-v3";
  }
  CHECK(false, "model {}", static_cast<int>(model));
}

const kvm_cpuid_entry2* FindCpuid(const std::vector<kvm_cpuid_entry2>& entries, uint32_t function,
                                  uint32_t index) {
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function == function && entry.index == index) {
      return &entry;
    }
  }
  return nullptr;
}

Result<std::vector<kvm_cpuid_entry2>> MakeCpuid(const KvmSystem& system, CpuModel model,
                                                const CpuTopology& topology, uint32_t apic_id) {
  CHECK(topology.vcpu_count >= 1 && apic_id < topology.vcpu_count);
  std::vector<kvm_cpuid_entry2> entries = system.supported_cpuid();
  if (model != CpuModel::kHost) {
    TRY(CutToBaseline(entries, model));
  }
  MaskForbidden(entries, system);
  SetTopology(entries, topology, apic_id);
  SetTiming(entries, topology.tsc_khz);
  return entries;
}

}  // namespace pacsvisor
