// Which features of a processor one set of CPUID tables has that another lacks, by name: whether a
// guest that has seen the first can go on under the second.
#pragma once

#include <linux/kvm.h>

#include <span>
#include <string>
#include <vector>

namespace pacsvisor {

// Names in the order of leaves and bits ("AVX2", or "CPUID 0x7.0 EDX bit 30" where nobody has given
// it one). Bits that follow from the guest's own settings (OSXSAVE, OSPKE) and its topology do not
// count.
std::vector<std::string> FeaturesLacking(std::span<const kvm_cpuid_entry2> wanted,
                                         std::span<const kvm_cpuid_entry2> offered);

}  // namespace pacsvisor
