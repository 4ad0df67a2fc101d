// Where a disk's blocks come from that are not in its image yet: a snapshot in a store, behind an
// interface that knows of no store. What it says never changes.
// Threads: any, several at a time. Whoever implements it takes no lock that guest memory could be
// touched under.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class BlockSource {
 public:
  virtual ~BlockSource() = default;

  // What the disk's record calls it, and by which it is made again after a restart: constant.
  virtual std::string_view name() const = 0;
  // Whole blocks of 4096 bytes, verified: all of them, or an error. Waits. What lies behind the
  // disk's end in its last block may be anything.
  virtual Status Fetch(BlockIndex first, std::span<uint8_t> bytes) = 0;
  // How many blocks from `first` on are known to be zeroes without fetching them; 0: not this one.
  virtual Result<uint64_t> ZeroRun(BlockIndex first) = 0;
  // Whether the record that names this may go, asked when no block is needed any more, durably
  // (LayeredDisk::needs_source): what it stands for is kept by nobody any more who would have to be
  // found by that name. Does not wait.
  virtual bool MayForget() const { return true; }
};

}  // namespace pacsvisor
