// A space as snapshots see it: an array of fixed-size blocks that the guest changes. Guest memory
// and each disk are the same thing here. Threads: the control thread, while the machine is paused
// or has not started.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class Space {
 public:
  virtual ~Space() = default;

  // The same in source and restored machine: "memory", "disk0".
  virtual const std::string& name() const = 0;
  virtual uint32_t block_bytes() const = 0;
  virtual uint64_t block_count() const = 0;
  // Whole blocks; `bytes` is a multiple of block_bytes(), inside the space.
  virtual Status Read(BlockIndex first, std::span<uint8_t> bytes) const = 0;
  virtual Status Write(BlockIndex first, std::span<const uint8_t> bytes) = 0;
};

}  // namespace pacsvisor
