// What a machine is made of, in the order of construction; destroyed the other way round: vCPU
// threads first, then devices, then KVM's VM, who serves faults of guest memory, and that itself
// last. Private to the machine's own files.
#pragma once

#include <memory>

#include "devices/bus/bus.h"
#include "devices/pci/pci_bus.h"
#include "firmware/acpi/platform_description.h"
#include "vmm/dirty/dirty_tracker.h"
#include "vmm/kvm/interrupt_routes.h"
#include "vmm/kvm/kvm_system.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/machine/kvm_interrupts.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/platform_devices.h"
#include "vmm/machine/tracking.h"
#include "vmm/machine/vcpu_group.h"
#include "vmm/machine/virtio_devices.h"

namespace pacsvisor {

class Machine::Parts {
 public:
  Parts(std::shared_ptr<const KvmSystem> kvm_system, std::unique_ptr<GuestMemory> guest_memory,
        std::unique_ptr<KvmVm> kvm_vm, PlatformDescription description)
      : system(std::move(kvm_system)),
        memory(std::move(guest_memory)),
        vm(std::move(kvm_vm)),
        platform_description(std::move(description)),
        routes(*vm),
        msi(*vm, routes),
        doorbells(*vm),
        ports("I/O port", 0x1'0000, GuestFault::kPortUnanswered),
        mmio("MMIO", uint64_t{1} << system->physical_address_bits()),
        pci(mmio, platform_description.mmio32, platform_description.memory.mmio64),
        virtio({*memory, pci, msi, doorbells}) {}

  const std::shared_ptr<const KvmSystem> system;
  const std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<MemoryFaults> faults;  // null: none are served
  Status faults_problem;                 // then, why
  const std::unique_ptr<KvmVm> vm;
  const PlatformDescription platform_description;
  MachineTracker tracking;
  DeviceEnds ends;  // the virtio devices'
  InterruptRoutes routes;
  KvmMsiController msi;
  KvmDoorbells doorbells;
  Bus ports;
  Bus mmio;
  PciBus pci;
  std::unique_ptr<PlatformDevices> platform;
  VirtioDevices virtio;
  VcpuGroup vcpus;
};

}  // namespace pacsvisor
