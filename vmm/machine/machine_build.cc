// Building a machine from its configuration: memory and VM first, then devices, vCPUs, the kernel.
#include <utility>

#include "firmware/acpi/acpi_tables.h"
#include "firmware/boot/load_kernel.h"
#include "vmm/base/log.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/dirty_ring_source.h"
#include "vmm/machine/boot_registers.h"
#include "vmm/machine/fault_report.h"
#include "vmm/machine/host_resources.h"
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

// What never reaches the bus, because memory or KVM's own devices answer: a BAR laid over it would
// answer nowhere, and is refused where it shows.
void ReserveMemory(Bus& mmio, const PlatformDescription& platform) {
  constexpr uint64_t kIoapicBytes = 0x1000;
  constexpr uint64_t kMessagesBytes = 0x10'0000;  // local APICs and messages to them
  constexpr uint64_t kKvmPagesBytes = 0x4000;     // identity map and TSS
  for (const MemoryRegion& region : platform.memory.regions) {
    mmio.Reserve(region.start.raw(), region.size_bytes);
  }
  mmio.Reserve(platform.ioapic.raw(), kIoapicBytes);
  mmio.Reserve(platform.local_apic.raw(), kMessagesBytes);
  mmio.Reserve(kKvmIdentityMapPage.raw(), kKvmPagesBytes);
}

KernelUnpacking UnpackingOf(KernelUnpack unpack) {
  // "auto" is the guest: its own start places the kernel at random (KASLR), which the host's
  // unpacking gives up, and nothing was to be gained: to the first line of Debian's 6.1 (lz4) and
  // 6.12 (zstd), nested, neither was sooner beyond the spread (bench/unpack.sh, bench/README.md).
  return unpack == KernelUnpack::kHost ? KernelUnpacking::kByHost : KernelUnpacking::kByGuest;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::Build(const MachineConfig& config,
                                                MachineOptions options) {
  CHECK(options.host != nullptr, "a machine of nothing");
  const bool load_kernel = options.host->boot.has_value() && !options.for_load;
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
  std::shared_ptr<const KvmSystem> system = options_.host->kvm;
  MemoryLayout layout =
      TRY(MemoryLayout::Create(config_.memory_bytes, system->physical_address_bits()));
  std::unique_ptr<GuestMemory> memory = TRY(GuestMemory::Create(layout, config_.memory_backing));
  const TrackingResource& tracking = options_.host->tracking;
  std::unique_ptr<KvmVm> vm =
      TRY(KvmVm::Create(*system, {.dirty_ring_entries = tracking.ring_entries}));
  const DirtyLogging logging = options_.for_load && options_.host->store != nullptr
                                   ? LoggingFromTheFirst(tracking)
                                   : DirtyLogging::kOff;
  TRY(vm->AddMemory(*memory, logging));
  TRY(vm->CreateInterruptControllers());
  parts_ = std::make_unique<Parts>(std::move(system), std::move(memory), std::move(vm),
                                   DescribePlatform(config_, std::move(layout)));
  parts_->tracking = TRY(MakeTracker(tracking, *parts_->vm, *parts_->memory, logging));
  BuildFaults();
  ReserveMemory(parts_->mmio, parts_->platform_description);
  return parts_->routes.Initialize();
}

// For a restore, and for snapshots; without it both are there, at a higher price.
void Machine::BuildFaults() {
  const FaultsResource& resource = options_.host->faults;
  if (!options_.for_load && options_.host->store == nullptr) {
    return;
  }
  if (resource.uffd == nullptr) {
    parts_->faults_problem = resource.problem;
    return;
  }
  MemoryFaultsOptions options;
  options.on_failure = [this](const Error& error) { LoseMemory(error.message()); };
  Result<std::unique_ptr<MemoryFaults>> faults =
      MemoryFaults::Create(*parts_->memory, resource.uffd, std::move(options));
  if (faults.ok()) {
    parts_->faults = *std::move(faults);
  } else {
    parts_->faults_problem = std::move(faults).error();
  }
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
  return AddConfiguredDevices(parts.virtio, config_, *options_.host, parts.ends);
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
    if (parts.tracking.ring != nullptr) {
      TRY(parts.tracking.ring->AddVcpu(*vcpu));
    }
    KvmVcpu* const borrowed = vcpu.get();
    parts.vcpus.Add(std::make_unique<VcpuThread>(
        std::move(vcpu), VcpuThread::Environment{parts.ports, parts.mmio,
                                                 [this, borrowed](const VcpuFault& fault) {
                                                   End(MachineEnd::Reason::kGuestFault,
                                                       MakeFaultReport(*borrowed, *parts_->memory,
                                                                       fault.reason));
                                                 },
                                                 parts.tracking.ring}));
  }
  return {};
}

Status Machine::LoadBootKernel() {
  Parts& parts = *parts_;
  const AcpiPlacement acpi = TRY(WriteAcpiTables(*parts.memory, parts.platform_description));
  TRY(parts.platform->RenewGenerationId());
  CHECK(options_.host->boot.has_value(), "a kernel is to be loaded, and none was opened");
  const BootResource& boot = *options_.host->boot;
  const BootState state = TRY(LoadKernelFrom(*parts.memory, parts.platform_description.memory,
                                             boot.kernel, boot.initrd ? &*boot.initrd : nullptr,
                                             {.kernel = config_.boot.kernel,
                                              .initrd = config_.boot.initrd,
                                              .command_line = config_.boot.cmdline,
                                              .unpacking = UnpackingOf(config_.boot.unpack)},
                                             acpi));
  Log(LogLevel::kDebug, "loaded {}: {}", config_.boot.kernel, state.kernel);
  return SetBootRegisters(parts.vcpus.threads().front()->vcpu(), state);
}

}  // namespace pacsvisor
