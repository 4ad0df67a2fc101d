#include "vmm/kvm/kvm_vm.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/kvm/kvm_abi.h"
#include "vmm/state/object_field.h"

namespace pacsvisor {
namespace {

constexpr uint32_t kKvmVmStateVersion = 1;

struct IrqchipName {
  uint32_t id;
  std::string_view name;
};
constexpr IrqchipName kIrqchips[] = {
    {KVM_IRQCHIP_PIC_MASTER, "pic_master"},
    {KVM_IRQCHIP_PIC_SLAVE, "pic_slave"},
    {KVM_IRQCHIP_IOAPIC, "ioapic"},
};

// The second name came in Linux 6.1 for processors whose memory order is weaker than x86's, with
// the same meaning here; a kernel may have either.
int DirtyRingCapability(const KvmSystem& system) {
  return system.Check(KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0 ? KVM_CAP_DIRTY_LOG_RING_ACQ_REL
                                                          : KVM_CAP_DIRTY_LOG_RING;
}

}  // namespace

Result<std::unique_ptr<KvmVm>> KvmVm::Create(const KvmSystem& system, const KvmVmOptions& options) {
  UniqueFd fd(KvmIoctl(system.fd(), KVM_CREATE_VM, 0ul));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "KVM_CREATE_VM");
  }
  const uint64_t identity_page = kKvmIdentityMapPage.raw();
  if (KvmIoctl(fd.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_page) != 0) {
    return Error::FromErrno(errno, "KVM_SET_IDENTITY_MAP_ADDR");
  }
  if (KvmIoctl(fd.get(), KVM_SET_TSS_ADDR, kKvmTssStart.raw()) != 0) {
    return Error::FromErrno(errno, "KVM_SET_TSS_ADDR");
  }
  std::unique_ptr<KvmVm> vm(new KvmVm(system, std::move(fd)));
  if (options.dirty_ring_entries != 0) {
    TRY(vm->EnableDirtyRings(options.dirty_ring_entries));
  }
  return vm;
}

uint32_t KvmVm::MostDirtyRingEntries(const KvmSystem& system) {
  const int most_bytes = std::max(system.Check(DirtyRingCapability(system)), 0);
  return static_cast<uint32_t>(static_cast<size_t>(most_bytes) / sizeof(kvm_dirty_gfn));
}

Status KvmVm::EnableDirtyRings(uint32_t entries) {
  const uint32_t most = MostDirtyRingEntries(system_);
  if (entries > most) {
    return Error::Make(ErrorCode::kUnsupported,
                       "this host's KVM has dirty rings of at most {} entries, not {}", most,
                       entries);
  }
  kvm_enable_cap request{};
  request.cap = static_cast<uint32_t>(DirtyRingCapability(system_));
  request.args[0] = entries * sizeof(kvm_dirty_gfn);
  if (KvmIoctl(fd_.get(), KVM_ENABLE_CAP, &request) != 0) {
    return Error::FromErrno(errno, "cannot have dirty rings of {} entries", entries);
  }
  return {};
}

Status KvmVm::AddMemory(GuestMemory& memory, DirtyLogging logging) {
  return SetSlots(memory, logging);
}

Status KvmVm::SetDirtyLogging(GuestMemory& memory, DirtyLogging logging) {
  return SetSlots(memory, logging);
}

Status KvmVm::SetSlots(GuestMemory& memory, DirtyLogging logging) {
  const uint32_t flags = logging == DirtyLogging::kOn ? KVM_MEM_LOG_DIRTY_PAGES : 0;
  uint32_t slot = 0;
  for (const GuestMemory::HostRange& range : memory.host_ranges()) {
    const kvm_userspace_memory_region region{
        .slot = slot++,
        .flags = flags,
        .guest_phys_addr = range.start.raw(),
        .memory_size = range.size_bytes,
        // KVM takes host addresses as numbers.
        .userspace_addr = reinterpret_cast<uintptr_t>(range.host),
    };
    if (KvmIoctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) {
      return Error::FromErrno(errno, "cannot give KVM {} MiB of guest memory at {} (flags {:#x})",
                              range.size_bytes / kMiB, range.start, flags);
    }
  }
  return {};
}

Status KvmVm::CreateInterruptControllers() {
  if (KvmIoctl(fd_.get(), KVM_CREATE_IRQCHIP) != 0) {
    return Error::FromErrno(errno, "KVM_CREATE_IRQCHIP");
  }
  TRY(MaskPics());
  const kvm_pit_config pit{.flags = KVM_PIT_SPEAKER_DUMMY, .pad = {}};
  if (KvmIoctl(fd_.get(), KVM_CREATE_PIT2, &pit) != 0) {
    return Error::FromErrno(errno, "KVM_CREATE_PIT2");
  }
  return {};
}

// As firmware hands them over. KVM's come unmasked with vector base 0, and the first processor's
// local APIC takes their interrupts: an edge on line 9 would be a debug exception (vector 1) to a
// guest that never looks at them.
Status KvmVm::MaskPics() {
  for (const uint32_t id : {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE}) {
    kvm_irqchip chip{};
    chip.chip_id = id;
    if (KvmIoctl(fd_.get(), KVM_GET_IRQCHIP, &chip) != 0) {
      return Error::FromErrno(errno, "KVM_GET_IRQCHIP of PIC {}", id);
    }
    chip.chip.pic.imr = 0xff;
    if (KvmIoctl(fd_.get(), KVM_SET_IRQCHIP, &chip) != 0) {
      return Error::FromErrno(errno, "KVM_SET_IRQCHIP of PIC {}", id);
    }
  }
  return {};
}

Result<std::unique_ptr<KvmVcpu>> KvmVm::CreateVcpu(VcpuId id) {
  UniqueFd fd(KvmIoctl(fd_.get(), KVM_CREATE_VCPU, id.raw()));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot create vCPU {}", id);
  }
  return KvmVcpu::Create(system_, id, std::move(fd));
}

Status KvmVm::SetGsiRouting(std::span<const kvm_irq_routing_entry> routes) {
  KvmRouteArray table(routes);
  if (KvmIoctl(fd_.get(), kKvmSetGsiRouting, table.request()) != 0) {
    return Error::FromErrno(errno, "KVM_SET_GSI_ROUTING of {} routes", routes.size());
  }
  return {};
}

Status KvmVm::AddIrqfd(Gsi gsi, const EventFd& event) {
  const kvm_irqfd request{.fd = static_cast<uint32_t>(event.fd()), .gsi = gsi.raw(), .flags = 0};
  if (KvmIoctl(fd_.get(), KVM_IRQFD, &request) != 0) {
    return Error::FromErrno(errno, "cannot bind an eventfd to interrupt {}", gsi);
  }
  return {};
}

Status KvmVm::RemoveIrqfd(Gsi gsi, const EventFd& event) {
  const kvm_irqfd request{
      .fd = static_cast<uint32_t>(event.fd()), .gsi = gsi.raw(), .flags = KVM_IRQFD_FLAG_DEASSIGN};
  if (KvmIoctl(fd_.get(), KVM_IRQFD, &request) != 0) {
    return Error::FromErrno(errno, "cannot unbind an eventfd from interrupt {}", gsi);
  }
  return {};
}

Status KvmVm::IoeventfdRequest(GuestAddress address, const EventFd& event, uint32_t flags) {
  kvm_ioeventfd request{};
  request.addr = address.raw();
  request.len = 0;  // any length (KVM_CAP_IOEVENTFD_ANY_LENGTH)
  request.fd = event.fd();
  request.flags = flags;
  if (KvmIoctl(fd_.get(), KVM_IOEVENTFD, &request) != 0) {
    return Error::FromErrno(errno, "KVM_IOEVENTFD at {}", address);
  }
  return {};
}

Status KvmVm::AddDoorbell(GuestAddress address, const EventFd& event) {
  return IoeventfdRequest(address, event, 0);
}

Status KvmVm::RemoveDoorbell(GuestAddress address, const EventFd& event) {
  return IoeventfdRequest(address, event, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Status KvmVm::SavePit(StateNode& node) const {
  kvm_pit_state2 pit{};
  if (KvmIoctl(fd_.get(), KVM_GET_PIT2, &pit) != 0) {
    return Error::FromErrno(errno, "KVM_GET_PIT2");
  }
  node.SetVersion(kKvmVmStateVersion);
  SaveObject(node, "pit", pit);
  return {};
}

Status KvmVm::LoadPit(const StateNode& node) {
  TRY(node.Version(kKvmVmStateVersion));
  kvm_pit_state2 pit;
  TRY(LoadObject(node, "pit", pit));
  if (KvmIoctl(fd_.get(), KVM_SET_PIT2, &pit) != 0) {
    return Error::FromErrno(errno, "KVM_SET_PIT2");
  }
  return {};
}

Status KvmVm::SaveIrqchips(StateNode& node) const {
  node.SetVersion(kKvmVmStateVersion);
  for (const auto& [id, name] : kIrqchips) {
    kvm_irqchip chip{};
    chip.chip_id = id;
    if (KvmIoctl(fd_.get(), KVM_GET_IRQCHIP, &chip) != 0) {
      return Error::FromErrno(errno, "KVM_GET_IRQCHIP of {}", name);
    }
    SaveObject(node, name, chip.chip);
  }
  return {};
}

Status KvmVm::LoadIrqchips(const StateNode& node) {
  TRY(node.Version(kKvmVmStateVersion));
  for (const auto& [id, name] : kIrqchips) {
    kvm_irqchip chip{};
    chip.chip_id = id;
    TRY(LoadObject(node, name, chip.chip));
    if (KvmIoctl(fd_.get(), KVM_SET_IRQCHIP, &chip) != 0) {
      return Error::FromErrno(errno, "KVM_SET_IRQCHIP of {}", name);
    }
  }
  return {};
}

Result<kvm_clock_data> KvmVm::GetClock() const {
  kvm_clock_data clock{};
  if (KvmIoctl(fd_.get(), KVM_GET_CLOCK, &clock) != 0) {
    return Error::FromErrno(errno, "KVM_GET_CLOCK");
  }
  return clock;
}

Status KvmVm::SetClock(uint64_t clock_ns) {
  kvm_clock_data clock{};
  clock.clock = clock_ns;
  if (KvmIoctl(fd_.get(), KVM_SET_CLOCK, &clock) != 0) {
    return Error::FromErrno(errno, "KVM_SET_CLOCK");
  }
  return {};
}

}  // namespace pacsvisor
