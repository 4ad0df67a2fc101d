#include "vmm/machine/snapshot_blocks.h"

#include <optional>

namespace pacsvisor {
namespace {

constexpr std::string_view kOfSnapshot = " of snapshot ";
constexpr std::string_view kInStore = " in the store ";

}  // namespace

// The path comes last: it may hold anything.
std::string BlockOrigin::Name() const {
  return fmt::format("{}{}{}{}{}", space, kOfSnapshot, snapshot.Hex(), kInStore, store);
}

Result<BlockOrigin> BlockOrigin::Parse(std::string_view name) {
  const size_t id_at = name.find(kOfSnapshot);
  const size_t store_at = id_at == name.npos ? name.npos : name.find(kInStore, id_at);
  std::optional<SnapshotId> id;
  if (store_at != name.npos) {
    const size_t digits_at = id_at + kOfSnapshot.size();
    id = SnapshotId::FromHex(name.substr(digits_at, store_at - digits_at));
  }
  BlockOrigin origin;
  if (id.has_value()) {
    origin = {.store = std::string(name.substr(store_at + kInStore.size())),
              .snapshot = *id,
              .space = std::string(name.substr(0, id_at))};
  }
  if (origin.store.empty() || origin.space.empty()) {
    return Error::Make(ErrorCode::kCorrupt,
                       "a disk is fetched from '{}', which is no disk of a snapshot in a store; "
                       "was it restored by another pacsvisor?",
                       name);
  }
  return origin;
}

Result<std::shared_ptr<SnapshotBlocks>> SnapshotBlocks::Create(
    std::shared_ptr<SnapshotReader> snapshot, const BlockOrigin& origin, uint64_t disk_bytes) {
  const SnapshotInfo& info = snapshot->info();
  CHECK(info.id == origin.snapshot, "snapshot {} for {}", info.id.Short(), origin.Name());
  for (uint32_t i = 0; i < info.spaces.size(); ++i) {
    const StoredSpace& space = info.spaces[i];
    if (space.name != origin.space) {
      continue;
    }
    if (space.size_bytes != disk_bytes || space.block_bytes != 4096) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "{} has {} bytes in blocks of {}, the disk that is fetched from it {}",
                         origin.Name(), space.size_bytes, space.block_bytes, disk_bytes);
    }
    return std::shared_ptr<SnapshotBlocks>(
        new SnapshotBlocks(std::move(snapshot), origin.Name(), i));
  }
  return Error::Make(ErrorCode::kInvalidArgument, "there is no {}", origin.Name());
}

}  // namespace pacsvisor
