// The table of GSIs: the IOAPIC's pins, and MSI routes allocated to devices. KVM takes it whole;
// this class keeps it and sends it when it changes. Threads: any.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <map>
#include <set>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/kvm/kvm_vm.h"

namespace pacsvisor {

class InterruptRoutes {
 public:
  static constexpr uint32_t kIoapicPins = 24;

  explicit InterruptRoutes(KvmVm& vm) : vm_(vm) {}

  // Sends the IOAPIC's pins (and the PIC's, GSI 0 to 15).
  Status Initialize();
  Result<Gsi> AllocateMsi();
  void FreeMsi(Gsi gsi);
  // A route is sent to KVM at its first message and whenever that changes.
  Status SetMsi(Gsi gsi, uint64_t address, uint32_t data);

 private:
  static constexpr uint32_t kMaxGsi = 4096;  // KVM_MAX_IRQ_ROUTES
  Status Send() REQUIRES(mutex_);

  KvmVm& vm_;
  Mutex mutex_;
  std::set<uint32_t> allocated_ GUARDED_BY(mutex_);
  std::map<uint32_t, kvm_irq_routing_msi> messages_ GUARDED_BY(mutex_);
};

}  // namespace pacsvisor
