// What a block device needs of a disk, whatever lies behind it: a raw image, or a base image under
// epoch layers.
//
// Ordering. A request that touches bytes which an unfinished write, discard or write-zeroes touches
// too (or changes bytes under an unfinished read) waits for it: overlapping requests take effect in
// the order of Submit. All others run concurrently. kFlush makes durable what had completed when it
// was submitted; it waits for nothing else.
//
// Pause. Completions pass a gate. While it is closed they are kept, TakeCompletions returns none,
// and the host's I/O goes on behind it. CloseGate waits for no I/O.
//
// Locks. "Owner's lock" is the device's queue lock: it makes gate and TakeCompletions one decision.
// The backend's own lock is taken inside it and never held across a system call.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "vmm/dirty/dirty_bitmap.h"
#include "vmm/disk/block_request.h"

namespace pacsvisor {

struct BlockLimits {
  uint32_t physical_block_bytes = 4096;  // writes of less cost the host a read
  uint32_t discard_granularity_bytes = 4096;
  bool discard = false;
  bool write_zeroes = false;
};

class BlockBackend {
 public:
  virtual ~BlockBackend() = default;

  // Constant. Any thread.
  virtual std::string_view name() const = 0;  // for messages: the image's path
  virtual uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;
  virtual BlockLimits limits() const = 0;
  // Readable (level triggered) when Poll has something to do.
  virtual int wait_fd() const = 0;

  // Worker thread, owner's lock held or not; never blocks. Stamps id and generation.
  virtual void Submit(BlockRequest& request) = 0;
  // Worker thread, owner's lock not held: may enter the kernel. Hands over what was submitted.
  virtual void Kick() = 0;
  // Worker thread, owner's lock not held. Collects what the host has finished, carries on what is
  // not yet whole and what waited for it. Returns how many requests finished.
  virtual size_t Poll() = 0;
  // Owner's lock held. Appends the finished requests to `done`, in the order they finished; none
  // while the gate is closed.
  virtual void TakeCompletions(std::vector<BlockRequest*>& done) = 0;

  // Control thread, owner's lock held. Closing raises the generation and marks the blocks of every
  // unfinished change dirty: they belong to the epoch that ends here as well as to that in which
  // they complete.
  virtual void CloseGate() = 0;
  virtual void OpenGate() = 0;
  // Owner's lock held. A new generation (reset): requests submitted before carry a lower one.
  virtual uint64_t RaiseGeneration() = 0;
  // Requests submitted and not yet returned by TakeCompletions. Any thread; a moving value.
  virtual size_t unfinished() const = 0;

  // Waits until the host has finished everything, with no worker running any more (destruction).
  // The only call that waits for the disk.
  virtual void Drain() = 0;

  // Blocks written, discarded or zeroed, marked before the completion is published.
  virtual DirtyBitmap& dirty() = 0;
  virtual uint32_t dirty_block_bytes() const = 0;
};

}  // namespace pacsvisor
