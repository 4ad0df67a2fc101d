// What a writer was given and has not put into a table yet: in any order, and of a block given
// twice, the last counts. Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "vmm/store/entry_source.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

class PendingBlocks {
 public:
  void AddChunk(uint64_t key, const ChunkId& chunk, const ChunkPlace& place);
  // Of one space; count is not 0.
  void AddZeroes(uint64_t first, uint64_t count);

  // About how many entries it would make.
  size_t size() const { return blocks_.size() + runs_.size(); }
  // Hands over everything as entries in order, and is empty after that.
  std::unique_ptr<EntrySource> Take();

 private:
  // Blocks one at a time, in the order given.
  struct Block {
    uint64_t key = 0;
    uint32_t order = 0;
    BlockKind kind = BlockKind::kNone;
    ChunkPlace place;
    Hash name = {};
  };
  // Zero runs, disjoint, by first key. `order` is the count of blocks given before: those from
  // there on came later than the run.
  struct Run {
    uint64_t end = 0;
    uint32_t order = 0;
  };
  class Source;

  void CutRuns(uint64_t first, uint64_t end);

  std::vector<Block> blocks_;
  std::vector<SealKey> keys_;  // of blocks_, by order; shorter when the rest have none
  std::map<uint64_t, Run> runs_;
};

}  // namespace pacsvisor
