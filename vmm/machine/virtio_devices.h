// The virtio devices of a machine, each behind its PCI transport, in the order of the
// configuration. Threads: control thread.
#pragma once

#include <memory>
#include <vector>

#include "devices/pci/msi.h"
#include "devices/pci/pci_bus.h"
#include "devices/virtio/virtio_pci_transport.h"
#include "vmm/machine/config.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

struct HostResources;
class LayeredDisk;
class LocalLine;
class SealedView;

// What a device is attached to; borrowed.
struct DeviceHost {
  GuestMemory& memory;
  PciBus& pci;
  MsiController& msi;
  DoorbellRegistrar& doorbells;
};

class VirtioDevices : public Pausable, public Stateful {
 public:
  explicit VirtioDevices(DeviceHost host) : host_(host) {}

  // Puts `device` on the PCI bus; the order of calls is the order of PCI slots.
  Status Add(std::unique_ptr<VirtioDevice> device);

  // Of each device, in order. Any thread.
  std::vector<DeviceFaults> GuestFaults() const;

  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  // The transport goes before its device.
  struct Slot {
    std::unique_ptr<VirtioDevice> device;
    std::unique_ptr<VirtioPciTransport> transport;
  };

  const DeviceHost host_;
  std::vector<Slot> slots_;
};

// Ways into the devices; they own what they lead to.
struct DeviceEnds {
  std::vector<SealedView*> sealed_views;    // of the disks that can be frozen
  std::vector<LayeredDisk*> layered_disks;  // one for each disk; null: it has no layers
  std::shared_ptr<LocalLine> agent;         // null: the machine has no agent port
};

// The disks, networks, agent port and entropy source of a configuration, over the host's resources
// opened for it.
Status AddConfiguredDevices(VirtioDevices& devices, const MachineConfig& config,
                            const HostResources& host, DeviceEnds& ends);

}  // namespace pacsvisor
