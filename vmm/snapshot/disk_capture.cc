#include "vmm/snapshot/disk_capture.h"

#include <algorithm>
#include <bit>

#include "vmm/base/align.h"
#include "vmm/dirty/dirty_bitmap.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBlocksOfWord = 64;
constexpr uint64_t kBlocksRead = 256;  // at a time
// A disk whose requests of before the instant do not end within this is broken for its guest too.
constexpr uint32_t kSealPatienceMs = 60'000;
constexpr uint32_t kSealWaitMs = 100;  // between looks at who wants the snapshot no more

}  // namespace

DiskCapture::DiskCapture(FrozenSpace& disk, uint32_t number, Extent extent)
    : disk_(disk),
      number_(number),
      extent_(extent),
      taken_(DivideRoundUp(DivideRoundUp<uint64_t>(disk.size_bytes(), disk.block_bytes()),
                           kBlocksOfWord)) {}

DiskCapture::~DiskCapture() {
  if (prepared_) {
    disk_.Release();
  }
}

Status DiskCapture::Prepare() {
  TRY(disk_.Prepare());
  prepared_ = true;
  return {};
}

void DiskCapture::Freeze() { disk_.Freeze(taken_); }

uint64_t DiskCapture::blocks() const {
  if (extent_ == Extent::kWhole) {
    return DivideRoundUp<uint64_t>(disk_.size_bytes(), disk_.block_bytes());
  }
  uint64_t count = 0;
  for (const uint64_t word : taken_) {
    count += static_cast<uint64_t>(std::popcount(word));
  }
  return count;
}

Status DiskCapture::Write(SnapshotWriter& writer, CaptureObserver& observer) {
  const uint64_t block_bytes = disk_.block_bytes();
  const uint64_t all = DivideRoundUp<uint64_t>(disk_.size_bytes(), block_bytes);
  const std::vector<pacsvisor::Extent> extents =
      extent_ == Extent::kWhole ? std::vector{pacsvisor::Extent{BlockIndex(0), all}}
                                : ExtentsOf(taken_, all);
  const uint64_t total = blocks() * block_bytes;
  std::vector<uint8_t> bytes(kBlocksRead * block_bytes);
  uint64_t done = 0;
  for (const pacsvisor::Extent& extent : extents) {
    for (uint64_t i = 0; i < extent.count; i += kBlocksRead) {
      TRY(observer.CheckCancelled());
      observer.OnProgress(CapturePhase::kWriting, done, total);
      const uint64_t first = extent.first.raw() + i;
      const uint64_t count = std::min(kBlocksRead, extent.count - i);
      const std::span<uint8_t> part(bytes.data(), count * block_bytes);
      TRY(ReadFrozen(BlockIndex(first), part, observer));
      for (uint64_t k = 0; k < count; ++k) {
        TRY(writer.Add(number_, BlockIndex(first + k), part.subspan(k * block_bytes, block_bytes)));
      }
      done += count * block_bytes;
    }
  }
  // What was frozen is with the writer: if the commit fails, the next snapshot reads these blocks
  // anew.
  disk_.Release();
  prepared_ = false;
  return {};
}

Status DiskCapture::ReadFrozen(BlockIndex first, std::span<uint8_t> bytes,
                               CaptureObserver& observer) {
  for (uint32_t waited_ms = 0;; waited_ms += kSealWaitMs) {
    Status read = disk_.Read(first, bytes, kSealWaitMs);
    const bool late = !read.ok() && read.error().code() == ErrorCode::kTimeout;
    if (!late || waited_ms >= kSealPatienceMs) {
      return read;
    }
    TRY(observer.CheckCancelled());
  }
}

void DiskCapture::GiveBack() { disk_.Return(taken_); }

}  // namespace pacsvisor
