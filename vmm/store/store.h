// A store: a directory of snapshots of any number of machines, deduplicated, checksummed end to end
// (FORMAT.md). Any snapshot reads complete in itself; writing one costs in proportion to what
// changed since its parent.
//
// Threads: Store, any; a SnapshotWriter, one at a time; a SnapshotReader, any, several at a time.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/hold.h"
#include "vmm/store/keep_rules.h"
#include "vmm/store/snapshot_info.h"
#include "vmm/store/snapshot_reader.h"
#include "vmm/store/snapshot_writer.h"
#include "vmm/store/store_files.h"
#include "vmm/store/store_secret.h"

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
  struct Sample {
    uint64_t seed = 0;          // chooses the same ones of the same store again
    uint64_t chunks = 0;        // that were read and hold
    uint64_t chunks_total = 0;  // in the store
  };
  uint64_t snapshots = 0;
  std::vector<SnapshotId> ids;  // of these
  uint64_t bytes = 0;           // read
  std::vector<Damage> damages;
  uint64_t begun_ns = 0;  // CLOCK_REALTIME; of one that was gone on with, its first beginning
  uint64_t proven_before_bytes = 0;  // of packs, by the one that this went on with
  std::optional<Sample> sample;
  std::string not_recorded;  // why the store does not know of it; empty: it does, or need not
};

struct VerifyRequest {
  struct Sample {
    double share = 0;     // of the chunks, at most 1; or, when 0,
    uint64_t chunks = 0;  // so many
    uint64_t seed = 0;
  };
  std::vector<SnapshotId> ids;   // none: all, and everything else in the store
  std::optional<Sample> sample;  // of all
  // Not from where one of all that was interrupted had come to, but from the beginning.
  bool restart = false;
  std::function<bool()> stopped;  // asked now and then; true ends it with kCancelled
};

struct PruneRequest {
  KeepRules keep;       // no rule: no snapshot is removed, only what none needs
  std::string machine;  // whose snapshots alone may be removed; empty: every machine's, each by its
                        // own count
  std::string with_text;  // not empty: only snapshots that carry this text are counted and removed
  bool dry_run = false;
  std::function<bool()> cancelled;  // once true, the prune ends soon with kCancelled; may be empty
  uint64_t now_ns = 0;              // CLOCK_REALTIME, against which holds are checked; 0: asked for
};

struct PruneReport {
  struct Spared {  // by a hold or a lease, although no rule keeps it
    SnapshotId id;
    std::string why;
  };
  std::vector<SnapshotInfo> removed;  // oldest first; of a dry run, those that would be
  std::vector<Spared> spared;
  uint64_t kept = 0;                    // snapshots that are left
  uint64_t freed_bytes = 0;             // less what was written for it
  uint64_t moved_bytes = 0;             // of packs that were mostly dead
  std::vector<std::string> unfinished;  // what is left for another time, in words
};

// What has become of a space from one snapshot to another: of the blocks that both have, and of
// those that only one has (the space, or its end).
struct SpaceDiff {
  std::string name;
  std::optional<StoredSpace> before;
  std::optional<StoredSpace> after;
  uint64_t changed_blocks = 0;  // of other contents
  uint64_t zeroed_blocks = 0;   // of these, that are nothing but zeroes now
  uint64_t runs = 0;            // of changed blocks that follow each other
  uint64_t removed_blocks = 0;  // not zero, and only the first one has them
  uint64_t added_blocks = 0;    // not zero, and only the second one
};

struct SnapshotDiff {
  SnapshotInfo before;
  SnapshotInfo after;
  bool same_state = false;        // of devices and vCPUs
  std::vector<SpaceDiff> spaces;  // the first one's in its order, then what it lacks
};

// Takes bytes of a stream, in order.
using ByteSink = std::function<Status(std::span<const uint8_t>)>;
// Fills some of the bytes, and says how many; 0 at the end.
using ByteSource = std::function<Result<size_t>(std::span<uint8_t>)>;

inline constexpr size_t kExportBeginningBytes = 512;

struct EraseRequest {
  bool dry_run = false;
  uint64_t now_ns = 0;  // as in PruneRequest
};

// What nobody can read any more, since no other snapshot refers to it.
struct EraseReport {
  SnapshotInfo info;
  uint64_t chunks = 0;
  uint64_t chunk_bytes = 0;  // as stored
  uint64_t other_bytes = 0;  // of root, tables and state
};

struct CopyReport {
  SnapshotInfo info;
  bool was_there = false;     // the target has it: no more than holds that it lacked were added
  uint64_t chunks = 0;        // of tables that the target lacked
  uint64_t known_chunks = 0;  // of these, that it had
  uint64_t sent_bytes = 0;    // tables, state and the other chunks, as stored
  uint64_t holds = 0;         // that it lacked
};

struct CopyWatch {
  std::function<void(const VerifyProgress&)> progress;
  std::function<bool()> stopped;  // asked now and then; true ends it with kCancelled
};

class StoreCore;

struct ExportReport {
  SnapshotInfo info;
  uint64_t bytes = 0;
  uint64_t chunks = 0;
};

struct ImportReport {
  SnapshotInfo info;
  bool was_there = false;  // the store has it: no more than its root was looked at
  uint64_t bytes = 0;
  uint64_t chunks = 0;
  uint64_t known_chunks = 0;  // of these, that the store had
  uint64_t stored_bytes = 0;
};

class Store {
 public:
  // Makes an empty store in an empty directory; with a key, an encrypted one. `secret`: the one to
  // use, or null for a new one.
  static Status Create(StoreFiles& files, const StoreKey* key = nullptr,
                       std::shared_ptr<const StoreSecret> secret = nullptr);
  // kNotFound: no store (what to do is in the message); kUnsupported: of a newer format. `owner`
  // ("machine pacs") says beside the process id who writes, to those whom the lock keeps out. `key`
  // is that of an encrypted store: kPermissionDenied when there is none or another is needed,
  // kInvalidArgument when the store is not encrypted.
  static Result<std::unique_ptr<Store>> Open(std::shared_ptr<StoreFiles> files,
                                             std::string_view owner = {},
                                             std::shared_ptr<const StoreKey> key = nullptr);
  virtual ~Store() = default;

  // Committed snapshots, oldest first. A root that fails its check is an error that names it.
  virtual Result<std::vector<SnapshotInfo>> List() = 0;
  // The snapshot whose id begins with `prefix` (4 digits at least): kNotFound, or kInvalidArgument
  // that names those it may mean.
  virtual Result<SnapshotId> Resolve(std::string_view prefix) = 0;
  virtual Result<std::unique_ptr<SnapshotReader>> OpenSnapshot(const SnapshotId& id) = 0;

  // What the second snapshot has that the first has not, and the other way round; of any two. Reads
  // their tables alone, and what both stand on not even of these.
  virtual Result<SnapshotDiff> Diff(
      const SnapshotId& first, const SnapshotId& second,
      const std::function<void(const VerifyProgress&)>& progress = nullptr) = 0;

  // Takes the writer's lock for as long as the writer lives: kBusy names who holds it. What a dead
  // writer left half-done is taken away. `spaces` are those of the new snapshot; with a parent,
  // those it has in common by name, block size and size need only what has changed since.
  virtual Result<std::unique_ptr<SnapshotWriter>> Begin(const std::optional<SnapshotId>& parent,
                                                        std::vector<StoredSpace> spaces) = 0;

  // Removes the snapshots that no rule, hold or reader keeps, and whatever no snapshot needs.
  // Others may read and write meanwhile: a writer has it wait, as long as the store's tuning says
  // (kBusy names who), before anything is removed and between one pack and the next. Interrupted
  // anywhere nothing is lost, and the next one goes on. kCorrupt: what a snapshot needs cannot be
  // read, so that nothing can be removed safely.
  virtual Result<PruneReport> Prune(
      const PruneRequest& request,
      const std::function<void(const VerifyProgress&)>& progress = nullptr) = 0;

  // The snapshot with its holds as one stream, from front to back; every byte is proven on the way.
  virtual Result<ExportReport> Export(
      const SnapshotId& id, const ByteSink& sink,
      const std::function<void(const VerifyProgress&)>& progress = nullptr) = 0;
  // The snapshot of such a stream, under the id that it had. What the store has already is not
  // written again. kCorrupt: the stream is damaged or cut short, and nothing is in the store. The
  // progress has no total.
  // An encrypted export goes into a store with the same secret alone: kPermissionDenied.
  virtual Result<ImportReport> Import(
      const ByteSource& source,
      const std::function<void(const VerifyProgress&)>& progress = nullptr) = 0;

  // The snapshot with its holds into another store of the same kind, under the id that it has. Only
  // what that lacks is read and written, each block proven on the way. Interrupted anywhere, what
  // has arrived stays there for the next try, until a prune finds that no snapshot needs it.
  virtual Result<CopyReport> CopyTo(Store& target, const SnapshotId& id,
                                    const CopyWatch& watch = {}) = 0;
  // The other side of that.
  virtual Result<CopyReport> CopyFrom(StoreCore& source, const SnapshotId& id,
                                      const CopyWatch& watch) = 0;

  // No prune removes the snapshot before `until_ns` (0: for ever) by CLOCK_REALTIME, nor while that
  // clock is behind a time that the store knows of. kInvalidArgument: that is over already, or no
  // reason is given. A hold is one more, never in place of another.
  virtual Result<Hold> AddHold(const SnapshotId& id, uint64_t until_ns,
                               std::string_view reason) = 0;
  // One for ever, for somebody who fetches what it holds, under a word of its own: of this store
  // alone, no copy or export takes it along.
  virtual Result<Hold> AddFetchHold(const SnapshotId& id, std::string_view reason) = 0;
  // The one called `word`, or all that the snapshot has but those of AddFetchHold; how many there
  // were.
  virtual Result<size_t> ReleaseHolds(const SnapshotId& id, std::string_view word = {}) = 0;
  virtual Result<std::vector<Hold>> Holds() = 0;
  // CLOCK_REALTIME, or the latest time that the store knows of if that is later: what a hold's end
  // is counted from.
  virtual Result<uint64_t> Now() = 0;

  // The secret of the store that an export came from, for a store that takes it: of its first
  // kExportBeginningBytes (or all). Null: it is not encrypted.
  static Result<std::shared_ptr<const StoreSecret>> SecretOfExport(
      std::span<const uint8_t> beginning, const StoreKey* key);

  // Of an encrypted store: destroys the snapshot's key, so that nobody can read what no other
  // snapshot refers to, whatever is left of it on disk. Its room is the next prune's to free.
  // kBusy: it is held, or in use.
  virtual Result<EraseReport> Erase(const SnapshotId& id, const EraseRequest& request) = 0;
  // From now on the store opens with this key and no other. Nothing is written again but a small
  // file; interrupted, it opens with the one or the other.
  virtual Status ChangeKey(const StoreKey& key) = 0;
  // Null: it is not encrypted. For a store that takes its snapshots.
  virtual std::shared_ptr<const StoreSecret> secret() const = 0;

  // Gives back the memory of what writers know of the store's chunks (about 25 bytes each). The
  // next writer reads it again.
  virtual void ForgetIndex() = 0;

  // Reads and checks everything that the given snapshots (none given: all, and everything else in
  // the store) stand on. Damage is in the report; an error means that it could not be done. Writes
  // nothing.
  virtual Result<VerifyReport> Verify(
      const std::vector<SnapshotId>& ids,
      const std::function<void(const VerifyProgress&)>& progress) = 0;
  // The same, or a sample of it; and where the store can be written it knows afterwards when each
  // snapshot was proven whole, and while it lasts which packs have been.
  virtual Result<VerifyReport> VerifyAndRecord(
      const VerifyRequest& request, const std::function<void(const VerifyProgress&)>& progress) = 0;
  // When what last proved a snapshot whole began, by CLOCK_REALTIME; of those that were.
  virtual Result<std::map<SnapshotId, uint64_t>> VerifiedTimes() = 0;
};

}  // namespace pacsvisor
