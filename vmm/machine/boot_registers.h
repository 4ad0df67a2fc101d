// A vCPU's registers as the loaded kernel expects them at its first instruction.
#pragma once

#include "firmware/boot/boot_state.h"
#include "vmm/kvm/kvm_vcpu.h"

namespace pacsvisor {

// On the boot processor, after SetCpuid (some kernels refuse long mode before).
Status SetBootRegisters(KvmVcpu& vcpu, const BootState& state);

}  // namespace pacsvisor
