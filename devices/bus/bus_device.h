// What answers accesses of vCPUs to a range of ports or of guest-physical space.
#pragma once

#include <cstdint>
#include <span>

namespace pacsvisor {

// Threads: any vCPU thread, several at once; an implementation locks what it shares. Guest data
// never makes a vCPU thread block: no host I/O in here.
class BusDevice {
 public:
  virtual ~BusDevice() = default;

  // `offset` counts from the start of the range; `data` is 1, 2, 4 or 8 bytes, wholly inside it,
  // not necessarily aligned. Read fills all of `data`; what is not there reads as ones.
  virtual void Read(uint64_t offset, std::span<uint8_t> data) = 0;
  virtual void Write(uint64_t offset, std::span<const uint8_t> data) = 0;
};

}  // namespace pacsvisor
