// What an engineer needs when a vCPU cannot go on: the reason in words, registers, the code at RIP
// disassembled (Capstone), the page walks of RIP and CR2.
#pragma once

#include <string>

#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

// On the vCPU's own thread, or while it is parked.
std::string MakeFaultReport(const KvmVcpu& vcpu, const GuestMemory& memory,
                            const std::string& reason);

}  // namespace pacsvisor
