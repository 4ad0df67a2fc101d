// One snapshot of a store, read as if it were alone. Threads: any, several at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"
#include "vmm/store/snapshot_info.h"

namespace pacsvisor {

class SnapshotReader {
 public:
  virtual ~SnapshotReader() = default;

  virtual const SnapshotInfo& info() const = 0;
  // The state that Commit was given.
  virtual Result<std::vector<uint8_t>> State() = 0;
  // Blocks from `first` on, as many as `bytes` holds; a multiple of the space's block size. Every
  // byte is checked against the root before it is handed out: kCorrupt names file and place.
  virtual Status Read(uint32_t space, BlockIndex first, std::span<uint8_t> bytes) = 0;
  // How many blocks from `first` on are known to be zero without reading any (0: the first is not).
  virtual Result<uint64_t> ZeroRun(uint32_t space, BlockIndex first) = 0;
};

}  // namespace pacsvisor
