// What a virtio device is to its transport (virtio_pci_transport.h), and the transport to it.
//
// Life: built, Attach, Activate (driver set DRIVER_OK), StartReset ... reset complete, Activate
// ...; Pause and Resume at any time. Save only while paused. Load on a fresh device that was
// attached and paused (by Pause, as any other); then Activate when it was active, then Resume.
//
// Rules for devices
// - Each device owns its worker (EventLoop) and one queue lock. The worker holds the lock while it
//   pops, pushes and writes guest memory, and never across a system call that can wait.
// - Host I/O is recorded in an in-flight table with the generation it was submitted in. A
//   completion takes the lock, waits at the gate while paused, and is dropped for the ring when its
//   generation is over (reset), after its pages were marked (GuestIoVector::Landed).
// - Every write into guest memory goes through GuestMemory, Virtqueue or GuestIoVector.
// - A malformed request: counted (GuestFault), one rate-limited log line, then either the error
//   status the type defines or VirtioTransport::BrokeRule; never an abort or an endless loop,
//   bounded memory.
//
// Locks: the transport's lock is taken before the device's queue lock (Activate, StartReset, Pause,
// config accesses). InterruptQueue, InterruptConfigChange and NeedsReset take no lock that is held
// while the device is called, so that a device may call them under its queue lock.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "devices/bus/guest_fault.h"
#include "devices/bus/pausable.h"
#include "devices/virtio/virtqueue.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/result.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// virtio 1.2, section 5.
enum class VirtioDeviceType : uint16_t {
  kNet = 1,
  kBlock = 2,
  kConsole = 3,
  kEntropy = 4,
};

// Device-independent feature bits (virtio 1.2, section 6).
inline constexpr uint64_t kVirtioFeatureIndirectDescriptors = uint64_t{1} << 28;
inline constexpr uint64_t kVirtioFeatureEventIndex = uint64_t{1} << 29;
inline constexpr uint64_t kVirtioFeatureVersion1 = uint64_t{1} << 32;
// The transport offers these three for every device.
inline constexpr uint64_t kVirtioTransportFeatures =
    kVirtioFeatureIndirectDescriptors | kVirtioFeatureEventIndex | kVirtioFeatureVersion1;

// The transport's side as a device sees it. Threads: any. None of these blocks.
class VirtioTransport {
 public:
  virtual ~VirtioTransport() = default;
  // "Used buffer notification" of a queue (its MSI-X vector), "configuration change notification".
  virtual void InterruptQueue(uint16_t queue) = 0;
  virtual void InterruptConfigChange() = 0;
  // The device cannot go on: sets DEVICE_NEEDS_RESET and interrupts (2.1.1, 2.1.2). The reason is
  // logged once a reset cycle.
  virtual void NeedsReset(std::string_view reason) = 0;
  // Where what the driver does wrong is counted.
  virtual GuestFaultCounters& guest_faults() = 0;

  // The driver broke a rule after which there is no going on.
  void BrokeRule(GuestFault rule, std::string_view reason) {
    guest_faults().Count(rule);
    NeedsReset(reason);
  }
};

// One enabled queue handed to the device by Activate.
struct VirtioQueueHandle {
  uint16_t index = 0;
  Virtqueue* queue = nullptr;         // owned by the transport; valid until the reset is complete
  const EventFd* doorbell = nullptr;  // the driver's notifications; lives as the transport
};

struct VirtioActivation {
  uint64_t features = 0;                  // negotiated
  std::vector<VirtioQueueHandle> queues;  // the enabled ones, by index
};

class VirtioDevice : public Pausable, public Stateful {
 public:
  // Constant.
  virtual VirtioDeviceType type() const = 0;
  virtual std::string_view name() const = 0;     // for messages and saved state: "disk0", "net0"
  virtual uint64_t device_features() const = 0;  // without kVirtioTransportFeatures
  virtual std::vector<uint16_t> queue_sizes() const = 0;  // maximum of each queue, powers of two
  // Called once, before anything else below. `transport` outlives the device's last call to it.
  virtual Status Attach(VirtioTransport& transport, GuestMemory& memory) = 0;

  // Device configuration space (vCPU threads). `offset` + data may run behind its end: read as
  // zeroes, writes ignored there.
  virtual void ReadConfig(uint64_t offset, std::span<uint8_t> data) = 0;
  virtual void WriteConfig(uint64_t offset, std::span<const uint8_t> data) = 0;
  // Changes when multi-field configuration changed (4.1.4.3.1).
  virtual uint8_t config_generation() const { return 0; }

  // vCPU threads, under the transport's lock; they do not wait for host I/O.
  // After Activate the device treats every queue as just kicked (a driver may have filled rings
  // before DRIVER_OK; a restored device finds work in them).
  virtual void Activate(const VirtioActivation& activation) = 0;
  // Begins a reset: from its return on, no new request is taken and no ring is touched. The reset
  // is complete when no host I/O into guest memory of the old generation is in flight any more;
  // until then the transport reads back the old status, and the driver waits (4.1.4.3.2, 2.4.1).
  // A device saved meanwhile saves itself as inactive, with nothing in flight.
  virtual void StartReset() = 0;
  virtual bool ResetComplete() const = 0;

  // Pausable: Pause, Resume. Stateful: Save, Load. The transport saves feature bits, queue layouts
  // and ring positions; the device saves what is its own, including the heads of requests in flight
  // by queue. After Load, the transport calls Activate when the saved device was active; the device
  // then submits the recorded heads again (read through Virtqueue::ReadChain) before new ones, from
  // the first Resume on. A machine restored is paused: Load, Activate, then Resume.
};

}  // namespace pacsvisor
