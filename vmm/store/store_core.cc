#include "vmm/store/store_core.h"

#include <openssl/crypto.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/store/chunk_codec.h"

namespace pacsvisor {
namespace {

constexpr int kMostMoves = 64;  // of chunks while one is looked for
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr auto kLockPoll = std::chrono::milliseconds(10);

// Null of a store that is not encrypted.
Result<std::shared_ptr<const StoreSecret>> OpenSecret(StoreFiles& files, const StoreHeader& header,
                                                      const StoreKey* key) {
  const bool encrypted = header.cipher != StoreCipher::kNone;
  if (!encrypted && key == nullptr) {
    return std::shared_ptr<const StoreSecret>();
  }
  if (!encrypted) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "the store in {} is not encrypted, but a key is given: leave the key away, or "
        "name the store that it is for",
        files.name());
  }
  if (key == nullptr) {
    return Error::Make(
        ErrorCode::kPermissionDenied,
        "the store in {} is encrypted: name its key file (--key FILE; in VM.toml, key "
        "= \"FILE\" in [store])",
        files.name());
  }
  const Result<std::vector<uint8_t>> file =
      ReadWholeFile(files, std::string(kStoreKeyPath), kStoreKeyFileBytes);
  if (!file.ok() && file.error().code() == ErrorCode::kNotFound) {
    return Error::Make(
        ErrorCode::kCorrupt,
        "{}/{} is missing; without it nothing can be read: bring it back from a copy "
        "of the store",
        files.name(), kStoreKeyPath);
  }
  const std::vector<uint8_t> bytes = TRY(file);
  const Result<std::shared_ptr<const StoreSecret>> secret = StoreSecret::Unwrap(bytes, *key);
  if (!secret.ok() && secret.error().code() == ErrorCode::kPermissionDenied) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "this is not the key of the store in {}: name the key file that it was made "
                       "with, or last changed to",
                       files.name());
  }
  if (secret.ok() && !(*secret)->IsChecked(header.key_check)) {
    return Error::Make(ErrorCode::kCorrupt,
                       "{}/{} is another store's: bring it back from a copy of the store",
                       files.name(), kStoreKeyPath);
  }
  return secret;
}

}  // namespace

Result<std::shared_ptr<StoreCore>> StoreCore::Open(std::shared_ptr<StoreFiles> files,
                                                   const StoreTuning& tuning) {
  const std::string path(kHeaderPath);
  Result<std::vector<uint8_t>> bytes = ReadWholeFile(*files, path, 16 * kKiB);
  if (!bytes.ok() && bytes.error().code() == ErrorCode::kNotFound) {
    return Error::Make(
        ErrorCode::kNotFound,
        "{} is no snapshot store: it has no file '{}'; pacsvisor makes a store in an "
        "empty directory with the first snapshot, so check the path",
        files->name(), path);
  }
  const std::vector<uint8_t> header_bytes = TRY(std::move(bytes));
  Result<StoreHeader> header = DecodeStoreHeader(header_bytes);
  if (!header.ok()) {
    return std::move(header).error().WithContext(fmt::format("{}/{}", files->name(), path));
  }
  std::shared_ptr<const StoreSecret> secret = TRY(OpenSecret(*files, *header, tuning.key.get()));
  StoreTuning kept = tuning;
  kept.key.reset();  // it has done its work
  return std::shared_ptr<StoreCore>(
      new StoreCore(std::move(files), kept, *header, std::move(secret)));
}

Result<std::vector<SnapshotId>> StoreCore::ListIds() {
  std::vector<SnapshotId> ids;
  for (const std::string& name : TRY(files_->List("snapshots"))) {
    if (const std::optional<SnapshotId> id = SnapshotOfFile(name)) {
      ids.push_back(*id);
    }
  }
  return ids;
}

Result<SnapshotRoot> StoreCore::ReadRoot(const SnapshotId& id) {
  const std::string path = SnapshotPath(id);
  Result<std::vector<uint8_t>> bytes = ReadWholeFile(*files_, path, SealedRootBytes(kMaxRootBytes));
  if (!bytes.ok()) {
    if (bytes.error().code() == ErrorCode::kNotFound) {
      return Error::Make(ErrorCode::kNotFound, "the store in {} has no snapshot {}", files_->name(),
                         id.Hex());
    }
    return std::move(bytes).error();
  }
  // Before it is decoded: what is not as written is damage, whatever it looks like.
  if (SnapshotId(Sha256(*bytes)) != id) {
    return Error::Make(ErrorCode::kCorrupt,
                       "{}: its SHA-256 is not its name; bring the file back from a copy of the "
                       "store, or remove it to give this snapshot up",
                       path);
  }
  if (secret() != nullptr) {
    return DecodeRootFile(id, *bytes);
  }
  Result<SnapshotRoot> root = DecodeRoot(*bytes);
  if (!root.ok()) {
    return std::move(root).error().WithContext(path);
  }
  return root;
}

Result<SnapshotRoot> StoreCore::DecodeRootFile(const SnapshotId& id,
                                               std::span<const uint8_t> bytes) {
  SealKey key = TRY(ReadSnapshotKey(id));
  Result<SnapshotRoot> root = UnsealRoot(key, bytes);
  OPENSSL_cleanse(key.data(), key.size());
  if (!root.ok()) {
    return std::move(root).error().WithContext(SnapshotPath(id));
  }
  return root;
}

Result<SealKey> StoreCore::ReadSnapshotKey(const SnapshotId& id) {
  const std::string path = SnapshotKeyPath(id);
  const Result<std::vector<uint8_t>> file = ReadWholeFile(*files_, path, kSnapshotKeyFileBytes);
  if (!file.ok() && file.error().code() == ErrorCode::kNotFound) {
    // Whoever removes it has removed the root before.
    if (!files_->OpenForRead(SnapshotPath(id)).ok()) {
      return Error::Make(ErrorCode::kNotFound, "the store in {} has no snapshot {}", files_->name(),
                         id.Hex());
    }
    return Error::Make(ErrorCode::kCorrupt,
                       "{} is missing; without it this snapshot cannot be read: bring it back from "
                       "a copy of the store",
                       path);
  }
  const std::vector<uint8_t> key_bytes = TRY(file);
  const std::optional<SealKey> key = secret()->UnwrapSnapshotKey(key_bytes);
  if (!key.has_value()) {
    return Error::Make(ErrorCode::kCorrupt, "{}: damaged; bring it back from a copy of the store",
                       path);
  }
  return *key;
}

Status StoreCore::WriteSnapshotKey(const SnapshotId& id, const SealKey& key) {
  TRY(WriteWholeFile(*files_, SnapshotKeyPath(id), secret()->WrapSnapshotKey(key)));
  return files_->SyncDirectory("keys");
}

Status StoreCore::DestroyKeysOfNobody() {
  if (secret() == nullptr) {
    return {};
  }
  const std::vector<SnapshotId> ids = TRY(ListIds());
  std::vector<std::string> dead;
  for (const std::string& name : TRY(files_->List("keys"))) {
    const std::optional<SnapshotId> id = SnapshotId::FromHex(name);
    if (id.has_value() && !std::binary_search(ids.begin(), ids.end(), *id)) {
      dead.push_back("keys/" + name);
    }
  }
  if (dead.empty()) {
    return {};
  }
  // A root must not come back without its key.
  TRY(files_->SyncDirectory("snapshots"));
  for (const std::string& path : dead) {
    TRY(files_->Overwrite(path));
    TRY(files_->Remove(path));
  }
  return files_->SyncDirectory("keys");
}

Status StoreCore::ReadChunk(const ChunkId& chunk, const ChunkPlace& place,
                            std::span<uint8_t> block) {
  const Hash& name = chunk.name;
  std::array<uint8_t, kMaxStoredChunkBytes> stored;
  const auto read = [&](const ChunkPlace& from) -> Status {
    const std::span<uint8_t> bytes = std::span(stored).first(from.length);
    TRY(packs_.Read(from, bytes));
    if (!codec_.Decode(bytes, chunk, block)) {
      return Error::Make(ErrorCode::kCorrupt, "{}: chunk at byte {}: its SHA-256 is not {}",
                         PackPath(from.pack), from.offset, HexText(name));
    }
    return {};
  };
  const Status hinted = read(place);
  if (hinted.ok()) {
    return {};
  }
  // It has moved, or is there twice; or its file has been replaced since it was opened. By what is
  // known of the packs already, and then by what there is now, as long as a prune moves chunks on.
  const MutexLock lock(index_mutex_);
  bool moved = true;
  for (int tries = 0; moved && tries < kMostMoves; ++tries) {
    if (tries > 0) {
      packs_.Forget();
      if (!RefreshIndexLocked().ok()) {
        break;
      }
    }
    moved = tries == 0;
    const Result<std::optional<ChunkPlace>> found = index_.Find(name, [&](const ChunkPlace& other) {
      const Status good = other == place && tries == 0 ? hinted : read(other);
      moved = moved || (!good.ok() && good.error().code() == ErrorCode::kNotFound);
      return good.ok();
    });
    if (found.ok() && found->has_value()) {
      return {};
    }
    moved = moved || (!found.ok() && found.error().code() == ErrorCode::kNotFound);
  }
  if (hinted.error().code() == ErrorCode::kNotFound) {
    return Error::Make(ErrorCode::kCorrupt, "{} is missing, and no other pack has chunk {}",
                       PackPath(place.pack), HexText(name));
  }
  return hinted;
}

Result<std::set<uint32_t>> StoreCore::CommittedPacks() {
  // Those above are of a writer that has not committed: they may go again, and their numbers be
  // given to others.
  const uint32_t floor = TRY(ReadFloor());
  const uint32_t limit = std::max(TRY(KeptByRoots()).last_pack, floor);
  std::set<uint32_t> there;
  for (const std::string& name : TRY(files_->List("packs"))) {
    const std::optional<uint32_t> number = PackNumber(name);
    if (number.has_value() && *number <= limit) {
      there.insert(*number);
    }
  }
  return there;
}

Status StoreCore::RefreshIndex() {
  const MutexLock lock(index_mutex_);
  return RefreshIndexLocked();
}

Status StoreCore::RefreshIndexLocked() {
  for (int tries = 0; tries < kMostMoves; ++tries) {
    const bool done = TRY(TryRefreshIndex());
    if (done) {
      return {};
    }
  }
  return Error::Make(ErrorCode::kBusy, "the packs of {} change faster than they can be looked at",
                     files_->name());
}

Result<bool> StoreCore::TryRefreshIndex() {
  const uint32_t floor = TRY(ReadFloor());
  const std::set<uint32_t> there = TRY(CommittedPacks());
  const std::vector<uint32_t> known = index_.packs();
  if (!std::includes(there.begin(), there.end(), known.begin(), known.end())) {
    index_.Clear();  // some were removed, and with them what slots point to
    unreadable_packs_.clear();
    packs_.Forget();
  }
  for (const uint32_t number : there) {
    if (index_.HasPack(number) || unreadable_packs_.contains(number)) {
      continue;
    }
    Result<PackContents> contents = packs_.ReadContents(number);
    if (contents.ok()) {
      index_.AddPack(number, *contents);
    } else if (contents.error().code() == ErrorCode::kCorrupt) {
      // Its chunks are written again when they are met again; snapshots find theirs without it.
      Log(LogLevel::kWarning, "{}; pacsvisor verify tells what this means",
          contents.error().message());
      unreadable_packs_.insert(number);
    } else if (contents.error().code() == ErrorCode::kNotFound) {
      return false;  // a prune has removed it just now
    } else {
      return std::move(contents).error();
    }
  }
  // Whoever moves chunks raises the floor before it removes the packs that had them: none of the
  // new ones was passed over if it is where it was.
  return TRY(ReadFloor()) == floor;
}

Result<std::optional<ChunkPlace>> StoreCore::FindChunk(const Hash& name) {
  const MutexLock lock(index_mutex_);
  return index_.Find(name);
}

void StoreCore::ForgetIndex() {
  const MutexLock lock(index_mutex_);
  index_.Clear();
  unreadable_packs_.clear();
}

Result<StoreCore::Links> StoreCore::LinksOfRoot(const SnapshotId& id) {
  {
    const MutexLock lock(links_mutex_);
    const auto found = links_.find(id);
    if (found != links_.end()) {
      return found->second;
    }
  }
  const SnapshotRoot root = TRY(ReadRoot(id));
  Links links{.last_pack = root.last_pack, .objects = {root.state.name}};
  for (const TableRef& table : root.tables) {
    links.objects.push_back(table.name);
  }
  const MutexLock lock(links_mutex_);
  return links_.emplace(id, std::move(links)).first->second;
}

Result<StoreCore::Kept> StoreCore::KeptByRoots() {
  Kept kept;
  for (const SnapshotId& id : TRY(ListIds())) {
    const Result<Links> links = LinksOfRoot(id);
    if (links.ok()) {
      kept.last_pack = std::max(kept.last_pack, links->last_pack);
      kept.objects.insert(links->objects.begin(), links->objects.end());
    } else if (links.error().code() == ErrorCode::kCorrupt ||
               links.error().code() == ErrorCode::kUnsupported) {
      kept.whole = false;
    } else if (links.error().code() != ErrorCode::kNotFound) {  // pruned just now
      return links.error();
    }
  }
  return kept;
}

Result<std::unique_ptr<StoreFiles::Lock>> StoreCore::LockForWriting(std::string_view doing) {
  const std::string words = fmt::format("pid {}{}{}{}", ::getpid(), doing,
                                        tuning_.owner.empty() ? "" : ", ", tuning_.owner);
  const uint64_t begin_ns = MonotonicNs();
  while (true) {
    Result<std::unique_ptr<StoreFiles::Lock>> lock =
        files_->AcquireLock(std::string(kLockPath), StoreFiles::LockMode::kExclusive, words);
    const bool again = !lock.ok() && lock.error().code() == ErrorCode::kBusy &&
                       MonotonicNs() - begin_ns < tuning_.lock_wait_ms * kNsPerMs;
    if (!again) {
      return lock;
    }
    std::this_thread::sleep_for(kLockPoll);
  }
}

Status StoreCore::WriteFloor(uint32_t number) {
  TRY(WriteWholeFile(*files_, std::string(kFloorPath), EncodeFloor(number)));
  return files_->SyncDirectory(".");
}

Result<uint32_t> StoreCore::ReadFloor() {
  const std::string path(kFloorPath);
  const Result<std::vector<uint8_t>> bytes = ReadWholeFile(*files_, path, kFloorBytes);
  if (!bytes.ok() && bytes.error().code() == ErrorCode::kNotFound) {
    return 0u;
  }
  const std::vector<uint8_t> floor = TRY(bytes);
  return DecodeFloor(floor);
}

// Of a store that was copied by something that leaves empty directories behind, tmp/ is made again.
Result<std::vector<std::string>> StoreCore::ListUnfinished() {
  Result<std::vector<std::string>> names = files_->List("tmp");
  if (!names.ok() && names.error().code() == ErrorCode::kNotFound) {
    TRY(files_->CreateDirectory("tmp"));
    return std::vector<std::string>();
  }
  return names;
}

Result<uint32_t> StoreCore::CleanUp() {
  const Kept kept = TRY(KeptByRoots());
  const uint32_t floor = TRY(ReadFloor());
  const uint32_t keep_to = std::max(kept.last_pack, floor);
  uint32_t highest = keep_to;
  std::vector<uint32_t> dead;
  for (const std::string& name : TRY(files_->List("packs"))) {
    const std::optional<uint32_t> number = PackNumber(name);
    if (!number.has_value() || *number <= keep_to) {
      continue;
    }
    if (kept.whole) {
      dead.push_back(*number);
    } else {
      highest = std::max(highest, *number);
    }
  }
  const std::vector<std::string> unfinished = TRY(ListUnfinished());
  if (kept.whole && (!dead.empty() || !unfinished.empty())) {
    // A root may have been removed without this being durable: it must not come back without its
    // packs.
    TRY(files_->SyncDirectory("snapshots"));
    packs_.Forget();
    for (const uint32_t number : dead) {
      TRY(files_->Remove(PackPath(number)));
    }
    if (!unfinished.empty()) {
      TRY(RemoveObjects(kept.objects));
    }
  }
  for (const std::string& name : unfinished) {
    TRY(files_->Remove("tmp/" + name));
  }
  TRY(DestroyKeysOfNobody());
  if (highest == UINT32_MAX) {
    return Error::Make(ErrorCode::kNoSpace, "the store has no number left for a new pack");
  }
  return highest + 1;
}

Status StoreCore::ForEachObject(
    const std::function<Status(const std::string& path, const Hash& name)>& on_object) {
  for (const std::string& directory : TRY(files_->List("objects"))) {
    if (directory.size() != 2 ||
        directory.find_first_not_of("0123456789abcdef") != std::string::npos) {
      continue;  // not ours
    }
    const std::string path = "objects/" + directory;
    for (const std::string& name : TRY(files_->List(path))) {
      if (const std::optional<Hash> hash = HashFromHex(name)) {
        TRY(on_object(path + "/" + name, *hash));
      }
    }
  }
  return {};
}

Status StoreCore::RemoveObjects(const std::set<Hash>& kept) {
  return ForEachObject([&](const std::string& path, const Hash& name) {
    return kept.contains(name) ? Status() : files_->Remove(path);
  });
}

Result<std::vector<uint8_t>> ReadWholeFile(StoreFiles& files, const std::string& path,
                                           uint64_t limit_bytes) {
  const std::unique_ptr<StoreFile> file = TRY(files.OpenForRead(path));
  const uint64_t size_bytes = TRY(file->SizeBytes());
  if (size_bytes > limit_bytes) {
    return Error::Make(ErrorCode::kCorrupt, "{} has {} bytes, more than it ever can", path,
                       size_bytes);
  }
  std::vector<uint8_t> bytes(size_bytes);
  TRY(file->ReadAt(0, bytes));
  return bytes;
}

Status WriteWholeFile(StoreFiles& files, const std::string& path, std::span<const uint8_t> bytes) {
  const std::string temporary = "tmp/" + path.substr(path.rfind('/') + 1);
  {
    const std::unique_ptr<StoreFile> file = TRY(files.CreateFile(temporary));
    TRY(file->Append(bytes));
    TRY(file->Sync());
  }
  return files.Rename(temporary, path);
}

}  // namespace pacsvisor
