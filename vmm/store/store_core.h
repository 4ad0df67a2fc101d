// What a store's writers and readers share: its files, what is cached of them, and how a chunk is
// found. Threads: any.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/chunk_index.h"
#include "vmm/store/chunk_pipeline.h"
#include "vmm/store/pack_set.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_files.h"
#include "vmm/store/store_format.h"
#include "vmm/store/store_header.h"

namespace pacsvisor {

// Choices of the writer that the format leaves free. Tests make them small.
struct StoreTuning {
  uint64_t pack_bytes = 256 * kMiB;     // a pack is closed when it passes this
  size_t pending_entries = 512 * kKiB;  // entries in memory before they go to a file
  size_t most_tables = 8;               // of a snapshot
  size_t verified_chunks = 4 * kMiB;    // references in memory while verifying: 64 bytes each
  // Of an encrypted store: the key file's, which unwraps its secret.
  std::shared_ptr<const StoreKey> key;
  std::string owner;                    // who locks the store, for those who find it locked
  uint32_t lock_wait_ms = 0;            // for whoever has the lock
  uint32_t prune_pause_ms = 0;          // in which others may take the lock from a prune
  unsigned compact_below_percent = 50;  // a pack with less that is needed is rewritten

  // Verified between two notes of how far it is.
  uint64_t checkpoint_bytes = 256 * kMiB;
  ChunkPipeline::Options pipeline = {.workers = 2};  // of each snapshot's writer
};

class StoreCore {
 public:
  static Result<std::shared_ptr<StoreCore>> Open(std::shared_ptr<StoreFiles> files,
                                                 const StoreTuning& tuning);

  StoreFiles& files() { return *files_; }
  PackSet& packs() { return packs_; }
  const StoreHeader& header() const { return header_; }
  const StoreTuning& tuning() const { return tuning_; }
  const ChunkCodec& codec() const { return codec_; }
  const StoreSecret* secret() const { return codec_.secret(); }  // null: not encrypted

  Result<std::vector<SnapshotId>> ListIds();            // by id
  Result<SnapshotRoot> ReadRoot(const SnapshotId& id);  // checked against its id

  // The writer's lock (FORMAT.md, 9); waits for it as long as the tuning says. `doing` is told to
  // those whom it keeps out.
  Result<std::unique_ptr<StoreFiles::Lock>> LockForWriting(std::string_view doing = {});

  Result<uint32_t> ReadFloor();
  // Durable when it returns. The caller holds the store's lock.
  Status WriteFloor(uint32_t number);

  // The numbers of the packs that are there and that roots or floor vouch for: such a number is
  // never given to another pack.
  Result<std::set<uint32_t>> CommittedPacks();

  // Each object that is there, by any name that one may have.
  Status ForEachObject(
      const std::function<Status(const std::string& path, const Hash& name)>& on_object);

  // Block contents by name: from `place`, or wherever the packs have it. kCorrupt names the file.
  Status ReadChunk(const ChunkId& chunk, const ChunkPlace& place, std::span<uint8_t> block);

  // Of an encrypted store: what the file keys/ID holds; written, it is durable. Before the root.
  Result<SealKey> ReadSnapshotKey(const SnapshotId& id);
  Status WriteSnapshotKey(const SnapshotId& id, const SealKey& key);
  // Overwrites and removes keys whose snapshots are gone, durably. After the roots. The caller
  // holds the store's lock.
  Status DestroyKeysOfNobody();

  // Brings the index of all packs up to date.
  Status RefreshIndex() EXCLUDES(index_mutex_);
  Result<std::optional<ChunkPlace>> FindChunk(const Hash& name) EXCLUDES(index_mutex_);
  // Gives back the index's memory; it is read again when it is needed.
  void ForgetIndex() EXCLUDES(index_mutex_);

  // Takes away what writers that died have left (FORMAT.md, 8), and says from which number on packs
  // may be written. The caller holds the store's lock.
  Result<uint32_t> CleanUp();

 private:
  Result<std::vector<std::string>> ListUnfinished();
  StoreCore(std::shared_ptr<StoreFiles> files, const StoreTuning& tuning, const StoreHeader& header,
            std::shared_ptr<const StoreSecret> secret)
      : files_(std::move(files)),
        tuning_(tuning),
        header_(header),
        codec_(std::move(secret)),
        packs_(*files_, codec_.most_stored_bytes()) {}
  Result<SnapshotRoot> DecodeRootFile(const SnapshotId& id, std::span<const uint8_t> bytes);

  // What a root keeps from being removed.
  struct Links {
    uint32_t last_pack = 0;
    std::vector<Hash> objects;
  };
  struct Kept {
    bool whole = true;  // every root could be read
    uint32_t last_pack = 0;
    std::set<Hash> objects;
  };
  Result<Links> LinksOfRoot(const SnapshotId& id);
  Result<Kept> KeptByRoots();
  Status RemoveObjects(const std::set<Hash>& kept);
  Status RefreshIndexLocked() REQUIRES(index_mutex_);
  // One try of RefreshIndexLocked: false when packs went away meanwhile.
  Result<bool> TryRefreshIndex() REQUIRES(index_mutex_);

  const std::shared_ptr<StoreFiles> files_;
  const StoreTuning tuning_;
  const StoreHeader header_;
  const ChunkCodec codec_;
  PackSet packs_;

  Mutex links_mutex_;
  std::map<SnapshotId, Links> links_ GUARDED_BY(links_mutex_);  // roots never change

  Mutex index_mutex_;
  ChunkIndex index_ GUARDED_BY(index_mutex_){packs_};
  std::set<uint32_t> unreadable_packs_ GUARDED_BY(index_mutex_);
};

// The whole of a file of at most `limit_bytes`.
Result<std::vector<uint8_t>> ReadWholeFile(StoreFiles& files, const std::string& path,
                                           uint64_t limit_bytes);

// Writes a file under tmp/ and gives it its name when it is durable. The name is durable after a
// sync of its directory.
Status WriteWholeFile(StoreFiles& files, const std::string& path, std::span<const uint8_t> bytes);

}  // namespace pacsvisor
