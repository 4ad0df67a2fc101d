// A disk as it was at one instant, read while the guest goes on writing: what a snapshot needs of a
// disk. LayeredDisk (layered_disk.h) is one.
//
// The way of an epoch:
//   Prepare   may wait for the host: the next layer is there, on disk and in the disk's record.
//   Flip      in the pause: a pointer change. Waits for nothing. Takes the dirty set.
//   Read      afterwards, from one thread, while the guest runs: bytes as of the flip.
//   Release   the view is not needed any more; what the guest wrote meanwhile is merged behind.
// Threads: one control or snapshot thread, but for Flip: the one that paused the machine.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class SealedView {
 public:
  static constexpr uint32_t kBlockBytes = 4096;

  virtual ~SealedView() = default;

  virtual uint64_t block_count() const = 0;
  virtual uint64_t size_bytes() const = 0;  // the last block may reach behind it: reads as zeroes

  virtual Status Prepare() = 0;
  // The gate of the disk is closed (machine paused). ORs the blocks changed since the last flip
  // into `words`; requests in flight are in this set and in the next one. After a successful
  // Prepare it cannot fail.
  virtual void Flip(std::span<uint64_t> words) = 0;
  // Waits, where it must, until the last request that was in flight at the flip has ended on the
  // host (kTimeout after `timeout_ms`; may be called again); then reads. A request that was in
  // flight may be in these bytes wholly, in part or not at all: it is recorded, and submitted again
  // on restore.
  virtual Status Read(BlockIndex first, std::span<uint8_t> bytes, uint32_t timeout_ms) = 0;
  virtual void Release() = 0;
  // A set that Flip handed out whose snapshot came to nothing.
  virtual void Return(std::span<const uint64_t> words) = 0;
};

}  // namespace pacsvisor
