#include "vmm/memory/guest_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "vmm/base/align.h"
#include "vmm/dirty/bit_words.h"

namespace pacsvisor {
namespace {

constexpr size_t kRegionAlignmentBytes = 2 * kMiB;

Result<UniqueFd> CreateMemfd(uint64_t size_bytes) {
  UniqueFd fd(::memfd_create("pacsvisor-guest-memory", MFD_CLOEXEC));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot create a memory file for the guest");
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    return Error::FromErrno(errno, "cannot give the guest's memory file {} bytes", size_bytes);
  }
  return fd;
}

// Fewer faults and shorter page walks, where the host gives them to those that ask. Refused where
// it has none: no matter.
void AskForHugePages(const Mapping& mapping) {
  ::madvise(mapping.data(), mapping.size_bytes(), MADV_HUGEPAGE);
}

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::Create(const MemoryLayout& layout,
                                                         MemoryBacking backing) {
  std::unique_ptr<GuestMemory> memory(new GuestMemory(layout.memory_bytes));
  if (backing == MemoryBacking::kMemfd) {
    memory->memfd_ = TRY(CreateMemfd(layout.memory_bytes));
  }
  uint64_t offset_bytes = 0;
  for (const MemoryRegion& region : layout.regions) {
    memory->mappings_.push_back(TRY(Mapping::MapGuarded(region.size_bytes, kRegionAlignmentBytes,
                                                        memory->memfd_.get(), offset_bytes)));
    AskForHugePages(memory->mappings_.back());
    memory->ranges_.push_back({region.start, region.size_bytes, memory->mappings_.back().data(),
                               BlockIndex(offset_bytes / kPageSizeBytes)});
    offset_bytes += region.size_bytes;
  }
  return memory;
}

const GuestMemory::HostRange* GuestMemory::Find(GuestRange range) const {
  for (const HostRange& host : ranges_) {
    if (range.start >= host.start) {
      const uint64_t offset = range.start.raw() - host.start.raw();
      if (offset <= host.size_bytes && range.size_bytes <= host.size_bytes - offset) {
        return &host;
      }
    }
  }
  return nullptr;
}

void GuestMemory::MarkWritten(const HostRange& host, GuestRange range) {
  if (range.size_bytes == 0) {
    return;
  }
  const uint64_t offset = range.start.raw() - host.start.raw();
  const uint64_t first = offset / kPageSizeBytes;
  const uint64_t last = (offset + range.size_bytes - 1) / kPageSizeBytes;
  dirty_.MarkRange(BlockIndex(host.first_block.raw() + first), last - first + 1);
}

void GuestMemory::AddPagesInFlight(std::span<uint64_t> words) const {
  const MutexLock lock(in_flight_mutex_);
  for (const std::span<const GuestRange> ranges : in_flight_) {
    for (const GuestRange& range : ranges) {
      const HostRange& host = *Find(range);
      const uint64_t offset = range.start.raw() - host.start.raw();
      const uint64_t first = offset / kPageSizeBytes;
      const uint64_t last = (offset + range.size_bytes - 1) / kPageSizeBytes;
      SetBits(words, host.first_block.raw() + first, last - first + 1);
    }
  }
}

bool GuestMemory::Read(GuestAddress from, std::span<uint8_t> to) const {
  const HostRange* host = Find({from, to.size()});
  if (host == nullptr) {
    return false;
  }
  if (to.empty()) {
    return true;  // an empty span may have no address, which memcpy must not be given
  }
  std::memcpy(to.data(), host->host + (from.raw() - host->start.raw()), to.size());
  return true;
}

bool GuestMemory::Write(GuestAddress to, std::span<const uint8_t> from) {
  const HostRange* host = Find({to, from.size()});
  if (host == nullptr) {
    return false;
  }
  if (from.empty()) {
    return true;
  }
  std::memcpy(host->host + (to.raw() - host->start.raw()), from.data(), from.size());
  MarkWritten(*host, {to, from.size()});
  return true;
}

bool GuestMemory::Fill(GuestRange range, uint8_t value) {
  const HostRange* host = Find(range);
  if (host == nullptr) {
    return false;
  }
  std::memset(host->host + (range.start.raw() - host->start.raw()), value, range.size_bytes);
  MarkWritten(*host, range);
  return true;
}

std::optional<uint16_t> GuestMemory::LoadAcquire16(GuestAddress from) const {
  const HostRange* host = Find({from, sizeof(uint16_t)});
  if (host == nullptr || !IsAligned(from.raw(), sizeof(uint16_t))) {
    return std::nullopt;
  }
  // Aligned and inside the region: a 16-bit object shared with the guest.
  auto* word = reinterpret_cast<uint16_t*>(host->host + (from.raw() - host->start.raw()));
  return std::atomic_ref(*word).load(std::memory_order_acquire);
}

bool GuestMemory::StoreRelease16(GuestAddress to, uint16_t value) {
  const HostRange* host = Find({to, sizeof(uint16_t)});
  if (host == nullptr || !IsAligned(to.raw(), sizeof(uint16_t))) {
    return false;
  }
  // Aligned and inside the region: a 16-bit object shared with the guest.
  auto* word = reinterpret_cast<uint16_t*>(host->host + (to.raw() - host->start.raw()));
  std::atomic_ref(*word).store(value, std::memory_order_release);
  MarkWritten(*host, {to, sizeof(value)});
  return true;
}

std::optional<BlockIndex> GuestMemory::BlockOf(GuestAddress address) const {
  const HostRange* host = Find({address, 1});
  if (host == nullptr) {
    return std::nullopt;
  }
  return BlockIndex(host->first_block.raw() + (address.raw() - host->start.raw()) / kPageSizeBytes);
}

}  // namespace pacsvisor
