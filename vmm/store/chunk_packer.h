// New chunks on their way into packs, and which ones need not be written. The owner has the store's
// lock. Threads: one at a time.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "vmm/store/chunk_index.h"
#include "vmm/store/pack_writer.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

class ChunkPacker {
 public:
  // `next_pack`: as CleanUp says. `behind`: of PackWriter.
  ChunkPacker(StoreCore& core, uint32_t next_pack, WriteBehind* behind = nullptr)
      : core_(core), behind_(behind), next_pack_(next_pack), own_chunks_(core.packs()) {}

  // In the store, or given to this.
  Result<std::optional<ChunkPlace>> Find(const Hash& name);
  // `stored` is the chunk called `name`, compressed or raw, which Find does not have.
  Result<ChunkPlace> Append(const Hash& name, std::span<const uint8_t> stored);
  // What was begun goes to packs/; its name is durable after a sync of that.
  Status Seal();
  // What was begun is left to the next CleanUp.
  void GiveUp() { pack_.reset(); }

  bool has_packs() const { return next_pack_ != first_pack_; }
  uint32_t last_pack() const { return next_pack_ - 1; }
  uint64_t stored_bytes() const { return stored_bytes_; }  // of sealed packs

 private:
  StoreCore& core_;
  WriteBehind* const behind_;
  uint32_t next_pack_;
  const uint32_t first_pack_ = next_pack_;
  std::unique_ptr<PackWriter> pack_;  // null: none is begun
  ChunkIndex own_chunks_;
  bool index_fresh_ = false;
  uint64_t stored_bytes_ = 0;
};

}  // namespace pacsvisor
