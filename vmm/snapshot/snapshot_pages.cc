#include "vmm/snapshot/snapshot_pages.h"

#include "vmm/base/align.h"

namespace pacsvisor {

Result<std::shared_ptr<SnapshotPages>> SnapshotPages::Create(
    std::shared_ptr<SnapshotReader> snapshot, const Space& memory) {
  const SnapshotInfo& info = snapshot->info();
  const uint64_t size_bytes = memory.block_count() * memory.block_bytes();
  for (uint32_t i = 0; i < info.spaces.size(); ++i) {
    if (info.spaces[i].name != memory.name()) {
      continue;
    }
    if (info.spaces[i].size_bytes != size_bytes ||
        info.spaces[i].block_bytes != memory.block_bytes()) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "snapshot {} has {} MiB of memory, the machine {}: only a cold start can "
                         "change that (--cold)",
                         info.id.Short(), info.spaces[i].size_bytes / kMiB, size_bytes / kMiB);
    }
    return std::shared_ptr<SnapshotPages>(new SnapshotPages(std::move(snapshot), i));
  }
  return Error::Make(ErrorCode::kInvalidArgument,
                     "snapshot {} holds disks only, of a machine that did not run: restore it with "
                     "--cold",
                     info.id.Short());
}

uint64_t SnapshotPages::page_count() const {
  return snapshot_->info().spaces[space_].block_count();
}

Status SnapshotPages::Fetch(BlockIndex first, std::span<uint8_t> bytes) {
  return snapshot_->Read(space_, first, bytes);
}

Result<uint64_t> SnapshotPages::ZeroRun(BlockIndex first) {
  return snapshot_->ZeroRun(space_, first);
}

}  // namespace pacsvisor
