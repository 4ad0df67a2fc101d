// What the tests of MemoryFaults share: a source whose pages say which they are, and a machine's
// memory over it.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <vector>

#include "tests/support/needs_userfaultfd.h"
#include "vmm/memory/memory_faults.h"

namespace pacsvisor {

using PageBytes = std::vector<uint8_t>;

// Page n holds n and its own bytes' places; one of seven stretches of 40 pages is zero.
class PatternSource : public PageSource {
 public:
  static constexpr uint64_t kStretchPages = 40;
  static bool IsZero(uint64_t page) { return page / kStretchPages % 7 == 2; }
  static PageBytes PageOf(uint64_t page) {
    PageBytes bytes(kPageSizeBytes, 0);
    for (size_t i = 0; !IsZero(page) && i < bytes.size(); i += sizeof(uint64_t)) {
      const uint64_t word = (page + 1) * 0x9e37'79b9'7f4a'7c15 + i;
      std::memcpy(&bytes[i], &word, sizeof(word));
    }
    return bytes;
  }

  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override {
    if (before_fetch) {
      TRY(before_fetch(first, bytes.size() / kPageSizeBytes));
    }
    for (size_t offset = 0; offset < bytes.size(); offset += kPageSizeBytes) {
      const uint64_t page = first.raw() + offset / kPageSizeBytes;
      const PageBytes one = PageOf(page);
      std::memcpy(&bytes[offset], one.data(), one.size());
      const std::lock_guard lock(mutex_);
      fetched_.push_back(page);
    }
    return {};
  }
  Result<uint64_t> ZeroRun(BlockIndex first) override {
    return IsZero(first.raw()) ? kStretchPages - first.raw() % kStretchPages : 0;
  }
  std::vector<uint64_t> fetched() const {
    const std::lock_guard lock(mutex_);
    return fetched_;
  }

  std::function<Status(BlockIndex, uint64_t)> before_fetch;  // set before the first use

 private:
  mutable std::mutex mutex_;
  std::vector<uint64_t> fetched_;
};

// 8 MiB in one region, or two regions (above 3 GiB), of which tests touch little.
inline std::unique_ptr<GuestMemory> MakeGuestMemory(
    uint64_t size_bytes, MemoryBacking backing = MemoryBacking::kAnonymous) {
  return GuestMemory::Create(MemoryLayout::Create(size_bytes, 40).value(), backing).value();
}

inline GuestAddress AddressOfPage(const GuestMemory& memory, uint64_t page) {
  for (const GuestMemory::HostRange& range : memory.host_ranges()) {
    const uint64_t first = range.first_block.raw();
    if (page >= first && page - first < range.size_bytes / kPageSizeBytes) {
      return GuestAddress(range.start.raw() + (page - first) * kPageSizeBytes);
    }
  }
  CHECK(false, "page {}", page);
}

inline PageBytes ReadPage(const GuestMemory& memory, uint64_t page) {
  PageBytes bytes(kPageSizeBytes);
  CHECK(memory.Read(AddressOfPage(memory, page), bytes));
  return bytes;
}

inline std::unique_ptr<MemoryFaults> MakeFaults(GuestMemory& memory,
                                                MemoryFaultsOptions options = {},
                                                uint64_t without_features = 0) {
  return MemoryFaults::Create(memory, UserFaultFd::OpenShared(without_features).value(),
                              std::move(options))
      .value();
}

inline constexpr uint64_t kLongNs = 60'000'000'000;

}  // namespace pacsvisor
