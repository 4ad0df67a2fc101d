// What a request to a layered disk comes to: which bytes are read where, which are written where,
// and which blocks are in another place when that has succeeded. Pure: no I/O, no state.
//
// A change goes to one target: the active layer, or the base image (0). Blocks that it covers whole
// go there as they are. Of a block that it covers in part, the rest is brought along ("copied up")
// unless the block is in the target already: read from where it is into private memory, overlaid
// with the guest's bytes, written whole. So a block is always in one place.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "vmm/disk/block_map.h"
#include "vmm/disk/block_request.h"

namespace pacsvisor {

struct LayerMove {
  BlockOperation operation = BlockOperation::kRead;  // kRead, kWrite, kWriteZeroes
  bool may_unmap = false;
  uint8_t layer = 0;
  uint64_t offset_bytes = 0;  // in the layer's file as in the disk
  uint64_t size_bytes = 0;
  std::vector<iovec> iovecs;
  bool request_iovecs = false;  // exactly the request's, which is not copied
};

struct LayerPlan {
  struct Overlay {
    uint8_t* to = nullptr;
    uint64_t request_offset_bytes = 0;
    uint64_t size_bytes = 0;
  };
  struct Free {
    void operator()(uint8_t* bytes) const { std::free(bytes); }
  };

  std::vector<LayerMove> reads;   // first
  std::vector<iovec> zeroed;      // of the request's buffers: no file holds these
  std::vector<Overlay> overlays;  // then: the request's bytes (or zeroes) over what was read
  std::vector<LayerMove> writes;  // then
  std::vector<PlaceChange> changes;
  std::unique_ptr<uint8_t[], Free> memory;  // what is read to be written elsewhere

  // As new, but for the room its vectors have.
  void Clear();
};

// `request` is a read, a write, a discard (which comes to zeroes, given back) or write-zeroes
// inside `disk_bytes`. `plan` is clear.
void PlanRequest(const BlockRequest& request, const BlockMap& map, uint8_t target,
                 uint64_t disk_bytes, LayerPlan& plan);

// What a piece of merging moves to the base, and nothing else.
enum class MergeOf : uint8_t {
  kLayers,        // blocks that are in layers
  kSource,        // blocks that are in the source
  kSourceZeroes,  // the same, where the source is known to hold zeroes
};
// Of blocks [first, first + count).
void PlanMerge(MergeOf what, uint64_t first, uint64_t count, const BlockMap& map,
               uint64_t disk_bytes, LayerPlan& plan);
// When the reads of a merge of kSource are done: long runs of zeroes that came from the source are
// not written as data, so that the image stays as sparse as it was.
void PunchFetchedZeroes(LayerPlan& plan);

// The bytes [offset, offset + size) of what `iovecs` name.
std::vector<iovec> SliceIovecs(std::span<const iovec> iovecs, uint64_t offset_bytes,
                               uint64_t size_bytes);
void RunOverlays(const BlockRequest& request, const LayerPlan& plan);

}  // namespace pacsvisor
