// A virtio device as a modern PCI function (virtio 1.2, section 4.1): common configuration, notify,
// ISR and device configuration in one BAR, MSI-X table and PBA in another. Interrupts are MSI-X
// only.
#pragma once

#include <functional>
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
class VirtioPciTransport : public PciFunction, public VirtioTransport, public Pausable {
 public:
  // `device` is borrowed and outlives the transport. Vectors: one for configuration changes plus
  // one a queue.
  static Result<std::unique_ptr<VirtioPciTransport>> Create(VirtioDevice& device,
                                                            GuestMemory& memory, MsiController& msi,
                                                            DoorbellRegistrar& doorbells);
  ~VirtioPciTransport() override;

  // VirtioTransport
  void InterruptQueue(uint16_t queue) override;
  void InterruptConfigChange() override;
  void NeedsReset(std::string_view reason) override;

  // Pausable, Stateful: the transport and its device, in that order. After a restore, Resume raises
  // every enabled vector of a live queue once and signals every live doorbell.
  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

  // Shape of BAR 0; the notify area has kNotifyStrideBytes a queue.
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
  void OnCapabilityWrite(uint8_t capability_offset) override;
  void OnCapabilityRead(uint8_t capability_offset) override;
  void OnBarMoved(unsigned index, std::optional<uint64_t> address) override;

  std::unique_ptr<Impl> impl_;
};

}  // namespace pacsvisor
