// A store: a directory of snapshots of any number of machines, deduplicated, checksummed end to end
// (FORMAT.md). Any snapshot reads complete in itself; writing one costs in proportion to what
// changed since its parent.
//
// Threads: Store, any; a SnapshotWriter, one at a time; a SnapshotReader, any, several at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/snapshot_info.h"
#include "vmm/store/snapshot_reader.h"
#include "vmm/store/snapshot_writer.h"
#include "vmm/store/store_files.h"

namespace pacsvisor {

struct VerifyProgress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct VerifyReport {
  struct Damage {
    std::string file;                   // in the store
    std::string what;                   // "chunk 17 at byte 4096: its SHA-256 is …"
    std::vector<SnapshotId> snapshots;  // that need it
  };
  uint64_t snapshots = 0;
  uint64_t bytes = 0;
  std::vector<Damage> damages;
};

class Store {
 public:
  // Makes an empty store in an empty directory.
  static Status Create(StoreFiles& files);
  // kNotFound: no store (what to do is in the message); kUnsupported: of a newer format. `owner`
  // ("machine pacs") says beside the process id who writes, to those whom the lock keeps out.
  static Result<std::unique_ptr<Store>> Open(std::shared_ptr<StoreFiles> files,
                                             std::string_view owner = {});
  virtual ~Store() = default;

  // Committed snapshots, oldest first. A root that fails its check is an error that names it.
  virtual Result<std::vector<SnapshotInfo>> List() = 0;
  // The snapshot whose id begins with `prefix` (4 digits at least): kNotFound, or kInvalidArgument
  // that names those it may mean.
  virtual Result<SnapshotId> Resolve(std::string_view prefix) = 0;
  virtual Result<std::unique_ptr<SnapshotReader>> OpenSnapshot(const SnapshotId& id) = 0;

  // Takes the writer's lock for as long as the writer lives: kBusy names who holds it. What a dead
  // writer left half-done is taken away. `spaces` are those of the new snapshot; with a parent,
  // those it has in common by name, block size and size need only what has changed since.
  virtual Result<std::unique_ptr<SnapshotWriter>> Begin(const std::optional<SnapshotId>& parent,
                                                        std::vector<StoredSpace> spaces) = 0;

  // Gives back the memory of what writers know of the store's chunks (about 25 bytes each). The
  // next writer reads it again.
  virtual void ForgetIndex() = 0;

  // Reads and checks everything that the given snapshots (none given: all, and everything else in
  // the store) stand on. Damage is in the report; an error means that it could not be done.
  virtual Result<VerifyReport> Verify(
      const std::vector<SnapshotId>& ids,
      const std::function<void(const VerifyProgress&)>& progress) = 0;
};

}  // namespace pacsvisor
