// The interrupts of devices as KVM delivers them: eventfds bound to GSIs (irqfd), doorbells bound
// to guest addresses (ioeventfd).
#pragma once

#include <memory>
#include <vector>

#include "devices/bus/interrupt_line.h"
#include "devices/pci/msi.h"
#include "devices/virtio/virtio_pci_transport.h"
#include "vmm/kvm/interrupt_routes.h"
#include "vmm/kvm/kvm_vm.h"

namespace pacsvisor {

// An edge on an IOAPIC pin.
class IrqfdLine : public InterruptLine {
 public:
  static Result<std::unique_ptr<IrqfdLine>> Create(KvmVm& vm, Gsi gsi);
  void Trigger() override { event_.Signal(); }

 private:
  explicit IrqfdLine(EventFd event) : event_(std::move(event)) {}
  EventFd event_;
};

class KvmMsiController : public MsiController {
 public:
  KvmMsiController(KvmVm& vm, InterruptRoutes& routes) : vm_(vm), routes_(routes) {}
  Result<std::unique_ptr<MsiVectors>> Allocate(unsigned vector_count) override;

 private:
  KvmVm& vm_;
  InterruptRoutes& routes_;
};

class KvmDoorbells : public DoorbellRegistrar {
 public:
  explicit KvmDoorbells(KvmVm& vm) : vm_(vm) {}
  Status Register(GuestAddress address, const EventFd& doorbell) override {
    return vm_.AddDoorbell(address, doorbell);
  }
  void Unregister(GuestAddress address, const EventFd& doorbell) override;

 private:
  KvmVm& vm_;
};

}  // namespace pacsvisor
