#include "vmm/kvm/cpuid_features.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace pacsvisor {
namespace {

using BitNames = std::array<std::string_view, 32>;
using FeatureRegister = uint32_t kvm_cpuid_entry2::*;

// A register whose bits are features, one each (Intel SDM volume 2A, CPUID; AMD APM volume 3,
// appendix E; Linux, Documentation/virt/kvm/x86/cpuid.rst). `ignored`: bits that are none.
struct FeatureWord {
  uint32_t function;
  uint32_t index;
  FeatureRegister reg;
  std::string_view register_name;
  uint32_t ignored;
  BitNames names;
};

constexpr uint32_t kOsxsave = 1u << 27;
constexpr uint32_t kHtt = 1u << 28;
constexpr uint32_t kOspke = 1u << 4;

constexpr FeatureWord kWords[] = {
    {1,
     0,
     &kvm_cpuid_entry2::ecx,
     "ECX",
     kOsxsave,
     {"SSE3",   "PCLMULQDQ", "DTES64", "MONITOR",      "DS_CPL", "VMX",    "SMX",
      "EST",    "TM2",       "SSSE3",  "CNXT_ID",      "SDBG",   "FMA",    "CMPXCHG16B",
      "XTPR",   "PDCM",      "",       "PCID",         "DCA",    "SSE4.1", "SSE4.2",
      "X2APIC", "MOVBE",     "POPCNT", "TSC_DEADLINE", "AES",    "XSAVE",  "",
      "AVX",    "F16C",      "RDRAND", "HYPERVISOR"}},
    {1, 0, &kvm_cpuid_entry2::edx, "EDX", kHtt, {"FPU",  "VME",     "DE",   "PSE",  "TSC",  "MSR",
                                                 "PAE",  "MCE",     "CX8",  "APIC", "",     "SEP",
                                                 "MTRR", "PGE",     "MCA",  "CMOV", "PAT",  "PSE36",
                                                 "PSN",  "CLFLUSH", "",     "DS",   "ACPI", "MMX",
                                                 "FXSR", "SSE",     "SSE2", "SS",   "",     "TM",
                                                 "IA64", "PBE"}},
    {7, 0, &kvm_cpuid_entry2::ebx, "EBX", 0, {"FSGSBASE", "TSC_ADJUST", "SGX",      "BMI1",
                                              "HLE",      "AVX2",       "",         "SMEP",
                                              "BMI2",     "ERMS",       "INVPCID",  "RTM",
                                              "PQM",      "",           "MPX",      "PQE",
                                              "AVX512F",  "AVX512DQ",   "RDSEED",   "ADX",
                                              "SMAP",     "AVX512IFMA", "",         "CLFLUSHOPT",
                                              "CLWB",     "INTEL_PT",   "AVX512PF", "AVX512ER",
                                              "AVX512CD", "SHA",        "AVX512BW", "AVX512VL"}},
    {7,
     0,
     &kvm_cpuid_entry2::ecx,
     "ECX",
     kOspke,
     {"PREFETCHWT1",
      "AVX512VBMI",
      "UMIP",
      "PKU",
      "",
      "WAITPKG",
      "AVX512VBMI2",
      "SHSTK",
      "GFNI",
      "VAES",
      "VPCLMULQDQ",
      "AVX512VNNI",
      "AVX512BITALG",
      "TME",
      "AVX512VPOPCNTDQ",
      "",
      "LA57",
      "",
      "",
      "",
      "",
      "",
      "RDPID",
      "",
      "BUS_LOCK_DETECT",
      "CLDEMOTE",
      "",
      "MOVDIRI",
      "MOVDIR64B",
      "ENQCMD",
      "SGX_LC",
      "PKS"}},
    {7,
     0,
     &kvm_cpuid_entry2::edx,
     "EDX",
     0,
     {"",
      "",
      "AVX512_4VNNIW",
      "AVX512_4FMAPS",
      "FSRM",
      "UINTR",
      "",
      "",
      "AVX512_VP2INTERSECT",
      "SRBDS_CTRL",
      "MD_CLEAR",
      "RTM_ALWAYS_ABORT",
      "",
      "",
      "SERIALIZE",
      "HYBRID",
      "TSXLDTRK",
      "",
      "PCONFIG",
      "ARCH_LBR",
      "IBT",
      "",
      "AMX_BF16",
      "AVX512_FP16",
      "AMX_TILE",
      "AMX_INT8",
      "IBRS",
      "STIBP",
      "FLUSH_L1D",
      "ARCH_CAPABILITIES",
      "CORE_CAPABILITIES",
      "SSBD"}},
    {7,
     1,
     &kvm_cpuid_entry2::eax,
     "EAX",
     0,
     {"",          "", "",         "",     "AVX_VNNI", "AVX512_BF16", "",
      "CMPCCXADD", "", "",         "FZRM", "FSRS",     "FSRC",        "",
      "",          "", "",         "FRED", "LKGS",     "WRMSRNS",     "",
      "AMX_FP16",  "", "AVX_IFMA", "",     "",         "LAM"}},
    {0xd,
     0,
     &kvm_cpuid_entry2::eax,
     "EAX",
     0,
     {"x87 state", "SSE state", "AVX state", "BNDREGS state", "BNDCSR state",
      "AVX-512 opmask state", "AVX-512 upper state", "AVX-512 high state", "", "PKRU state"}},
    {0xd, 1, &kvm_cpuid_entry2::eax, "EAX", 0, {"XSAVEOPT", "XSAVEC", "XGETBV1", "XSAVES", "XFD"}},
    // Paravirtual features of KVM.
    {0x4000'0001,
     0,
     &kvm_cpuid_entry2::eax,
     "EAX",
     0,
     {"kvm-clock", "KVM nop I/O delay", "KVM MMU op", "kvm-clock 2", "KVM async page fault",
      "KVM steal time", "KVM PV EOI", "KVM PV unhalt", "", "KVM PV TLB flush",
      "KVM async page fault as VM exit", "KVM PV send IPI", "KVM poll control",
      "KVM PV sched yield", "KVM async page fault interrupt", "KVM MSI extended destination"}},
    {0x8000'0001,
     0,
     &kvm_cpuid_entry2::ecx,
     "ECX",
     0,
     {"LAHF",
      "CMP_LEGACY",
      "SVM",
      "EXTAPIC",
      "CR8_LEGACY",
      "LZCNT",
      "SSE4A",
      "MISALIGNSSE",
      "3DNOWPREFETCH",
      "OSVW",
      "IBS",
      "XOP",
      "SKINIT",
      "WDT",
      "",
      "LWP",
      "FMA4",
      "TCE",
      "",
      "NODEID_MSR",
      "",
      "TBM",
      "TOPOEXT",
      "PERFCTR_CORE",
      "PERFCTR_NB",
      "",
      "BPEXT",
      "PTSC",
      "PERFCTR_LLC",
      "MWAITX"}},
    // Bits 0 to 9, 12 to 17, 23 and 24 repeat those of leaf 1 on AMD.
    {0x8000'0001,
     0,
     &kvm_cpuid_entry2::edx,
     "EDX",
     0,
     {"",       "",   "",        "",         "",       "", "", "",         "",
      "",       "",   "SYSCALL", "",         "",       "", "", "",         "",
      "",       "MP", "NX",      "",         "MMXEXT", "", "", "FXSR_OPT", "1 GiB pages",
      "RDTSCP", "",   "LM",      "3DNOWEXT", "3DNOW"}},
    {0x8000'0007,
     0,
     &kvm_cpuid_entry2::edx,
     "EDX",
     0,
     {"", "", "", "", "", "", "", "", "invariant TSC"}},
    {0x8000'0008,
     0,
     &kvm_cpuid_entry2::ebx,
     "EBX",
     0,
     {"CLZERO", "IRPERF",          "XSAVEERPTR", "",     "RDPRU", "", "",     "",
      "",       "WBNOINVD",        "",           "",     "IBPB",  "", "IBRS", "STIBP",
      "",       "STIBP_ALWAYS_ON", "",           "",     "",      "", "",     "PPIN",
      "SSBD",   "VIRT_SSBD",       "SSB_NO",     "CPPC", "PSFD"}},
    {0x8000'0021, 0, &kvm_cpuid_entry2::eax, "EAX", 0, {}},
};

const kvm_cpuid_entry2* FindEntry(std::span<const kvm_cpuid_entry2> entries, uint32_t function,
                                  uint32_t index) {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const auto& entry) {
    return entry.function == function && entry.index == index;
  });
  return found == entries.end() ? nullptr : &*found;
}

uint32_t BitsOf(std::span<const kvm_cpuid_entry2> entries, const FeatureWord& word) {
  const kvm_cpuid_entry2* entry = FindEntry(entries, word.function, word.index);
  return entry == nullptr ? 0 : entry->*word.reg & ~word.ignored;
}

std::string NameOfBit(const FeatureWord& word, unsigned bit) {
  return word.names[bit].empty() ? fmt::format("CPUID {:#x}.{} {} bit {}", word.function,
                                               word.index, word.register_name, bit)
                                 : std::string(word.names[bit]);
}

}  // namespace

std::vector<std::string> FeaturesLacking(std::span<const kvm_cpuid_entry2> wanted,
                                         std::span<const kvm_cpuid_entry2> offered) {
  std::vector<std::string> lacking;
  for (const FeatureWord& word : kWords) {
    const uint32_t missing = BitsOf(wanted, word) & ~BitsOf(offered, word);
    for (unsigned bit = 0; bit < 32; ++bit) {
      if ((missing >> bit & 1) != 0) {
        lacking.push_back(NameOfBit(word, bit));
      }
    }
  }
  return lacking;
}

}  // namespace pacsvisor
