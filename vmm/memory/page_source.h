// Where the pages of a lazily restored memory come from: a snapshot of a store, implemented above.
//
// Threads: any, several at a time. While one of these runs, threads that wait for the page stand
// still in the middle of whatever they do: an implementation takes no lock that is held anywhere
// while guest memory is touched, and touches none itself.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class PageSource {
 public:
  virtual ~PageSource() = default;

  // The pages from `first` on, as many as `bytes` holds (a multiple of 4096), verified: what it
  // returns is what the guest will see. A failure ends the machine.
  virtual Status Fetch(BlockIndex first, std::span<uint8_t> bytes) = 0;
  // How many pages from `first` on are known to be zero without reading any (0: the first is not).
  // May run past the end of memory.
  virtual Result<uint64_t> ZeroRun(BlockIndex /*first*/) { return uint64_t{0}; }
};

}  // namespace pacsvisor
