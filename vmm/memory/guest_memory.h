// Guest memory, and the only way to it. Every write of the VMM goes through these accessors, which
// copy and then mark the pages dirty: KVM's log does not see what the VMM writes. No pointer or
// reference into guest memory leaves them, with two exceptions that are named below and carry their
// own duty: GuestIoVector (host I/O into guest buffers) and HostRange (memslots, capture).
//
// Addresses come from guests: an access that is not wholly inside memory returns false and touches
// nothing (an access may cross pages, never the hole).
// While a restore is lazy (vmm/memory/memory_faults.h), an access to a page that is not there yet
// waits until it is: whoever reads memory gets all of it, as if it had always been there.
// Threads: any, concurrently with running vCPUs. Bytes are copied without order; indices of rings
// use the acquire and release accessors.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "vmm/base/mapping.h"
#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/unique_fd.h"
#include "vmm/dirty/dirty_bitmap.h"
#include "vmm/memory/guest_address.h"
#include "vmm/memory/memory_layout.h"

namespace pacsvisor {

enum class MemoryBacking {
  kAnonymous,
  kMemfd,  // shared memory file: another process may be handed its descriptor
};

class GuestMemory {
 public:
  // A region as the host sees it: 2 MiB aligned, guard space around it.
  struct HostRange {
    GuestAddress start;
    uint64_t size_bytes;
    uint8_t* host;           // for KVM memslots and for capture and restore only
    BlockIndex first_block;  // of the memory space: pages counted through the regions
  };

  static Result<std::unique_ptr<GuestMemory>> Create(const MemoryLayout& layout,
                                                     MemoryBacking backing);

  uint64_t size_bytes() const { return size_bytes_; }
  uint64_t page_count() const { return size_bytes_ / kPageSizeBytes; }
  bool Contains(GuestRange range) const { return Find(range) != nullptr; }

  [[nodiscard]] bool Read(GuestAddress from, std::span<uint8_t> to) const;
  [[nodiscard]] bool Write(GuestAddress to, std::span<const uint8_t> from);
  [[nodiscard]] bool Fill(GuestRange range, uint8_t value);

  // A fixed-size ABI structure or number, copied once.
  template <typename T>
  [[nodiscard]] std::optional<T> ReadObject(GuestAddress from) const {
    static_assert(std::is_trivially_copyable_v<T>);
    T object;
    // Any trivially copyable object may be accessed as bytes.
    if (!Read(from, {reinterpret_cast<uint8_t*>(&object), sizeof(object)})) {
      return std::nullopt;
    }
    return object;
  }
  template <typename T>
  [[nodiscard]] bool WriteObject(GuestAddress to, const T& object) {
    static_assert(std::is_trivially_copyable_v<T>);
    // Any trivially copyable object may be accessed as bytes.
    return Write(to, {reinterpret_cast<const uint8_t*>(&object), sizeof(object)});
  }

  // Ring indices (virtio 1.2, 2.7.13): naturally aligned, one access, ordered. Misaligned: refused.
  [[nodiscard]] std::optional<uint16_t> LoadAcquire16(GuestAddress from) const;
  [[nodiscard]] bool StoreRelease16(GuestAddress to, uint16_t value);

  DirtyBitmap& dirty() { return dirty_; }
  // ORs the pages that host I/O is on its way into (GuestIoVector) into `words` (DirtyBitmap's
  // form): the kernel may write them past any protection of theirs. Any thread.
  void AddPagesInFlight(std::span<uint64_t> words) const EXCLUDES(in_flight_mutex_);
  const std::vector<HostRange>& host_ranges() const { return ranges_; }
  // The page of the memory space an address lies in; none outside memory.
  std::optional<BlockIndex> BlockOf(GuestAddress address) const;
  // The memfd behind all regions (in their order, without the hole), -1 when anonymous.
  int memfd() const { return memfd_.get(); }

 private:
  friend class GuestIoVector;
  // One I/O's, which the vector owns.
  using InFlight = std::list<std::span<const GuestRange>>;

  explicit GuestMemory(uint64_t size_bytes)
      : size_bytes_(size_bytes), dirty_(size_bytes / kPageSizeBytes) {}

  const HostRange* Find(GuestRange range) const;
  // `range` lies inside `host`.
  void MarkWritten(const HostRange& host, GuestRange range);

  // Constant after construction.
  const uint64_t size_bytes_;
  UniqueFd memfd_;
  std::vector<Mapping> mappings_;
  std::vector<HostRange> ranges_;
  // Any thread.
  DirtyBitmap dirty_;
  // Guarded. Nobody who holds it touches guest memory.
  mutable Mutex in_flight_mutex_;
  InFlight in_flight_ GUARDED_BY(in_flight_mutex_);
};

}  // namespace pacsvisor
