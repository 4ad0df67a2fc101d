// Guest buffers as iovecs for host I/O (preadv, io_uring, sendmsg): the one way in which host
// addresses of guest memory are handed to the kernel.
//
// A vector for kDeviceWrites (the host's I/O changes guest memory: a disk read) marks its pages on
// completion, when the bytes have landed: whoever submits it calls Landed() before it publishes the
// completion, even when the I/O failed (it may have written part). Destroying one that was never
// Landed() is a bug.
// Threads: one at a time.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

enum class IoDirection {
  kDeviceReads,   // guest memory is only read: a disk write, a packet sent
  kDeviceWrites,  // guest memory is written: a disk read, a packet received
};

class GuestIoVector {
 public:
  // None when a range is not wholly inside memory. Empty ranges are left out.
  static std::optional<GuestIoVector> Create(GuestMemory& memory,
                                             std::span<const GuestRange> ranges,
                                             IoDirection direction);
  GuestIoVector(GuestIoVector&& other) noexcept;
  GuestIoVector& operator=(GuestIoVector&&) = delete;
  ~GuestIoVector();

  std::span<const iovec> iovecs() const { return iovecs_; }
  uint64_t size_bytes() const { return size_bytes_; }
  // The pages a write in flight may change: marked in every epoch it spans (DESIGN: a request in
  // flight when an epoch closes belongs to the next epoch's dirty set as well).
  void MarkInFlight();
  // kDeviceWrites: marks all pages; call once, after the I/O has ended.
  void Landed();

 private:
  GuestIoVector(GuestMemory& memory, IoDirection direction)
      : memory_(&memory), direction_(direction) {}
  void MarkAll();
  void BeginFlight();
  void EndFlight();

  GuestMemory* memory_;  // null once moved from
  IoDirection direction_;
  bool landed_ = false;
  uint64_t size_bytes_ = 0;
  std::vector<iovec> iovecs_;
  std::vector<GuestRange> ranges_;
  std::optional<GuestMemory::InFlight::iterator> in_flight_;  // kDeviceWrites, until it has landed
};

}  // namespace pacsvisor
