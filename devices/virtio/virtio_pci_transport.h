// A virtio device as a modern PCI function (virtio 1.2, section 4.1): common configuration, notify,
// ISR and device configuration in one BAR, MSI-X table and PBA in another. Interrupts are MSI-X
// only.
#pragma once

#include <memory>

#include "devices/pci/msi.h"
#include "devices/pci/pci_function.h"
#include "devices/virtio/virtio_device.h"

namespace pacsvisor {

// Binds eventfds to guest-physical doorbells; the machine does it with KVM_IOEVENTFD, tests call
// the eventfd. A notification that reaches the MMIO bus all the same is served there.
class DoorbellRegistrar {
 public:
  virtual ~DoorbellRegistrar() = default;
  virtual Status Register(GuestAddress address, const EventFd& doorbell) = 0;
  virtual void Unregister(GuestAddress address, const EventFd& doorbell) = 0;
};

// What the implementation holds is private to virtio_pci_transport.cc and its companions. It is a
// PciFunction (added to the PciBus), a VirtioTransport (handed to the device) and Pausable.
//
// Threads: BARs on vCPU threads, several at once; VirtioTransport on any; the rest on the control
// thread. Lock order: PciBus, this transport, the device's queue lock, the MSI-X table.
class VirtioPciTransport : public PciFunction,
                           public VirtioTransport,
                           public Pausable,
                           public Stateful {
 public:
  // `device` is borrowed and outlives the transport; it is told to reset when the transport goes.
  // Vectors: one for configuration changes plus one a queue.
  static Result<std::unique_ptr<VirtioPciTransport>> Create(VirtioDevice& device,
                                                            GuestMemory& memory, MsiController& msi,
                                                            DoorbellRegistrar& doorbells);
  ~VirtioPciTransport() override;

  // VirtioTransport
  void InterruptQueue(uint16_t queue) override;
  void InterruptConfigChange() override;
  void NeedsReset(std::string_view reason) override;
  GuestFaultCounters& guest_faults() override { return faults(); }

  // Pausable, Stateful: the transport and its device, in that order; the configuration space is
  // PciBus's to save, and loaded before. Load on a fresh transport, which is paused by it. After a
  // restore, Resume raises every enabled vector of a live queue and of configuration changes once
  // and signals every live doorbell.
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

  // Shape of BAR 0; the notify area has kNotifyStrideBytes a queue. BAR 2 is the MSI-X table's.
  static constexpr uint32_t kCommonOffset = 0x0000;
  static constexpr uint32_t kIsrOffset = 0x1000;
  static constexpr uint32_t kDeviceConfigOffset = 0x2000;
  static constexpr uint32_t kNotifyOffset = 0x3000;
  static constexpr uint32_t kNotifyStrideBytes = 4;
  static constexpr uint64_t kBarSizeBytes = 0x4000;
  static constexpr uint64_t kMsixBarSizeBytes = 0x2000;  // table at 0, PBA at 0x1000

 private:
  class Impl;
  VirtioPciTransport(VirtioDevice& device, const PciIdentity& identity);
  void OnCapabilityWrite(uint8_t capability, uint32_t first, size_t count) override;
  void OnCapabilityRead(uint8_t capability, uint32_t first, size_t count) override;
  void OnConfigLoaded() override;
  void OnBarMoved(unsigned index, std::optional<uint64_t> address) override;
  void ApplyMsixControl();

  std::unique_ptr<Impl> impl_;
};

}  // namespace pacsvisor
