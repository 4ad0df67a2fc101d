#include "vmm/snapshot/disks_snapshot.h"

#include <algorithm>
#include <memory>
#include <vector>

namespace pacsvisor {
namespace {

constexpr uint64_t kDiskBlocksRead = 256;  // at a time

}  // namespace

Result<SnapshotInfo> TakeDisksSnapshot(Store& store, const std::optional<SnapshotId>& parent,
                                       std::span<const FileSpace* const> disks,
                                       const SnapshotDraft& draft, CaptureObserver& observer) {
  std::vector<StoredSpace> spaces;
  uint64_t total_bytes = 0;
  for (const FileSpace* disk : disks) {
    spaces.push_back({disk->name(), disk->block_bytes(), disk->size_bytes()});
    total_bytes += disk->size_bytes();
  }
  const std::unique_ptr<SnapshotWriter> writer = TRY(store.Begin(parent, std::move(spaces)));
  std::vector<uint8_t> bytes(kDiskBlocksRead * FileSpace::kBlockBytes);
  uint64_t done_bytes = 0;
  for (uint32_t number = 0; number < disks.size(); ++number) {
    const FileSpace& disk = *disks[number];
    for (uint64_t first = 0; first < disk.block_count(); first += kDiskBlocksRead) {
      TRY(observer.CheckCancelled());
      observer.OnProgress(CapturePhase::kWriting, done_bytes, total_bytes);
      const uint64_t count = std::min(kDiskBlocksRead, disk.block_count() - first);
      const std::span<uint8_t> part(bytes.data(), count * disk.block_bytes());
      TRY(disk.Read(BlockIndex(first), part));
      for (uint64_t i = 0; i < count; ++i) {
        TRY(writer->Add(number, BlockIndex(first + i),
                        part.subspan(i * disk.block_bytes(), disk.block_bytes())));
      }
      done_bytes += part.size();
    }
  }
  observer.OnProgress(CapturePhase::kCommitting, 0, 0);
  return writer->Commit(draft, {});
}

}  // namespace pacsvisor
