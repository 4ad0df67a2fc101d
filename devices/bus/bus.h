// An address space of devices: the 64 Ki I/O ports, or guest-physical space outside memory.
#pragma once

#include <cstdint>
#include <map>
#include <shared_mutex>
#include <span>
#include <string>

#include "devices/bus/bus_device.h"
#include "devices/bus/guest_fault.h"
#include "vmm/base/result.h"

namespace pacsvisor {

// Threads: any. Devices are called without the bus's lock and must outlive the bus's last access.
class Bus {
 public:
  // `name` for messages: "I/O port" or "MMIO". `end` is the first address behind the space.
  // What no device answers is counted as `unanswered`.
  Bus(std::string name, uint64_t end, GuestFault unanswered = GuestFault::kMmioUnanswered)
      : name_(std::move(name)), end_(end), unanswered_(unanswered) {}

  // Nothing can be inserted there: memory, and what the processor's own devices answer.
  void Reserve(uint64_t start, uint64_t size_bytes);
  // Refused when the range overlaps another's (kBusy: a guest may lay BARs over each other) or a
  // reserved one (kPermissionDenied), or is not in the space (kInvalidArgument).
  Status Insert(uint64_t start, uint64_t size_bytes, BusDevice& device);
  void Remove(uint64_t start);

  // False when no device answers; a read has then filled `data` with ones (an access that runs over
  // the end of a device's range answers for none of it).
  bool Read(uint64_t address, std::span<uint8_t> data) const;
  bool Write(uint64_t address, std::span<const uint8_t> data) const;

  const GuestFaultCounters& faults() const { return faults_; }

 private:
  struct Entry {
    uint64_t size_bytes;
    BusDevice* device;  // null: reserved
  };
  struct Hit {
    BusDevice* device;  // null when none
    uint64_t offset;
  };
  Hit Find(uint64_t address, uint64_t size_bytes) const;

  const std::string name_;
  const uint64_t end_;
  const GuestFault unanswered_;
  mutable GuestFaultCounters faults_;
  mutable std::shared_mutex mutex_;
  std::map<uint64_t, Entry> entries_;
};

}  // namespace pacsvisor
