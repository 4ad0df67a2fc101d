// One virtual machine of KVM: memory slots, interrupt controllers, event descriptors, clock.
// Threads: construction on one thread; irqfds, ioeventfds and routes from any (KVM locks).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"
#include "vmm/kvm/kvm_system.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Whether KVM's log says what vCPUs write to guest memory.
enum class DirtyLogging { kOff, kOn };

struct KvmVmOptions {
  // Of each vCPU's dirty ring (vmm/kvm/dirty_ring_source.h), a power of two; 0: no rings. KVM takes
  // them before the first vCPU only, and has no dirty bitmap then.
  uint32_t dirty_ring_entries = 0;
};

class KvmVm {
 public:
  // What this host takes for one vCPU; 0: it has no dirty rings.
  static uint32_t MostDirtyRingEntries(const KvmSystem& system);
  // The VM with KVM's private pages placed where vmm/memory/memory_layout.h says.
  static Result<std::unique_ptr<KvmVm>> Create(const KvmSystem& system,
                                               const KvmVmOptions& options = {});

  // Before the first vCPU: a slot then costs a tenth. One slot a region of guest memory, numbered
  // as GuestMemory::host_ranges(). Logged from the first, its log begins empty.
  Status AddMemory(GuestMemory& memory, DirtyLogging logging = DirtyLogging::kOff);
  // For the slots of AddMemory. Costs more than to add them: KVM waits for each of its readers.
  Status SetDirtyLogging(GuestMemory& memory, DirtyLogging logging);
  // PIC (masked), IOAPIC and local APICs in the kernel; PIT without speaker.
  Status CreateInterruptControllers();
  Result<std::unique_ptr<KvmVcpu>> CreateVcpu(VcpuId id);

  Status SetGsiRouting(std::span<const kvm_irq_routing_entry> routes);
  Status AddIrqfd(Gsi gsi, const EventFd& event);
  Status RemoveIrqfd(Gsi gsi, const EventFd& event);
  // Any write to `address`, of any length, signals `event` instead of leaving KVM_RUN.
  Status AddDoorbell(GuestAddress address, const EventFd& event);
  Status RemoveDoorbell(GuestAddress address, const EventFd& event);

  // PIT, PIC, IOAPIC. Saved in the order of DESIGN.md section 6: the PIT before the vCPUs' local
  // APICs (SavePit), PIC and IOAPIC after them.
  Status SavePit(StateNode& node) const;
  Status LoadPit(const StateNode& node);
  Status SaveIrqchips(StateNode& node) const;
  Status LoadIrqchips(const StateNode& node);

  // kvm-clock: KVM_GET_CLOCK with the host's TSC and real time of the same instant where KVM gives
  // them (flags say which).
  Result<kvm_clock_data> GetClock() const;
  Status SetClock(uint64_t clock_ns);

  const KvmSystem& system() const { return system_; }
  int fd() const { return fd_.get(); }

 private:
  KvmVm(const KvmSystem& system, UniqueFd fd) : system_(system), fd_(std::move(fd)) {}
  Status EnableDirtyRings(uint32_t entries);
  Status MaskPics();
  Status SetSlots(GuestMemory& memory, DirtyLogging logging);
  Status IoeventfdRequest(GuestAddress address, const EventFd& event, uint32_t flags);

  const KvmSystem& system_;
  const UniqueFd fd_;
};

}  // namespace pacsvisor
