// The guest's clocks across a save and a load: TSC and kvm-clock move together. After a load both
// go on from the instant of the save, or from `advance_ns` later. Threads: control thread, all
// vCPUs parked.
#pragma once

#include "vmm/kvm/kvm_vm.h"
#include "vmm/machine/vcpu_group.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

Status SaveClock(const KvmVm& vm, const VcpuGroup& vcpus, StateNode& node);
// Last of all loads: from here on the guest's time runs.
Status LoadClock(KvmVm& vm, VcpuGroup& vcpus, const StateNode& node, uint64_t advance_ns);

}  // namespace pacsvisor
