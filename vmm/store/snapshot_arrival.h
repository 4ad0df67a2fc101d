// A snapshot of another store on its way into this one: its objects are under tmp/ until all that
// it stands on is there (FORMAT.md, 8 and 13). The owner has the store's lock. Threads: one at a
// time.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/store/chunk_packer.h"
#include "vmm/store/hold.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {

class SnapshotArrival {
 public:
  explicit SnapshotArrival(StoreCore& core) : core_(core), files_(core.files()) {}

  static constexpr char kStatePath[] = "tmp/state";
  static std::string TablePath(size_t index) { return fmt::format("tmp/table-{}", index); }

  // A durable file under tmp/ is the object called `name`.
  void Add(const Hash& name, const std::string& path) { objects_[name] = path; }

  // Packs that are sealed stay in the store, whatever comes next.
  Status KeepPacks(const ChunkPacker& packer);

  // Packs, floor, objects, holds, root: each durable before what stands on it.
  struct Root {
    SnapshotId id;
    std::span<const uint8_t> bytes;  // of its file
    std::optional<SealKey> key;      // of an encrypted store's
  };
  Status Commit(ChunkPacker& packer, const Root& root, const std::vector<Hold>& holds);
  // Durable when it returns.
  Status WriteHolds(const std::vector<Hold>& holds);

 private:
  Status MoveObjects();

  StoreCore& core_;
  StoreFiles& files_;
  std::map<Hash, std::string> objects_;
};

}  // namespace pacsvisor
