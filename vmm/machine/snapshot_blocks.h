// A disk of a snapshot in a store, block by block: what a disk that is restored lazily fetches
// from, and the name by which its record finds that again after a restart.
//
// The snapshot must stay for as long as a block of it may be needed, whoever runs the disk or
// nobody: a hold in its store says so (Store::AddFetchHold), whose word is in the name. It is made
// before the record, and released (Release) before the record goes, so that it is never lost sight
// of. Threads: any, several at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "vmm/base/thread_annotations.h"
#include "vmm/disk/block_source.h"
#include "vmm/disk/layer_directory.h"
#include "vmm/store/store.h"

namespace pacsvisor {

struct BlockOrigin {
  std::string store;  // its path
  std::string key;    // path of its key file; empty: it is not encrypted
  SnapshotId snapshot;
  std::string space;  // "disk0"
  std::string hold;   // the word of the hold that keeps the snapshot; empty: none does

  // "disk0 of snapshot HEX (hold fetch12) in the store "/srv/store" with the key "/etc/key""
  std::string Name() const;
  // kCorrupt: no such name.
  static Result<BlockOrigin> Parse(std::string_view name);
  friend bool operator==(const BlockOrigin&, const BlockOrigin&) = default;
};

class SnapshotBlocks : public BlockSource {
 public:
  // `snapshot` is that of `origin`, in `store`. kInvalidArgument: it has no such disk, or of
  // another size than `disk_bytes`.
  static Result<std::shared_ptr<SnapshotBlocks>> Create(std::shared_ptr<Store> store,
                                                        std::shared_ptr<SnapshotReader> snapshot,
                                                        const BlockOrigin& origin,
                                                        uint64_t disk_bytes);

  std::string_view name() const override { return name_; }
  Status Fetch(BlockIndex first, std::span<uint8_t> bytes) override;
  Result<uint64_t> ZeroRun(BlockIndex first) override;
  bool MayForget() const override;

  // No block is needed any more, durably. Releases the hold and lets go of the snapshot and the
  // store; there is nothing to fetch any more. Waits for the store's lock; on failure all is as it
  // was. Again: nothing.
  Status Release();

 private:
  SnapshotBlocks(std::shared_ptr<Store> store, std::shared_ptr<SnapshotReader> snapshot,
                 const BlockOrigin& origin, uint32_t space)
      : origin_(origin),
        name_(origin.Name()),
        space_(space),
        store_(std::move(store)),
        snapshot_(std::move(snapshot)) {}
  Result<std::shared_ptr<SnapshotReader>> Reader() const;

  const BlockOrigin origin_;
  const std::string name_;
  const uint32_t space_;  // of the snapshot
  mutable Mutex mutex_;
  std::shared_ptr<Store> store_ GUARDED_BY(mutex_);              // null: released
  std::shared_ptr<SnapshotReader> snapshot_ GUARDED_BY(mutex_);  // likewise
};

// What the blocks of the disk `image` are still fetched from, by its record; null: nothing. The
// snapshot is looked for in `own` first, which may be null: a store that was moved is found there.
Result<std::shared_ptr<SnapshotBlocks>> OpenBlockSource(const std::string& image,
                                                        const std::shared_ptr<Store>& own);

struct NewFetchedDisk {
  int fd = -1;  // a new, empty file
  uint64_t size_bytes = 0;
  std::string image;    // its path for now
  std::string path;     // that it is going to have, for whoever reads of the hold
  std::string machine;  // whose it is
};

// What was made for it.
struct BegunDisk {
  SnapshotId snapshot;
  std::string hold;
  std::shared_ptr<LayerDirectory> layers;
};

// Makes of that file the disk that `origin` says: without its hold, which is made here. From now on
// the disk is whole, and depends on the store. On failure it is an empty one, and nothing is held.
Result<BegunDisk> BeginFromSnapshot(Store& store, BlockOrigin origin, const NewFetchedDisk& disk);
// Nobody has run it, nor is anybody going to: the file is an empty one again, nothing is held. What
// cannot be done is logged. Looks up no path: may be called after a confinement.
void GiveUpBegunDisk(Store& store, const BegunDisk& disk);

// Of what BeginFromSnapshot has made: the path that it said. None: it is not told, or the hold is
// none of these.
std::optional<std::string> DiskPathOf(const Hold& hold);

}  // namespace pacsvisor
