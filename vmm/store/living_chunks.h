// Which chunks of a store's packs its snapshots need: the marks of a prune (FORMAT.md, 11).
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/chunk_index.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

class LivingChunks {
 public:
  struct Pack {
    std::vector<uint32_t> offsets;  // of each chunk, and of the end
    std::vector<bool> living;       // of each chunk
    size_t living_chunks = 0;
    uint64_t living_bytes = 0;
    uint64_t file_bytes = 0;
  };

  explicit LivingChunks(StoreCore& core) : core_(core), index_(core.packs()) {}

  // Learns the packs that roots or floor vouch for. Those that come later are not looked at by this
  // object: nothing is said of them, and nobody may touch them for it.
  Status LearnPacks();
  // Takes out packs that are not there any more: what was needed of them has moved to later ones.
  Status DropMissingPacks();

  // Marks every chunk with a name that the snapshot's tables have, wherever it is: of two copies
  // one may be damaged. Each table is walked once, however many snapshots share it. One that cannot
  // be read is an error: what it needs is not known.
  Status Mark(const SnapshotRoot& root);

  // Without those whose directory cannot be read.
  const std::map<uint32_t, Pack>& packs() const { return packs_; }
  const std::set<uint32_t>& unreadable_packs() const { return unreadable_packs_; }
  void DropPack(uint32_t number);

  // A copy of a chunk in a pack that is not among `without`, read and whole. Of an encrypted store,
  // whose chunks only their users have keys to, the pack's checksum says so, and 20 bytes of the
  // name are enough.
  Result<bool> HasCopy(const Hash& name, const std::set<uint32_t>& without);

 private:
  Status MarkChunk(const Hash& name);
  bool IsPackWhole(uint32_t number);

  StoreCore& core_;
  ChunkIndex index_;
  std::map<uint32_t, Pack> packs_;
  std::set<uint32_t> unreadable_packs_;
  std::set<Hash> marked_tables_;
  std::map<uint32_t, bool> whole_packs_;  // as far as asked
};

}  // namespace pacsvisor
