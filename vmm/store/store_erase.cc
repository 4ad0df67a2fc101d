#include "vmm/store/store_erase.h"

#include <set>

#include "vmm/base/clock.h"
#include "vmm/store/lease.h"
#include "vmm/store/living_chunks.h"
#include "vmm/store/store_holds.h"

namespace pacsvisor {
namespace {

Error NotEncrypted(StoreCore& core, std::string_view what) {
  return Error::Make(ErrorCode::kUnsupported, "the store in {} is not encrypted: {}",
                     core.files().name(), what);
}

class Eraser {
 public:
  Eraser(StoreCore& core, const SnapshotId& id, const EraseRequest& request)
      : core_(core), id_(id), request_(request) {}

  Result<EraseReport> Run() {
    const std::unique_ptr<StoreFiles::Lock> lock =
        TRY(core_.LockForWriting(", which erases a snapshot"));
    TRY(core_.CleanUp());
    TRY(ReadRoots());
    TRY(CheckFree());
    TRY(Measure());
    if (!request_.dry_run) {
      TRY(Destroy());
    }
    return std::move(report_);
  }

 private:
  // All of them: what one that cannot be read refers to is not known.
  Status ReadRoots() {
    erased_ = TRY(core_.ReadRoot(id_));
    report_.info = erased_.info;
    for (const SnapshotId& other : TRY(core_.ListIds())) {
      if (other == id_) {
        continue;
      }
      Result<SnapshotRoot> root = core_.ReadRoot(other);
      if (!root.ok()) {
        return std::move(root).error().WithContext("nothing is erased");
      }
      others_.push_back(std::move(root).value());
    }
    return {};
  }

  Status CheckFree() {
    std::vector<SnapshotRoot> all = others_;
    all.push_back(erased_);
    const std::vector<Hold> holds = TRY(ReadHolds(core_.files()));
    const uint64_t now_ns = request_.now_ns != 0 ? request_.now_ns : RealtimeNs();
    const uint64_t greatest_ns = GreatestTime(all, holds);
    for (const Hold& hold : holds) {
      if (hold.snapshot == id_ && !hold.IsOver(now_ns, greatest_ns)) {
        return Error::Make(ErrorCode::kBusy,
                           "snapshot {} is held ({}), and is not erased before the hold ends or is "
                           "released",
                           id_.Short(), hold.damaged ? "its file is damaged" : hold.reason);
      }
    }
    for (const LiveLease& lease : TRY(LiveLeases(core_.files()))) {
      if (!lease.id.has_value() || *lease.id == id_) {
        return Error::Make(ErrorCode::kBusy, "snapshot {} is in use by {}", id_.Short(),
                           lease.owner);
      }
    }
    return {};
  }

  static std::pair<uint64_t, uint64_t> Living(const LivingChunks& living) {
    uint64_t chunks = 0;
    uint64_t bytes = 0;
    for (const auto& [number, pack] : living.packs()) {
      chunks += pack.living_chunks;
      bytes += pack.living_bytes;
    }
    return {chunks, bytes};
  }

  // What the others do not refer to.
  Status Measure() {
    LivingChunks living(core_);
    TRY(living.LearnPacks());
    std::set<Hash> objects;
    for (const SnapshotRoot& root : others_) {
      TRY(living.Mark(root));
      objects.insert(root.state.name);
      for (const TableRef& table : root.tables) {
        objects.insert(table.name);
      }
    }
    const auto [chunks, bytes] = Living(living);
    TRY(living.Mark(erased_));
    const auto [all_chunks, all_bytes] = Living(living);
    report_.chunks = all_chunks - chunks;
    report_.chunk_bytes = all_bytes - bytes;
    if (erased_.state.plain_bytes > 0 && !objects.contains(erased_.state.name)) {
      report_.other_bytes += erased_.state.file_bytes;
    }
    for (const TableRef& table : erased_.tables) {
      report_.other_bytes += objects.insert(table.name).second ? table.file_bytes : 0;
    }
    const std::unique_ptr<StoreFile> root = TRY(core_.files().OpenForRead(SnapshotPath(id_)));
    report_.other_bytes += TRY(root->SizeBytes());
    return {};
  }

  // Root, then key: a key without a root is taken away by whoever writes next.
  Status Destroy() {
    StoreFiles& files = core_.files();
    uint32_t last_pack = erased_.last_pack;
    for (const SnapshotRoot& root : others_) {
      last_pack = std::max(last_pack, root.last_pack);
    }
    // The number of a pack is not given again, whatever root goes.
    const uint32_t floor = TRY(core_.ReadFloor());
    if (last_pack > floor) {
      TRY(core_.WriteFloor(last_pack));
    }
    TRY(files.Remove(SnapshotPath(id_)));
    TRY(files.SyncDirectory("snapshots"));
    return core_.DestroyKeysOfNobody();
  }

  StoreCore& core_;
  const SnapshotId id_;
  const EraseRequest& request_;
  SnapshotRoot erased_;
  std::vector<SnapshotRoot> others_;
  EraseReport report_;
};

}  // namespace

Result<EraseReport> EraseSnapshot(StoreCore& core, const SnapshotId& id,
                                  const EraseRequest& request) {
  if (core.secret() == nullptr) {
    return NotEncrypted(core, "there is no key to destroy; pacsvisor prune removes snapshots");
  }
  return Eraser(core, id, request).Run();
}

Status ChangeStoreKey(StoreCore& core, const StoreKey& key) {
  if (core.secret() == nullptr) {
    return NotEncrypted(core, "it has no key to change");
  }
  const std::unique_ptr<StoreFiles::Lock> lock =
      TRY(core.LockForWriting(", which changes the store's key"));
  TRY(core.CleanUp());
  TRY(WriteWholeFile(core.files(), std::string(kStoreKeyPath), core.secret()->Wrap(key)));
  return core.files().SyncDirectory("keys");
}

}  // namespace pacsvisor
