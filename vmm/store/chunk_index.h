// Which chunks there are, and where: an open-addressed table of the first 8 bytes of their names,
// 16 bytes a slot, and 4 a chunk for its place. A hit is compared with the 20 bytes of the name in
// the pack's directory: in its file, or in memory while it is being written.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/pack_set.h"
#include "vmm/store/pack_writer.h"

namespace pacsvisor {

class ChunkIndex {
 public:
  explicit ChunkIndex(PackSet& packs) : packs_(packs) {}

  // All chunks of a pack under packs/.
  void AddPack(uint32_t number, const PackContents& contents);
  // The pack that is being written, and lives until the next call: its chunks are added one by one
  // as they are appended. Null: it is under packs/ from now on.
  void SetOpenPack(const PackWriter* pack) { open_ = pack; }
  void AddToOpenPack(const Hash& name, const ChunkPlace& place);

  // Its chunks are not found any more.
  void DropPack(uint32_t number) { offsets_.erase(number); }

  bool HasPack(uint32_t number) const { return offsets_.contains(number); }
  std::vector<uint32_t> packs() const;

  // A place of a chunk whose name begins with the same 20 bytes, and that `accept` (if any) agrees
  // to.
  Result<std::optional<ChunkPlace>> Find(
      const Hash& name, const std::function<bool(const ChunkPlace&)>& accept = nullptr);

  void Clear();

 private:
  struct Slot {
    uint64_t prefix = 0;
    uint32_t pack = 0;  // 0: free
    uint32_t index = 0;
  };

  void Insert(const Slot& slot);
  void Reserve(size_t chunks);
  Result<bool> NameMatches(const Slot& slot, const Hash& name);

  PackSet& packs_;
  const PackWriter* open_ = nullptr;
  std::vector<Slot> slots_;  // a power of two, or none
  size_t used_ = 0;
  std::map<uint32_t, std::vector<uint32_t>> offsets_;  // by pack: of each chunk, and of the end
};

}  // namespace pacsvisor
