// Where each block of a layered disk is: the one map through which every read resolves, whatever
// number of layers there is. One byte a block, in chunks that exist only where the blocks are not
// all in the base image, or all in the source. Threads: one at a time, under the lock of whoever
// holds it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/base/check.h"

namespace pacsvisor {

// The unit of layers, of their map and of a disk's dirty set.
inline constexpr uint64_t kLayerBlockBytes = 4096;
// Layers are numbered from 1; number 0 is the base image.
inline constexpr uint8_t kMaxLayers = 8;
// Where blocks are that were not fetched yet (block_source.h). Nothing is ever written there.
inline constexpr uint8_t kSourceLayer = 63;

// Presence is explicit: a hole in a file never means anything.
class BlockPlace {
 public:
  enum class Kind : uint8_t {
    kData = 0,      // in the layer's file, in the base image or in the source
    kZeroes = 1,    // reads as zeroes, and keeps its room once it is merged
    kUnmapped = 2,  // reads as zeroes, and gives its room back
  };

  constexpr BlockPlace() = default;  // in the base image
  static constexpr BlockPlace Base() { return {}; }
  static constexpr BlockPlace Source() { return Data(kSourceLayer); }
  static constexpr BlockPlace In(uint8_t layer, Kind kind) {
    return BlockPlace(static_cast<uint8_t>(layer << 2 | static_cast<uint8_t>(kind)));
  }
  // Where a write that goes to `layer` (0: the base) leaves its blocks.
  static constexpr BlockPlace Data(uint8_t layer) { return In(layer, Kind::kData); }

  constexpr uint8_t layer() const { return raw_ >> 2; }
  constexpr Kind kind() const { return static_cast<Kind>(raw_ & 3); }
  constexpr bool base() const { return raw_ == 0; }
  constexpr bool source() const { return layer() == kSourceLayer; }
  constexpr bool reads_zeroes() const { return kind() != Kind::kData; }
  friend constexpr bool operator==(BlockPlace, BlockPlace) = default;

 private:
  constexpr explicit BlockPlace(uint8_t raw) : raw_(raw) {}

  uint8_t raw_ = 0;
};

// Blocks that went to a new place.
struct PlaceChange {
  uint64_t first = 0;
  uint64_t count = 0;
  BlockPlace place;

  friend bool operator==(const PlaceChange&, const PlaceChange&) = default;
};

class BlockMap {
 public:
  explicit BlockMap(uint64_t block_count);

  uint64_t block_count() const { return block_count_; }
  BlockPlace Get(uint64_t block) const {
    CHECK(block < block_count_, "block {} of {}", block, block_count_);
    const Chunk& chunk = chunks_[block / kChunkBlocks];
    return chunk.places == nullptr ? chunk.all : (*chunk.places)[block % kChunkBlocks];
  }
  void Set(uint64_t block, BlockPlace place);
  // Of a new map: every block is in the source. Costs no memory.
  void SetAllInSource();
  // How many blocks from `first` on, up to `end`, are in one place.
  uint64_t Run(uint64_t first, uint64_t end) const;
  // The first block from `from` on that is not in the base; block_count() when there is none.
  uint64_t NextLayered(uint64_t from) const;
  // The same, in a layer: neither in the base nor in the source.
  uint64_t NextInLayers(uint64_t from) const;
  // Blocks that are not in the base.
  uint64_t layered_count() const { return in_layers_ + in_source_; }
  uint64_t in_layers() const { return in_layers_; }
  uint64_t in_source() const { return in_source_; }

 private:
  static constexpr uint64_t kChunkBlocks = 32 * 1024;
  using Places = std::array<BlockPlace, kChunkBlocks>;
  struct Chunk {
    std::unique_ptr<Places> places;  // null: all blocks are in one place, `all`
    BlockPlace all;                  // the base or the source
    uint64_t in_layers = 0;
    uint64_t in_source = 0;
  };

  uint64_t ChunkEnd(uint64_t chunk) const;
  void Count(Chunk& chunk, BlockPlace place, int64_t blocks);

  uint64_t block_count_;
  uint64_t in_layers_ = 0;
  uint64_t in_source_ = 0;
  std::vector<Chunk> chunks_;
};

}  // namespace pacsvisor
