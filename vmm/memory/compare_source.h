// Dirty pages by content: a hash of every page, compared with the one before. Needs nothing of the
// host, sees everybody's writes, takes time with memory size: the last resort, and the oracle that
// the tests hold the other sources against.
//
// A page that was written with the bytes it held is not reported: nothing about it is to be saved
// again. While vCPUs run there is one exception. A page that a Harvest reports is copied later, and
// may change and change back round that copy; so it is reported again until a HarvestPaused, whose
// copies are of what was hashed. What is copied before the first Harvest is compared with the copy
// itself (Copied).
#pragma once

#include <xxhash.h>

#include <cstdint>
#include <vector>

#include "vmm/dirty/dirty_source.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class CompareSource final : public DirtySource {
 public:
  // `memory` outlives the source.
  explicit CompareSource(const GuestMemory& memory);

  std::string_view name() const override { return "compare"; }
  Status Start() override;
  void Stop() override;
  void Copied(BlockIndex first, std::span<const uint8_t> bytes) override;
  Status Harvest(std::span<uint64_t> words) override;
  Status HarvestPaused(std::span<uint64_t> words) override;

 private:
  struct Data {  // pages [begin, end)
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  void Compare(std::span<uint64_t> words);
  Data NextData(uint64_t page) const;

  const GuestMemory& memory_;
  XXH128_hash_t zeroes_;               // of a page that was never written
  std::vector<XXH128_hash_t> hashes_;  // by page of the space; empty unless started
  std::vector<uint64_t> reported_;     // since the last HarvestPaused
};

}  // namespace pacsvisor
