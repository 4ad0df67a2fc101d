#include "vmm/disk/layer_plan.h"

#include <algorithm>
#include <cstring>

#include "vmm/base/align.h"
#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

// Zeroed, so that what no file holds is right already.
void Allocate(LayerPlan& plan, uint64_t size_bytes) {
  plan.memory.reset(static_cast<uint8_t*>(std::aligned_alloc(kLayerBlockBytes, size_bytes)));
  CHECK(plan.memory != nullptr, "{} bytes", size_bytes);
  std::memset(plan.memory.get(), 0, size_bytes);
}

class RequestPlanner {
 public:
  RequestPlanner(const BlockRequest& request, const BlockMap& map, uint8_t target,
                 uint64_t disk_bytes, LayerPlan& plan)
      : request_(request),
        map_(map),
        target_(target),
        disk_bytes_(disk_bytes),
        plan_(plan),
        begin_(request.offset_bytes),
        end_(request.offset_bytes + request.size_bytes) {}

  void Read() {
    for (uint64_t at = begin_; at < end_;) {
      const uint64_t block = at / kLayerBlockBytes;
      const BlockPlace place = map_.Get(block);
      const uint64_t run = map_.Run(block, DivideRoundUp(end_, kLayerBlockBytes));
      const uint64_t run_end = std::min(end_, (block + run) * kLayerBlockBytes);
      if (place.reads_zeroes()) {
        const std::vector<iovec> parts = Slice(at, run_end);
        plan_.zeroed.insert(plan_.zeroed.end(), parts.begin(), parts.end());
      } else {
        plan_.reads.push_back(Data(BlockOperation::kRead, place.layer(), at, run_end));
      }
      at = run_end;
    }
  }

  void Change() {
    uint64_t whole_begin = begin_;
    uint64_t whole_end = end_;
    const uint64_t first = begin_ / kLayerBlockBytes;
    const uint64_t last = (end_ - 1) / kLayerBlockBytes;
    if (!Whole(first) && MustCopyUp(first)) {
      CopyUp(first);
      whole_begin = std::min(end_, BlockEnd(first));
    }
    if (last != first && !Whole(last) && MustCopyUp(last)) {
      CopyUp(last);
      whole_end = last * kLayerBlockBytes;
    }
    if (whole_begin >= whole_end) {
      return;
    }
    if (request_.operation == BlockOperation::kWrite) {
      plan_.writes.push_back(Data(BlockOperation::kWrite, target_, whole_begin, whole_end));
      Went(whole_begin, whole_end, BlockPlace::Data(target_));
    } else {
      Zero(whole_begin, whole_end);
    }
  }

 private:
  uint64_t BlockEnd(uint64_t block) const {
    return std::min(disk_bytes_, (block + 1) * kLayerBlockBytes);
  }
  bool Whole(uint64_t block) const {
    return begin_ <= block * kLayerBlockBytes && BlockEnd(block) <= end_;
  }
  bool InTarget(uint64_t block) const { return map_.Get(block) == BlockPlace::Data(target_); }
  // What reads as zeroes needs none of it to become so; Zero looks at it again.
  bool MustCopyUp(uint64_t block) const {
    const bool zeroes = request_.operation != BlockOperation::kWrite;
    return !InTarget(block) && !(zeroes && map_.Get(block).reads_zeroes());
  }
  std::vector<iovec> Slice(uint64_t from, uint64_t to) const {
    return SliceIovecs(request_.iovecs, from - begin_, to - from);
  }
  LayerMove Data(BlockOperation operation, uint8_t layer, uint64_t from, uint64_t to) const {
    LayerMove move{.operation = operation,
                   .layer = layer,
                   .offset_bytes = from,
                   .size_bytes = to - from,
                   .request_iovecs = from == begin_ && to == end_};
    if (!move.request_iovecs) {
      move.iovecs = Slice(from, to);
    }
    return move;
  }
  // The blocks that [from, to) touches. One that it covers in part was in that place before.
  void Went(uint64_t from, uint64_t to, BlockPlace place) {
    const uint64_t first = from / kLayerBlockBytes;
    plan_.changes.push_back({first, DivideRoundUp(to, kLayerBlockBytes) - first, place});
  }

  void CopyUp(uint64_t block) {
    if (plan_.memory == nullptr) {
      Allocate(plan_, 2 * kLayerBlockBytes);  // a request has two ends
    }
    uint8_t* memory = plan_.memory.get() + copied_++ * kLayerBlockBytes;
    const uint64_t start = block * kLayerBlockBytes;
    const uint64_t size = BlockEnd(block) - start;
    const iovec part{memory, size};
    const BlockPlace place = map_.Get(block);
    if (!place.reads_zeroes()) {
      plan_.reads.push_back({.operation = BlockOperation::kRead,
                             .layer = place.layer(),
                             .offset_bytes = start,
                             .size_bytes = size,
                             .iovecs = {part}});
    }
    const uint64_t from = std::max(begin_, start);
    const uint64_t to = std::min(end_, start + size);
    plan_.overlays.push_back({memory + (from - start), from - begin_, to - from});
    plan_.writes.push_back({.operation = BlockOperation::kWrite,
                            .layer = target_,
                            .offset_bytes = start,
                            .size_bytes = size,
                            .iovecs = {part}});
    plan_.changes.push_back({block, 1, BlockPlace::Data(target_)});
  }

  // Blocks at either end that are touched in part are in the target, or read as zeroes already.
  void Zero(uint64_t from, uint64_t to) {
    const uint64_t last = (to - 1) / kLayerBlockBytes;
    if (!Whole(from / kLayerBlockBytes)) {
      const uint64_t end = std::min(to, BlockEnd(from / kLayerBlockBytes));
      ZeroPart(from, end);
      from = end;
    }
    if (from < to && !Whole(last)) {
      ZeroPart(last * kLayerBlockBytes, to);
      to = last * kLayerBlockBytes;
    }
    if (from < to) {
      ZeroWhole(from, to);
    }
  }
  void ZeroPart(uint64_t from, uint64_t to) {
    if (InTarget(from / kLayerBlockBytes)) {
      plan_.writes.push_back(Zeroes(from, to));
    }
  }
  void ZeroWhole(uint64_t from, uint64_t to) {
    if (target_ == 0) {
      plan_.writes.push_back(Zeroes(from, to));
      Went(from, to, BlockPlace::Base());
      return;
    }
    for (uint64_t at = from; at < to;) {
      const uint64_t block = at / kLayerBlockBytes;
      const uint64_t run = map_.Run(block, DivideRoundUp(to, kLayerBlockBytes));
      const uint64_t end = std::min(to, (block + run) * kLayerBlockBytes);
      ZeroRun(map_.Get(block), at, end);
      at = end;
    }
  }
  // In a layer a block goes from absent to zeroes to data and never back, so that a guest that
  // zeroes and writes in turn cannot make the map log grow without end.
  void ZeroRun(BlockPlace place, uint64_t from, uint64_t to) {
    if (place == BlockPlace::Data(target_)) {
      plan_.writes.push_back(Zeroes(from, to));
    } else if (place.layer() != target_ ||
               (place.kind() == BlockPlace::Kind::kUnmapped && !MayUnmap())) {
      Went(from, to,
           BlockPlace::In(target_,
                          MayUnmap() ? BlockPlace::Kind::kUnmapped : BlockPlace::Kind::kZeroes));
    }
  }
  bool MayUnmap() const {
    return request_.may_unmap || request_.operation == BlockOperation::kDiscard;
  }
  LayerMove Zeroes(uint64_t from, uint64_t to) const {
    return {.operation = BlockOperation::kWriteZeroes,
            .may_unmap = MayUnmap(),
            .layer = target_,
            .offset_bytes = from,
            .size_bytes = to - from};
  }

  const BlockRequest& request_;
  const BlockMap& map_;
  const uint8_t target_;
  const uint64_t disk_bytes_;
  LayerPlan& plan_;
  const uint64_t begin_;
  const uint64_t end_;
  uint64_t copied_ = 0;
};

bool IsZero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

// Shorter runs are written: punching them costs the host more than it saves.
constexpr uint64_t kLeastHoleBytes = 16 * kLayerBlockBytes;

// How many bytes of zeroes `bytes` begins with, in whole blocks; 0 when they are too few.
uint64_t ZeroBytes(std::span<const uint8_t> bytes) {
  uint64_t size = 0;
  while (size < bytes.size()) {
    const uint64_t block = std::min<uint64_t>(kLayerBlockBytes, bytes.size() - size);
    if (!IsZero(bytes.subspan(size, block))) {
      break;
    }
    size += block;
  }
  return size >= kLeastHoleBytes || size == bytes.size() ? size : 0;
}

// How many bytes come before the next run of zeroes that is long enough.
uint64_t DataBytes(std::span<const uint8_t> bytes) {
  uint64_t size = 0;
  while (size < bytes.size() && ZeroBytes(bytes.subspan(size)) == 0) {
    size += std::min<uint64_t>(kLayerBlockBytes, bytes.size() - size);
  }
  return size;
}

}  // namespace

void LayerPlan::Clear() {
  reads.clear();
  zeroed.clear();
  overlays.clear();
  writes.clear();
  changes.clear();
  memory.reset();
}

void PlanRequest(const BlockRequest& request, const BlockMap& map, uint8_t target,
                 uint64_t disk_bytes, LayerPlan& plan) {
  RequestPlanner planner(request, map, target, disk_bytes, plan);
  if (request.operation == BlockOperation::kRead) {
    planner.Read();
  } else {
    CHECK(ChangesDisk(request.operation), "{}", BlockOperationName(request.operation));
    planner.Change();
  }
}

void PlanMerge(MergeOf what, uint64_t first, uint64_t count, const BlockMap& map,
               uint64_t disk_bytes, LayerPlan& plan) {
  const uint64_t end = first + count;
  for (uint64_t block = first; block < end;) {
    const uint64_t run = map.Run(block, end);
    const BlockPlace place = map.Get(block);
    const bool wanted = !place.base() && place.source() == (what != MergeOf::kLayers);
    if (wanted) {
      const uint64_t offset = block * kLayerBlockBytes;
      const uint64_t size = std::min(disk_bytes, (block + run) * kLayerBlockBytes) - offset;
      // Zeroes are written also where they come from the source: the image may hold there what a
      // change left that was never recorded.
      LayerMove write{.operation = BlockOperation::kWriteZeroes,
                      .may_unmap = place.kind() == BlockPlace::Kind::kUnmapped ||
                                   what == MergeOf::kSourceZeroes,
                      .layer = 0,
                      .offset_bytes = offset,
                      .size_bytes = size};
      if (!place.reads_zeroes() && what != MergeOf::kSourceZeroes) {
        if (plan.memory == nullptr) {
          Allocate(plan, count * kLayerBlockBytes);
        }
        const iovec part{plan.memory.get() + (block - first) * kLayerBlockBytes, size};
        plan.reads.push_back({.operation = BlockOperation::kRead,
                              .layer = place.layer(),
                              .offset_bytes = offset,
                              .size_bytes = size,
                              .iovecs = {part}});
        write.operation = BlockOperation::kWrite;
        write.iovecs = {part};
      }
      plan.writes.push_back(std::move(write));
      plan.changes.push_back({block, run, BlockPlace::Base()});
    }
    block += run;
  }
}

void PunchFetchedZeroes(LayerPlan& plan) {
  std::vector<LayerMove> writes;
  for (const LayerMove& write : plan.writes) {
    auto* bytes = static_cast<uint8_t*>(write.iovecs.front().iov_base);
    for (uint64_t at = 0; at < write.size_bytes;) {
      const uint64_t zeroes = ZeroBytes({bytes + at, write.size_bytes - at});
      LayerMove part{.operation = BlockOperation::kWriteZeroes,
                     .may_unmap = true,
                     .layer = 0,
                     .offset_bytes = write.offset_bytes + at,
                     .size_bytes = zeroes};
      if (zeroes == 0) {
        part.operation = BlockOperation::kWrite;
        part.may_unmap = false;
        part.size_bytes = DataBytes({bytes + at, write.size_bytes - at});
        part.iovecs = {{bytes + at, part.size_bytes}};
      }
      at += part.size_bytes;
      writes.push_back(std::move(part));
    }
  }
  plan.writes = std::move(writes);
}

std::vector<iovec> SliceIovecs(std::span<const iovec> iovecs, uint64_t offset_bytes,
                               uint64_t size_bytes) {
  std::vector<iovec> slice;
  for (const iovec& part : iovecs) {
    if (size_bytes == 0) {
      break;
    }
    const uint64_t skipped = std::min<uint64_t>(offset_bytes, part.iov_len);
    const uint64_t taken = std::min<uint64_t>(size_bytes, part.iov_len - skipped);
    offset_bytes -= skipped;
    size_bytes -= taken;
    if (taken > 0) {
      slice.push_back({static_cast<uint8_t*>(part.iov_base) + skipped, taken});
    }
  }
  CHECK(size_bytes == 0, "{} bytes more than the buffers hold", size_bytes);
  return slice;
}

void RunOverlays(const BlockRequest& request, const LayerPlan& plan) {
  for (const LayerPlan::Overlay& overlay : plan.overlays) {
    if (request.operation != BlockOperation::kWrite) {
      std::memset(overlay.to, 0, overlay.size_bytes);
      continue;
    }
    uint8_t* to = overlay.to;
    for (const iovec& part :
         SliceIovecs(request.iovecs, overlay.request_offset_bytes, overlay.size_bytes)) {
      std::memcpy(to, part.iov_base, part.iov_len);
      to += part.iov_len;
    }
  }
}

}  // namespace pacsvisor
