// The MSI-X table and pending bit array of a function (PCI Local Bus 3.0, 6.8.2) as a BAR: the
// table at 0, the pending bits at kPendingOffset. Vectors that are not masked go to MsiVectors.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "devices/bus/bus_device.h"
#include "devices/bus/guest_fault.h"
#include "devices/pci/msi.h"
#include "vmm/base/log.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Threads: any. Its lock is a leaf: nothing but MsiVectors is called under it.
class MsixTable : public BusDevice, public Stateful {
 public:
  static constexpr uint32_t kEntryBytes = 16;
  static constexpr uint32_t kPendingOffset = 0x1000;
  static constexpr uint64_t kBarSizeBytes = 0x2000;
  static constexpr unsigned kMaxVectors = kPendingOffset / kEntryBytes;

  // `name` for messages. `vectors` has `vector_count` of them, up to kMaxVectors. `faults` is
  // borrowed.
  MsixTable(std::string name, std::unique_ptr<MsiVectors> vectors, unsigned vector_count,
            GuestFaultCounters& faults);

  unsigned vector_count() const { return vector_count_; }

  // The capability's message control (6.8.2.3): enabled, function mask.
  void SetControl(bool enabled, bool function_masked);
  // Sends the vector's message, or keeps it pending while masked. Nothing while not enabled, for a
  // vector that is not there, or whose message goes to no local APIC.
  void Trigger(unsigned vector);

  void Read(uint64_t offset, std::span<uint8_t> data) override;
  void Write(uint64_t offset, std::span<const uint8_t> data) override;

  // The table and the pending bits; message control is the capability's (SetControl after Load).
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  bool Masked(unsigned vector) const REQUIRES(mutex_);
  MsiMessage MessageOf(unsigned vector) const REQUIRES(mutex_);
  // The vector's message or mask may have changed: hand the message on, send what was pending.
  void Update(unsigned vector) REQUIRES(mutex_);

  // Constant after construction.
  const std::string name_;
  const std::unique_ptr<MsiVectors> vectors_;
  const unsigned vector_count_;
  GuestFaultCounters& faults_;
  // Guarded.
  mutable Mutex mutex_;
  std::vector<uint8_t> table_ GUARDED_BY(mutex_);
  std::vector<uint8_t> pending_ GUARDED_BY(mutex_);       // a bit a vector, in whole quad words
  std::vector<MsiMessage> handed_on_ GUARDED_BY(mutex_);  // what MsiVectors knows
  bool enabled_ GUARDED_BY(mutex_) = false;
  bool function_masked_ GUARDED_BY(mutex_) = false;
  RateLimitedLog log_;
};

}  // namespace pacsvisor
