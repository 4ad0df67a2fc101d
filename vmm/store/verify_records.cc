#include "vmm/store/verify_records.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>

#include "vmm/base/align.h"
#include "vmm/store/byte_stream.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kCheckpointMagic = "PVVERIFY";
constexpr std::string_view kTimesMagic = "PVPROVEN";
constexpr uint32_t kRecordsVersion = 1;
constexpr uint64_t kMostRecordsBytes = 256 * kMiB;
constexpr uint64_t kCheckpointLifeNs = 7ull * 24 * 3600 * 1'000'000'000;

constexpr char kCheckpointPath[] = "cache/verify";
constexpr char kTimesPath[] = "verified";
constexpr char kTimesLockPath[] = "cache/verified.lock";
constexpr int kLockTries = 500;
constexpr auto kRecordsLockPoll = std::chrono::milliseconds(10);

void EndWithHash(ByteWriter& writer) { writer.Bytes(Sha256(writer.bytes())); }

// What is before the hash at the end; nothing when it is not the hash of that.
std::span<const uint8_t> BeforeHash(std::span<const uint8_t> bytes) {
  if (bytes.size() < sizeof(Hash)) {
    return {};
  }
  const std::span<const uint8_t> body = bytes.first(bytes.size() - sizeof(Hash));
  const Hash hash = Sha256(body);
  return std::equal(hash.begin(), hash.end(), bytes.end() - sizeof(Hash))
             ? body
             : std::span<const uint8_t>();
}

template <size_t kSize>
std::array<uint8_t, kSize> TakeArray(ByteReader& reader) {
  std::array<uint8_t, kSize> value = {};
  const std::span<const uint8_t> bytes = reader.Bytes(kSize);
  std::copy(bytes.begin(), bytes.end(), value.begin());
  return value;
}

// Not by tmp/, which is the writer's.
Status ReplaceFile(StoreFiles& files, const std::string& path, std::span<const uint8_t> bytes) {
  const std::string part = "cache/" + path.substr(path.rfind('/') + 1) + ".part";
  TRY(files.CreateDirectory("cache"));
  Result<std::unique_ptr<StoreFile>> file = files.CreateFile(part);
  if (!file.ok() && file.error().code() == ErrorCode::kBusy) {
    TRY(files.Remove(part));  // of one that died, or whose turn has passed
    file = files.CreateFile(part);
  }
  const std::unique_ptr<StoreFile> created = TRY(std::move(file));
  TRY(created->Append(bytes));
  TRY(created->Sync());
  return files.Rename(part, path);
}

}  // namespace

Hash ProvenPack(const PackTrailer& trailer) { return Sha256(EncodePackTrailer(trailer)); }

std::vector<uint8_t> EncodeVerifyCheckpoint(const VerifyCheckpoint& checkpoint) {
  ByteWriter writer;
  writer.Text(kCheckpointMagic);
  writer.Number(kRecordsVersion);
  writer.Bytes(checkpoint.uid);
  writer.Number(checkpoint.begun_ns);
  writer.Number(static_cast<uint32_t>(checkpoint.tables.size()));
  writer.Number(static_cast<uint32_t>(checkpoint.packs.size()));
  for (const Hash& table : checkpoint.tables) {
    writer.Bytes(table);
  }
  for (const auto& [number, trailer] : checkpoint.packs) {
    writer.Number(number);
    writer.Bytes(trailer);
  }
  EndWithHash(writer);
  return std::move(writer.bytes());
}

Result<VerifyCheckpoint> DecodeVerifyCheckpoint(std::span<const uint8_t> bytes) {
  ByteReader reader(BeforeHash(bytes));
  VerifyCheckpoint checkpoint;
  bool good = reader.Expect(kCheckpointMagic) && reader.Number<uint32_t>() == kRecordsVersion;
  checkpoint.uid = TakeArray<sizeof(StoreUid)>(reader);
  checkpoint.begun_ns = reader.Number<uint64_t>();
  const uint64_t tables = reader.Number<uint32_t>();
  const uint64_t packs = reader.Number<uint32_t>();
  good = good && reader.ok() &&
         reader.left() == tables * sizeof(Hash) + packs * (sizeof(uint32_t) + sizeof(Hash));
  for (uint64_t i = 0; good && i < tables; ++i) {
    good = checkpoint.tables.insert(TakeArray<sizeof(Hash)>(reader)).second;
  }
  for (uint64_t i = 0; good && i < packs; ++i) {
    const uint32_t number = reader.Number<uint32_t>();
    good = checkpoint.packs.emplace(number, TakeArray<sizeof(Hash)>(reader)).second;
  }
  if (!good) {
    return Error::Make(ErrorCode::kCorrupt, "{}: not as written", kCheckpointPath);
  }
  return checkpoint;
}

std::optional<VerifyCheckpoint> ReadVerifyCheckpoint(StoreFiles& files, const StoreUid& uid,
                                                     uint64_t now_ns) {
  const Result<std::vector<uint8_t>> bytes =
      ReadWholeFile(files, kCheckpointPath, kMostRecordsBytes);
  if (!bytes.ok()) {
    return std::nullopt;
  }
  Result<VerifyCheckpoint> checkpoint = DecodeVerifyCheckpoint(*bytes);
  const bool counts = checkpoint.ok() && checkpoint->uid == uid && checkpoint->begun_ns <= now_ns &&
                      now_ns - checkpoint->begun_ns <= kCheckpointLifeNs;
  return counts ? std::optional(*std::move(checkpoint)) : std::nullopt;
}

Status WriteVerifyCheckpoint(StoreFiles& files, const VerifyCheckpoint& checkpoint) {
  return ReplaceFile(files, kCheckpointPath, EncodeVerifyCheckpoint(checkpoint));
}

Status RemoveVerifyCheckpoint(StoreFiles& files) {
  const Status removed = files.Remove(kCheckpointPath);
  return removed.ok() || removed.error().code() == ErrorCode::kNotFound ? Status() : removed;
}

std::vector<uint8_t> EncodeVerifiedTimes(const VerifiedTimes& times) {
  ByteWriter writer;
  writer.Text(kTimesMagic);
  writer.Number(kRecordsVersion);
  writer.Number(static_cast<uint32_t>(times.size()));
  for (const auto& [id, time_ns] : times) {
    writer.Bytes(id.bytes());
    writer.Number(time_ns);
  }
  EndWithHash(writer);
  return std::move(writer.bytes());
}

Result<VerifiedTimes> DecodeVerifiedTimes(std::span<const uint8_t> bytes) {
  ByteReader reader(BeforeHash(bytes));
  bool good = reader.Expect(kTimesMagic) && reader.Number<uint32_t>() == kRecordsVersion;
  const uint64_t count = reader.Number<uint32_t>();
  good = good && reader.ok() && reader.left() == count * (SnapshotId::kBytes + sizeof(uint64_t));
  VerifiedTimes times;
  for (uint64_t i = 0; good && i < count; ++i) {
    const SnapshotId id(TakeArray<SnapshotId::kBytes>(reader));
    good = times.emplace(id, reader.Number<uint64_t>()).second;
  }
  if (!good) {
    return Error::Make(ErrorCode::kCorrupt, "{}: not as written", kTimesPath);
  }
  return times;
}

Result<VerifiedTimes> ReadVerifiedTimes(StoreFiles& files) {
  const Result<std::vector<uint8_t>> bytes = ReadWholeFile(files, kTimesPath, kMostRecordsBytes);
  if (!bytes.ok() && bytes.error().code() != ErrorCode::kNotFound &&
      bytes.error().code() != ErrorCode::kCorrupt) {
    return bytes.error();
  }
  Result<VerifiedTimes> times =
      bytes.ok() ? DecodeVerifiedTimes(*bytes) : Result<VerifiedTimes>(VerifiedTimes());
  return times.ok() ? std::move(times) : Result<VerifiedTimes>(VerifiedTimes());
}

Status UpdateVerifiedTimes(StoreFiles& files, const VerifiedTimes& times,
                           const std::set<SnapshotId>& damaged, const std::set<SnapshotId>& there) {
  TRY(files.CreateDirectory("cache"));
  // Two that end at once must not forget each other's.
  Result<std::unique_ptr<StoreFiles::Lock>> lock = Error::Make(ErrorCode::kBusy, "no lock");
  for (int tries = 0; !lock.ok() && tries < kLockTries; ++tries) {
    if (tries > 0) {
      std::this_thread::sleep_for(kRecordsLockPoll);
    }
    lock = files.AcquireLock(kTimesLockPath, StoreFiles::LockMode::kExclusive,
                             fmt::format("pid {}", ::getpid()));
    if (!lock.ok() && lock.error().code() != ErrorCode::kBusy) {
      return lock.error();
    }
  }
  if (!lock.ok()) {
    return lock.error();
  }
  VerifiedTimes all = TRY(ReadVerifiedTimes(files));
  for (const auto& [id, time_ns] : times) {
    all[id] = time_ns;
  }
  std::erase_if(all, [&](const auto& entry) {
    return damaged.contains(entry.first) || !there.contains(entry.first);
  });
  TRY(ReplaceFile(files, kTimesPath, EncodeVerifiedTimes(all)));
  return files.SyncDirectory(".");
}

}  // namespace pacsvisor
