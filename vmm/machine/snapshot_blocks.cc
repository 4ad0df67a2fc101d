#include "vmm/machine/snapshot_blocks.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kOfSnapshot = " of snapshot ";
constexpr std::string_view kHold = " (hold ";
constexpr std::string_view kInStore = " in the store ";
constexpr std::string_view kWithKey = " with the key ";

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char character : text) {
    quoted += character == '"' || character == '\\' ? "\\" : "";
    quoted += character;
  }
  return quoted + '"';
}

// Takes `word` from the beginning of `rest`.
bool Skip(std::string_view& rest, std::string_view word) {
  if (!rest.starts_with(word)) {
    return false;
  }
  rest.remove_prefix(word.size());
  return true;
}

std::optional<std::string> TakeUntil(std::string_view& rest, std::string_view end) {
  const size_t at = rest.find(end);
  if (at == rest.npos) {
    return std::nullopt;
  }
  std::string taken(rest.substr(0, at));
  rest.remove_prefix(at + end.size());
  return taken;
}

std::optional<std::string> TakeQuoted(std::string_view& rest) {
  if (!Skip(rest, "\"")) {
    return std::nullopt;
  }
  std::string text;
  while (!rest.empty()) {
    char character = rest.front();
    rest.remove_prefix(1);
    if (character == '"') {
      return text;
    }
    if (character == '\\' && !rest.empty()) {
      character = rest.front();
      rest.remove_prefix(1);
    }
    text += character;
  }
  return std::nullopt;
}

std::optional<BlockOrigin> ParseOrigin(std::string_view rest) {
  BlockOrigin origin;
  std::optional<std::string> space = TakeUntil(rest, kOfSnapshot);
  constexpr size_t kIdDigits = 2 * SnapshotId::kBytes;
  const std::optional<SnapshotId> id = SnapshotId::FromHex(rest.substr(0, kIdDigits));
  if (!space.has_value() || space->empty() || !id.has_value()) {
    return std::nullopt;
  }
  rest.remove_prefix(kIdDigits);
  if (Skip(rest, kHold)) {
    std::optional<std::string> hold = TakeUntil(rest, ")");
    if (!hold.has_value() || !IsHoldWord(*hold)) {
      return std::nullopt;
    }
    origin.hold = *std::move(hold);
  }
  std::optional<std::string> store = Skip(rest, kInStore) ? TakeQuoted(rest) : std::nullopt;
  std::optional<std::string> key = Skip(rest, kWithKey) ? TakeQuoted(rest) : std::string();
  if (!store.has_value() || store->empty() || !key.has_value() || !rest.empty()) {
    return std::nullopt;
  }
  origin.space = *std::move(space);
  origin.snapshot = *id;
  origin.store = *std::move(store);
  origin.key = *std::move(key);
  return origin;
}

Error Unreachable(const std::string& image, const BlockOrigin& origin, Error reason) {
  return std::move(reason).WithContext(
      fmt::format("disk '{}' is not whole: blocks of it are still in {}, which cannot be read (a "
                  "store that was moved is found where [store] path says)",
                  image, origin.Name()));
}

struct Found {
  std::shared_ptr<Store> store;
  std::shared_ptr<SnapshotReader> snapshot;
};

Result<Found> Find(const BlockOrigin& origin, const std::shared_ptr<Store>& own) {
  if (own != nullptr) {
    Result<std::unique_ptr<SnapshotReader>> reader = own->OpenSnapshot(origin.snapshot);
    if (reader.ok()) {
      return Found{own, *std::move(reader)};
    }
    if (reader.error().code() != ErrorCode::kNotFound) {
      return std::move(reader).error();
    }
  }
  std::shared_ptr<const StoreKey> key;
  if (!origin.key.empty()) {
    key = TRY(StoreKey::ReadFile(origin.key));
  }
  std::shared_ptr<StoreFiles> files = TRY(StoreFiles::OpenDirectory(origin.store));
  Found found;
  found.store = TRY(Store::Open(std::move(files), "a disk that is fetched", std::move(key)));
  found.snapshot = TRY(found.store->OpenSnapshot(origin.snapshot));
  return found;
}

constexpr std::string_view kDisk = "disk '";
constexpr std::string_view kOfMachine = "' of machine ";

// The end of a path tells more than its beginning.
std::string ReasonOf(const std::string& path, const std::string& machine) {
  const auto reason = [&machine](const std::string& told) {
    return fmt::format("{}{}{}{} is fetched from it", kDisk, told, kOfMachine, machine);
  };
  const std::string whole = reason(path);
  if (whole.size() <= kMostReasonBytes) {
    return whole;
  }
  const size_t room = kMostReasonBytes - reason("…").size();
  return reason("…" + path.substr(path.size() - room));
}

void ReleaseUnneeded(Store& store, const BegunDisk& disk) {
  const Result<size_t> released = store.ReleaseHolds(disk.snapshot, disk.hold);
  if (!released.ok()) {
    Log(LogLevel::kWarning, "hold {} of snapshot {} stays, though nothing needs it: {}", disk.hold,
        disk.snapshot.Short(), released.error().message());
  }
}

}  // namespace

// Spaces of ours have no blanks in their names.
std::string BlockOrigin::Name() const {
  return fmt::format("{}{}{}{}{}{}{}", space, kOfSnapshot, snapshot.Hex(),
                     hold.empty() ? "" : fmt::format("{}{})", kHold, hold), kInStore, Quoted(store),
                     key.empty() ? "" : fmt::format("{}{}", kWithKey, Quoted(key)));
}

Result<BlockOrigin> BlockOrigin::Parse(std::string_view name) {
  std::optional<BlockOrigin> origin = ParseOrigin(name);
  if (!origin.has_value()) {
    return Error::Make(ErrorCode::kCorrupt,
                       "a disk is fetched from '{}', which is no disk of a snapshot in a store; "
                       "was it restored by another pacsvisor?",
                       name);
  }
  return *std::move(origin);
}

Result<std::shared_ptr<SnapshotBlocks>> SnapshotBlocks::Create(
    std::shared_ptr<Store> store, std::shared_ptr<SnapshotReader> snapshot,
    const BlockOrigin& origin, uint64_t disk_bytes) {
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
        new SnapshotBlocks(std::move(store), std::move(snapshot), origin, i));
  }
  return Error::Make(ErrorCode::kInvalidArgument, "there is no {}", origin.Name());
}

Result<std::shared_ptr<SnapshotReader>> SnapshotBlocks::Reader() const {
  const MutexLock lock(mutex_);
  if (snapshot_ == nullptr) {
    return Error::Make(ErrorCode::kNotFound, "{} was let go of: nothing needed it", name_);
  }
  return snapshot_;
}

Status SnapshotBlocks::Fetch(BlockIndex first, std::span<uint8_t> bytes) {
  const std::shared_ptr<SnapshotReader> reader = TRY(Reader());
  return reader->Read(space_, first, bytes);
}

Result<uint64_t> SnapshotBlocks::ZeroRun(BlockIndex first) {
  const std::shared_ptr<SnapshotReader> reader = TRY(Reader());
  return reader->ZeroRun(space_, first);
}

bool SnapshotBlocks::MayForget() const {
  const MutexLock lock(mutex_);
  return store_ == nullptr;
}

Status SnapshotBlocks::Release() {
  std::shared_ptr<Store> store;
  {
    const MutexLock lock(mutex_);
    store = store_;
  }
  if (store == nullptr) {
    return {};
  }
  if (!origin_.hold.empty()) {
    TRY(store->ReleaseHolds(origin_.snapshot, origin_.hold));
  }
  std::shared_ptr<SnapshotReader> reader;  // its end waits for no lock of ours
  const MutexLock lock(mutex_);
  store_.reset();
  reader.swap(snapshot_);
  return {};
}

Result<std::shared_ptr<SnapshotBlocks>> OpenBlockSource(const std::string& image,
                                                        const std::shared_ptr<Store>& own) {
  const std::string name = TRY(LayerDirectory::SourceOf(image));
  if (name.empty()) {
    return std::shared_ptr<SnapshotBlocks>();
  }
  const BlockOrigin origin = TRY(BlockOrigin::Parse(name));
  std::error_code error;
  const uint64_t disk_bytes = std::filesystem::file_size(image, error);
  if (error) {
    return Error::FromErrno(error.value(), "cannot measure '{}'", image);
  }
  Result<Found> found = Find(origin, own);
  if (!found.ok()) {
    return Unreachable(image, origin, std::move(found).error());
  }
  return SnapshotBlocks::Create(std::move(found->store), std::move(found->snapshot), origin,
                                disk_bytes);
}

Result<BegunDisk> BeginFromSnapshot(Store& store, BlockOrigin origin, const NewFetchedDisk& disk) {
  if (::ftruncate(disk.fd, static_cast<off_t>(disk.size_bytes)) != 0) {
    return Error::FromErrno(errno, "cannot give '{}' its {} bytes", disk.image, disk.size_bytes);
  }
  BegunDisk begun{.snapshot = origin.snapshot, .hold = {}, .layers = {}};
  begun.layers = TRY(LayerDirectory::Open(disk.image));
  begun.hold = TRY(store.AddFetchHold(origin.snapshot, ReasonOf(disk.path, disk.machine))).word;
  origin.hold = begun.hold;
  if (Status done = begun.layers->BeginFromSource(disk.fd, origin.Name()); !done.ok()) {
    ReleaseUnneeded(store, begun);
    return std::move(done).error();
  }
  return begun;
}

void GiveUpBegunDisk(Store& store, const BegunDisk& disk) {
  Status removed = disk.layers->RemoveLog();
  removed = removed.ok() ? disk.layers->Sync() : removed;
  if (!removed.ok()) {
    Log(LogLevel::kWarning, "{}", removed.error().message());
    return;  // what it names stays held
  }
  ReleaseUnneeded(store, disk);
}

std::optional<std::string> DiskPathOf(const Hold& hold) {
  std::string_view rest = hold.reason;
  if (!hold.IsFetch() || hold.damaged || !Skip(rest, kDisk) || rest.starts_with("…")) {
    return std::nullopt;
  }
  const size_t at = rest.rfind(kOfMachine);
  return at == rest.npos ? std::nullopt : std::optional(std::string(rest.substr(0, at)));
}

}  // namespace pacsvisor
