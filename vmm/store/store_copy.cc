#include "vmm/store/store_copy.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "vmm/base/log.h"
#include "vmm/store/append_buffer.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/chunk_packer.h"
#include "vmm/store/hold.h"
#include "vmm/store/lease.h"
#include "vmm/store/snapshot_arrival.h"
#include "vmm/store/table_walk.h"

namespace pacsvisor {
namespace {

constexpr size_t kCopyPartBytes = kMiB;
constexpr uint32_t kMostCopiedPacks = 1u << 31;  // as of an import

class Copier {
 public:
  Copier(StoreCore& source, StoreCore& target, const CopyWatch& watch)
      : source_(source), target_(target), files_(target.files()), watch_(watch), arrival_(target) {}

  Result<CopyReport> Run(const SnapshotId& id) {
    TRY(CheckSecrets());
    const std::unique_ptr<StoreFiles::Lock> lease =
        TRY(TakeLease(source_.files(), source_.tuning().owner, id));
    root_ = TRY(source_.ReadRoot(id));
    root_bytes_ =
        TRY(ReadWholeFile(source_.files(), SnapshotPath(id), SealedRootBytes(kMaxRootBytes)));
    if (source_.secret() != nullptr) {
      key_ = TRY(source_.ReadSnapshotKey(id));
    }
    report_.info = root_.info;
    if (root_.last_pack > kMostCopiedPacks) {
      return Error::Make(ErrorCode::kCorrupt, "{}: it tells of more packs than a store can have",
                         SnapshotPath(id));
    }
    const std::unique_ptr<StoreFiles::Lock> lock =
        TRY(target_.LockForWriting(", which copies a snapshot"));
    const uint32_t next_pack = TRY(target_.CleanUp());
    const std::vector<Hold> holds = TRY(HoldsToCopy());
    report_.holds = holds.size();
    if (target_.ReadRoot(id).ok()) {
      report_.was_there = true;
      TRY(arrival_.WriteHolds(holds));
      return std::move(report_);
    }
    ChunkPacker packer(target_, next_pack);
    const Status done = CopyAll(packer, holds);
    if (!done.ok()) {
      KeepWhatArrived(packer);
      return done.error();
    }
    (void)files_.Remove(std::string(kWritingPath)).ok();
    return std::move(report_);
  }

 private:
  struct NamedPlace {
    ChunkPlace place;
    ChunkId chunk;
    friend auto operator<=>(const NamedPlace&, const NamedPlace&) = default;
  };

  // What is copied keeps its names and keys.
  Status CheckSecrets() {
    const StoreSecret* const secret = source_.secret();
    if ((secret == nullptr) != (target_.secret() == nullptr)) {
      return Error::Make(
          ErrorCode::kUnsupported,
          "one of the stores is encrypted and the other is not: copy into a store of "
          "its own, or have it written anew (--rewrite)");
    }
    return secret == nullptr || secret->IsChecked(target_.header().key_check)
               ? Status()
               : Status(Error::Make(ErrorCode::kPermissionDenied,
                                    "the store in {} is encrypted with another secret: copy into "
                                    "an empty directory, whose store then has the same, or have it "
                                    "written anew (--rewrite)",
                                    files_.name()));
  }

  Status CopyAll(ChunkPacker& packer, const std::vector<Hold>& holds) {
    TRY(files_.CreateFile(std::string(kWritingPath)));
    const std::set<Hash> known = TRY(KnownObjects());
    if (root_.state.plain_bytes > 0 && !known.contains(root_.state.name)) {
      TRY(CopyState());
    }
    for (size_t i = 0; i < root_.tables.size(); ++i) {
      if (!known.contains(root_.tables[i].name)) {
        TRY(CopyTable(i));
      }
    }
    TRY(CountChunks());
    TRY(CopyChunks(packer));
    sealable_ = false;
    return arrival_.Commit(packer, {.id = root_.info.id, .bytes = root_bytes_, .key = key_}, holds);
  }

  // Chunks that the target need not be sent again; then its lock is free for others.
  void KeepWhatArrived(ChunkPacker& packer) {
    tables_.clear();
    Status kept;
    if (sealable_) {
      kept = packer.Seal();
      kept = kept.ok() ? arrival_.KeepPacks(packer) : kept;
    }
    packer.GiveUp();
    const Result<uint32_t> cleaned = target_.CleanUp();
    if (!kept.ok() || !cleaned.ok()) {
      Log(LogLevel::kDebug, "left for the next writer: {}",
          kept.ok() ? cleaned.error().message() : kept.error().message());
    }
  }

  Result<std::vector<Hold>> HoldsToCopy() {
    std::set<std::string> there;
    for (const Hold& hold : TRY(ReadHolds(files_))) {
      if (hold.snapshot == root_.info.id) {
        there.insert(hold.word);
      }
    }
    std::vector<Hold> holds = TRY(ReadHolds(source_.files()));
    std::erase_if(holds, [&](const Hold& hold) {
      return hold.snapshot != root_.info.id || !hold.IsCarried() || there.contains(hold.word);
    });
    return holds;
  }

  // Tables that the target's snapshots stand on are there with all of their chunks.
  Result<std::set<Hash>> KnownObjects() {
    std::set<Hash> known;
    for (const SnapshotId& id : TRY(target_.ListIds())) {
      const Result<SnapshotRoot> root = target_.ReadRoot(id);
      if (!root.ok()) {
        continue;  // it says nothing
      }
      for (const TableRef& table : root->tables) {
        if (HasObject(table.name, table.file_bytes)) {
          known.insert(table.name);
        }
      }
      if (root->state.plain_bytes > 0 && HasObject(root->state.name, root->state.file_bytes)) {
        known.insert(root->state.name);
      }
    }
    return known;
  }

  bool HasObject(const Hash& name, uint64_t file_bytes) {
    const Result<std::unique_ptr<StoreFile>> file = files_.OpenForRead(ObjectPath(name));
    const Result<uint64_t> size = file.ok() ? (*file)->SizeBytes() : Result<uint64_t>(file.error());
    return size.ok() && *size == file_bytes;
  }

  Status CopyState() {
    const std::string from = ObjectPath(root_.state.name);
    const std::vector<uint8_t> bytes =
        TRY(ReadWholeFile(source_.files(), from, root_.state.file_bytes));
    if (Sha256(bytes) != root_.state.name) {
      return Error::Make(ErrorCode::kCorrupt, "{}: its SHA-256 is not its name", from);
    }
    AppendBuffer out(TRY(files_.CreateFile(SnapshotArrival::kStatePath)));
    TRY(out.Append(bytes));
    TRY(out.Sync());
    arrival_.Add(root_.state.name, SnapshotArrival::kStatePath);
    report_.sent_bytes += bytes.size();
    return {};
  }

  // What has arrived is checked, page by page.
  Status CopyTable(size_t index) {
    const TableRef& ref = root_.tables[index];
    const std::string from = ObjectPath(ref.name);
    const std::string to = SnapshotArrival::TablePath(index);
    TRY(CopyFile(from, to, ref.file_bytes));
    Result<std::shared_ptr<Table>> table = Table::Open(files_, to, ref);
    if (!table.ok()) {
      return std::move(table).error().WithContext(from);
    }
    uint64_t page_bytes = (*table)->root_bytes() + kTableFooterBytes;
    Status good;
    WalkTable(
        **table,
        [&](const TablePage& page) {
          for (const PageLink& link : page.links) {
            page_bytes += link.bytes;
          }
        },
        [&](const Error& error) { good = good.ok() ? Status(error) : good; });
    if (!good.ok()) {
      Error error = good.error();
      return std::move(error).WithContext(from);
    }
    if (page_bytes != ref.file_bytes) {
      return Error::Make(ErrorCode::kCorrupt, "{}: its pages do not cover the file", from);
    }
    arrival_.Add(ref.name, to);
    tables_.push_back(std::move(table).value());
    return {};
  }

  Status CopyFile(const std::string& from, const std::string& to, uint64_t file_bytes) {
    const std::unique_ptr<StoreFile> file = TRY(source_.files().OpenForRead(from));
    AppendBuffer out(TRY(files_.CreateFile(to)));
    std::vector<uint8_t> part;
    for (uint64_t at = 0; at < file_bytes; at += part.size()) {
      TRY(CheckStopped());
      part.resize(std::min<uint64_t>(kCopyPartBytes, file_bytes - at));
      TRY(file->ReadAt(at, part));
      TRY(out.Append(part));
      report_.sent_bytes += part.size();
    }
    return out.Sync();
  }

  Status CountChunks() {
    return ForEachChunk(tables_, [this](const TableEntry& entry) {
      ++references_[entry.place.pack];
      done_.bytes_total += entry.place.length;
    });
  }

  // In the order of the source's packs, some packs at a time: what is known of their chunks has
  // room in memory.
  Status CopyChunks(ChunkPacker& packer) {
    for (auto first = references_.begin(); first != references_.end();) {
      auto last = first;
      size_t count = 0;
      while (last != references_.end() &&
             (count == 0 || count + last->second <= source_.tuning().verified_chunks)) {
        count += last->second;
        ++last;
      }
      TRY(CopyChunksOf(first->first, std::prev(last)->first, packer));
      first = last;
    }
    return {};
  }

  Status CopyChunksOf(uint32_t first_pack, uint32_t last_pack, ChunkPacker& packer) {
    std::vector<NamedPlace> chunks;
    TRY(ForEachChunk(tables_, [&](const TableEntry& entry) {
      if (entry.place.pack >= first_pack && entry.place.pack <= last_pack) {
        chunks.push_back({entry.place, entry.chunk});
      }
    }));
    std::sort(chunks.begin(), chunks.end());
    chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
    for (const NamedPlace& chunk : chunks) {
      TRY(CheckStopped());
      const std::optional<ChunkPlace> known = TRY(packer.Find(chunk.chunk.name));
      ++report_.chunks;
      if (known.has_value()) {
        ++report_.known_chunks;
      } else {
        TRY(CopyChunk(chunk, packer));
      }
      done_.bytes_done += chunk.place.length;
      if (watch_.progress) {
        watch_.progress(done_);
      }
    }
    return {};
  }

  // As it is stored, if that holds its name; otherwise wherever the source has it.
  Status CopyChunk(const NamedPlace& chunk, ChunkPacker& packer) {
    std::array<uint8_t, kMaxStoredChunkBytes> buffer;
    std::array<uint8_t, kStoreBlockBytes> block;
    const std::span<uint8_t> bytes = std::span(buffer).first(chunk.place.length);
    std::span<const uint8_t> stored = bytes;
    const bool there = source_.packs().Read(chunk.place, bytes).ok() &&
                       source_.codec().Decode(bytes, chunk.chunk, block);
    if (!there) {
      TRY(source_.ReadChunk(chunk.chunk, chunk.place, block));
      stored = source_.codec().Encode(chunk.chunk, compressor_.Compress(block), buffer);
    }
    const uint64_t sealed_bytes = packer.stored_bytes();
    sealable_ = false;
    TRY(packer.Append(chunk.chunk.name, stored));
    sealable_ = true;
    report_.sent_bytes += stored.size();
    return packer.stored_bytes() == sealed_bytes ? Status() : arrival_.KeepPacks(packer);
  }

  Status CheckStopped() const {
    return watch_.stopped && watch_.stopped()
               ? Status(Error::Make(ErrorCode::kCancelled, "copying was interrupted"))
               : Status();
  }

  StoreCore& source_;
  StoreCore& target_;
  StoreFiles& files_;  // of the target
  const CopyWatch& watch_;
  SnapshotArrival arrival_;
  SnapshotRoot root_;
  std::vector<uint8_t> root_bytes_;
  std::optional<SealKey> key_;                  // of an encrypted store's
  std::vector<std::shared_ptr<Table>> tables_;  // that the target lacked
  std::map<uint32_t, size_t> references_;       // of these, by the source's pack
  bool sealable_ = true;                        // no write to the open pack has failed
  ChunkCompressor compressor_;
  VerifyProgress done_;
  CopyReport report_;
};

}  // namespace

Result<CopyReport> CopySnapshot(StoreCore& source, StoreCore& target, const SnapshotId& id,
                                const CopyWatch& watch) {
  return Copier(source, target, watch).Run(id);
}

}  // namespace pacsvisor
