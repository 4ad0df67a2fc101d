// Building a machine from its configuration: memory and VM first, then devices, vCPUs, the kernel.
#include <utility>

#include "firmware/acpi/acpi_tables.h"
#include "firmware/boot/load_kernel.h"
#include "vmm/base/log.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/machine/boot_registers.h"
#include "vmm/machine/fault_report.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_parts.h"

namespace pacsvisor {
namespace {

PlatformDescription DescribePlatform(const MachineConfig& config, MemoryLayout layout) {
  PlatformDescription description;
  description.memory = std::move(layout);
  for (uint32_t id = 0; id < config.cpus; ++id) {
    description.apic_ids.push_back(id);
  }
  return description;
}

KernelUnpacking UnpackingOf(KernelUnpack unpack) {
  // "auto" is the guest: its own start places the kernel at random (KASLR), which the host's
  // unpacking gives up, and nothing was to be gained: to the first line of Debian's 6.1 (lz4) and
  // 6.12 (zstd), nested, neither was sooner beyond the spread (bench/unpack.sh, bench/README.md).
  return unpack == KernelUnpack::kHost ? KernelUnpacking::kByHost : KernelUnpacking::kByGuest;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::Build(const MachineConfig& config, MachineOptions options,
                                                bool load_kernel) {
  std::unique_ptr<Machine> machine(new Machine(config, std::move(options)));
  TRY(machine->BuildParts());
  TRY(machine->BuildDevices());
  TRY(machine->BuildVcpus());
  if (load_kernel) {
    TRY(machine->LoadBootKernel());
  }
  return machine;
}

Status Machine::BuildParts() {
  std::unique_ptr<KvmSystem> system = TRY(KvmSystem::Open());
  MemoryLayout layout =
      TRY(MemoryLayout::Create(config_.memory_bytes, system->physical_address_bits()));
  std::unique_ptr<GuestMemory> memory = TRY(GuestMemory::Create(layout, config_.memory_backing));
  std::unique_ptr<KvmVm> vm = TRY(KvmVm::Create(*system));
  TRY(vm->AddMemory(*memory));
  TRY(vm->CreateInterruptControllers());
  parts_ = std::make_unique<Parts>(std::move(system), std::move(memory), std::move(vm),
                                   DescribePlatform(config_, std::move(layout)));
  return parts_->routes.Initialize();
}

Status Machine::BuildDevices() {
  Parts& parts = *parts_;
  parts.platform = TRY(PlatformDevices::Create(
      parts.platform_description, {*parts.vm, *parts.memory, parts.ports, parts.pci},
      {.console_output = options_.console_output,
       .power_off = [this] { End(MachineEnd::Reason::kPowerOff, {}); },
       .reset = [this] { End(MachineEnd::Reason::kReset, {}); }}));
  TRY(parts.mmio.Insert(parts.platform_description.ecam.start.raw(),
                        parts.platform_description.ecam.size_bytes, parts.pci.ecam()));
  TRY(parts.ports.Insert(parts.platform_description.pci_config_port, 8, parts.pci.ports()));
  return AddConfiguredDevices(parts.virtio, config_,
                              {options_.agent_socket, options_.image_record_directory});
}

Status Machine::BuildVcpus() {
  Parts& parts = *parts_;
  CpuTopology topology{.vcpu_count = config_.cpus, .tsc_khz = 0};
  for (uint32_t id = 0; id < config_.cpus; ++id) {
    std::unique_ptr<KvmVcpu> vcpu = TRY(parts.vm->CreateVcpu(VcpuId(id)));
    topology.tsc_khz = TRY(vcpu->TscKhz());
    const std::vector<kvm_cpuid_entry2> cpuid =
        TRY(MakeCpuid(*parts.system, config_.cpu, topology, id));
    TRY(vcpu->SetCpuid(cpuid));
    TRY(vcpu->SetBootMsrs());
    KvmVcpu* const borrowed = vcpu.get();
    parts.vcpus.Add(std::make_unique<VcpuThread>(
        std::move(vcpu),
        VcpuThread::Environment{parts.ports, parts.mmio, [this, borrowed](const VcpuFault& fault) {
                                  End(MachineEnd::Reason::kGuestFault,
                                      MakeFaultReport(*borrowed, *parts_->memory, fault.reason));
                                }}));
  }
  return {};
}

Status Machine::LoadBootKernel() {
  Parts& parts = *parts_;
  const AcpiPlacement acpi = TRY(WriteAcpiTables(*parts.memory, parts.platform_description));
  TRY(parts.platform->RenewGenerationId());
  const BootState state = TRY(LoadKernel(*parts.memory, parts.platform_description.memory,
                                         {.kernel = config_.boot.kernel,
                                          .initrd = config_.boot.initrd,
                                          .command_line = config_.boot.cmdline,
                                          .unpacking = UnpackingOf(config_.boot.unpack)},
                                         acpi));
  Log(LogLevel::kDebug, "loaded {}: {}", config_.boot.kernel, state.kernel);
  return SetBootRegisters(parts.vcpus.threads().front()->vcpu(), state);
}

}  // namespace pacsvisor
