#include "vmm/store/snapshot_arrival.h"

#include <set>

namespace pacsvisor {

Status SnapshotArrival::KeepPacks(const ChunkPacker& packer) {
  TRY(files_.SyncDirectory("packs"));
  const uint32_t floor = TRY(core_.ReadFloor());
  return packer.has_packs() && packer.last_pack() > floor ? core_.WriteFloor(packer.last_pack())
                                                          : Status();
}

Status SnapshotArrival::Commit(ChunkPacker& packer, const Root& root,
                               const std::vector<Hold>& holds) {
  TRY(packer.Seal());
  TRY(KeepPacks(packer));
  TRY(MoveObjects());
  TRY(WriteHolds(holds));
  if (root.key.has_value()) {
    TRY(core_.WriteSnapshotKey(root.id, *root.key));
  }
  const std::string path = SnapshotPath(root.id);
  const Status written = WriteWholeFile(files_, path, root.bytes);
  const Status durable = written.ok() ? files_.SyncDirectory("snapshots") : written;
  if (!durable.ok()) {
    (void)files_.Remove(path).ok();  // nobody may find it after an error was reported
  }
  return durable;
}

Status SnapshotArrival::MoveObjects() {
  std::set<std::string> directories;
  for (const auto& [name, from] : objects_) {
    const std::string path = ObjectPath(name);
    const std::string directory = path.substr(0, path.rfind('/'));
    TRY(files_.CreateDirectory(directory));
    directories.insert(directory);
    TRY(files_.Rename(from, path));
  }
  for (const std::string& directory : directories) {
    TRY(files_.SyncDirectory(directory));
  }
  return files_.SyncDirectory("objects");
}

Status SnapshotArrival::WriteHolds(const std::vector<Hold>& holds) {
  if (holds.empty()) {
    return {};
  }
  TRY(files_.CreateDirectory("holds"));
  TRY(files_.SyncDirectory("."));
  for (const Hold& hold : holds) {
    TRY(WriteWholeFile(files_, HoldPath(hold.snapshot, hold.word), EncodeHold(hold)));
  }
  return files_.SyncDirectory("holds");
}

}  // namespace pacsvisor
