// One bit a block of a space: written since the epoch began. Writers mark concurrently; one
// harvester takes the set.
//
// The contract that snapshots rest on: a writer marks *after* its bytes have landed (release), and
// the harvester takes the bits (acquire) *before* it copies. Then a block whose mark was taken is
// copied with its bytes, and a write that lands later marks the next epoch.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "vmm/base/strong_integer.h"
#include "vmm/dirty/extent.h"

namespace pacsvisor {

class DirtyBitmap {
 public:
  explicit DirtyBitmap(uint64_t block_count);

  uint64_t block_count() const { return block_count_; }

  // Any thread. Blocks lie inside the space (CHECKed).
  void Mark(BlockIndex block);
  void MarkRange(BlockIndex first, uint64_t count);
  void MarkAll() { MarkRange(BlockIndex(0), block_count_); }
  // ORs a harvested set back: a dirty set that was taken is owed until its snapshot is committed.
  void Return(std::span<const uint64_t> words);

  // Takes the whole set, leaving it empty. `words` has word_count() elements; bit b of word w is
  // block 64 w + b. ORs into what `words` holds, so that several sources join in one set.
  void TakeInto(std::span<uint64_t> words);
  uint64_t word_count() const { return word_count_; }

  // Any thread; a snapshot of a moving value.
  bool IsMarked(BlockIndex block) const;
  uint64_t CountMarked() const;

 private:
  struct Free {
    void operator()(std::atomic<uint64_t>* words) const { std::free(words); }
  };

  std::span<std::atomic<uint64_t>> words() const { return {words_.get(), word_count_}; }

  uint64_t block_count_;
  uint64_t word_count_;
  std::unique_ptr<std::atomic<uint64_t>[], Free> words_;
};

// The runs of set bits below `block_count`, in order.
std::vector<Extent> ExtentsOf(std::span<const uint64_t> words, uint64_t block_count);

}  // namespace pacsvisor
