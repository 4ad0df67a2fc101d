#include "vmm/store/store.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vmm/base/clock.h"
#include "vmm/store/export_format.h"
#include "vmm/store/open_store.h"
#include "vmm/store/store_copy.h"
#include "vmm/store/store_core.h"
#include "vmm/store/store_diff.h"
#include "vmm/store/store_erase.h"
#include "vmm/store/store_export.h"
#include "vmm/store/store_holds.h"
#include "vmm/store/store_import.h"
#include "vmm/store/store_prune.h"
#include "vmm/store/store_reader.h"
#include "vmm/store/store_sample.h"
#include "vmm/store/store_verify.h"
#include "vmm/store/store_writer.h"
#include "vmm/store/verify_records.h"

namespace pacsvisor {
namespace {

constexpr size_t kLeastPrefixDigits = 4;

class FileStore : public Store {
 public:
  explicit FileStore(std::shared_ptr<StoreCore> core) : core_(std::move(core)) {}

  Result<std::vector<SnapshotInfo>> List() override {
    std::vector<SnapshotInfo> infos;
    for (const SnapshotId& id : TRY(core_->ListIds())) {
      Result<SnapshotRoot> root = core_->ReadRoot(id);
      const bool gone = !root.ok() && root.error().code() == ErrorCode::kNotFound;
      if (!gone) {  // pruned just now
        infos.push_back(TRY(std::move(root)).info);
      }
    }
    std::sort(infos.begin(), infos.end(), [](const SnapshotInfo& left, const SnapshotInfo& right) {
      return left.draft.instant_ns != right.draft.instant_ns
                 ? left.draft.instant_ns < right.draft.instant_ns
                 : left.id < right.id;
    });
    return infos;
  }

  Result<SnapshotId> Resolve(std::string_view prefix) override {
    if (prefix.size() < kLeastPrefixDigits || prefix.size() > 2 * SnapshotId::kBytes ||
        prefix.find_first_not_of("0123456789abcdef") != std::string_view::npos) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "'{}' is no snapshot id: give at least its first {} digits (0-9, a-f)",
                         prefix, kLeastPrefixDigits);
    }
    std::vector<SnapshotId> found;
    for (const SnapshotId& id : TRY(core_->ListIds())) {
      if (id.Hex().starts_with(prefix)) {
        found.push_back(id);
      }
    }
    if (found.empty()) {
      return Error::Make(ErrorCode::kNotFound,
                         "the store in {} has no snapshot whose id begins with {}",
                         core_->files().name(), prefix);
    }
    if (found.size() > 1) {
      std::string names;
      for (const SnapshotId& id : found) {
        names += (names.empty() ? "" : ", ") + id.Short();
      }
      return Error::Make(ErrorCode::kInvalidArgument, "{} may be any of {}: give more digits",
                         prefix, names);
    }
    return found.front();
  }

  Result<std::unique_ptr<SnapshotReader>> OpenSnapshot(const SnapshotId& id) override {
    return OpenStoreReader(core_, id);
  }

  Result<std::unique_ptr<SnapshotWriter>> Begin(const std::optional<SnapshotId>& parent,
                                                std::vector<StoredSpace> spaces) override {
    return BeginStoreWriter(core_, parent, std::move(spaces));
  }

  Result<SnapshotDiff> Diff(const SnapshotId& first, const SnapshotId& second,
                            const std::function<void(const VerifyProgress&)>& progress) override {
    return DiffSnapshots(*core_, first, second, progress);
  }

  Result<VerifyReport> Verify(const std::vector<SnapshotId>& ids,
                              const std::function<void(const VerifyProgress&)>& progress) override {
    return VerifyStore(*core_, ids, progress);
  }

  Result<VerifyReport> VerifyAndRecord(
      const VerifyRequest& request,
      const std::function<void(const VerifyProgress&)>& progress) override {
    return request.sample.has_value() ? VerifySample(*core_, request, progress)
                                      : VerifyStoreAndRecord(*core_, request, progress);
  }

  Result<std::map<SnapshotId, uint64_t>> VerifiedTimes() override {
    return ReadVerifiedTimes(core_->files());
  }

  Result<PruneReport> Prune(const PruneRequest& request,
                            const std::function<void(const VerifyProgress&)>& progress) override {
    return PruneStore(*core_, request, progress);
  }

  Result<ExportReport> Export(const SnapshotId& id, const ByteSink& sink,
                              const std::function<void(const VerifyProgress&)>& progress) override {
    return ExportSnapshot(*core_, id, sink, progress);
  }

  Result<ImportReport> Import(const ByteSource& source,
                              const std::function<void(const VerifyProgress&)>& progress) override {
    return ImportSnapshot(*core_, source, progress);
  }

  Result<CopyReport> CopyTo(Store& target, const SnapshotId& id, const CopyWatch& watch) override {
    return target.CopyFrom(*core_, id, watch);
  }

  Result<CopyReport> CopyFrom(StoreCore& source, const SnapshotId& id,
                              const CopyWatch& watch) override {
    return CopySnapshot(source, *core_, id, watch);
  }

  Result<Hold> AddHold(const SnapshotId& id, uint64_t until_ns, std::string_view reason) override {
    return AddStoreHold(*core_, id, until_ns, reason);
  }

  Result<Hold> AddFetchHold(const SnapshotId& id, std::string_view reason) override {
    return AddStoreFetchHold(*core_, id, reason);
  }
  Result<size_t> ReleaseHolds(const SnapshotId& id, std::string_view word) override {
    return ReleaseStoreHolds(*core_, id, word);
  }

  Result<std::vector<Hold>> Holds() override { return ReadHolds(core_->files()); }

  Result<uint64_t> Now() override { return std::max(RealtimeNs(), TRY(GreatestTimeOf(*core_))); }

  Result<EraseReport> Erase(const SnapshotId& id, const EraseRequest& request) override {
    return EraseSnapshot(*core_, id, request);
  }

  Status ChangeKey(const StoreKey& key) override { return ChangeStoreKey(*core_, key); }

  std::shared_ptr<const StoreSecret> secret() const override {
    return core_->codec().shared_secret();
  }

  void ForgetIndex() override { core_->ForgetIndex(); }

 private:
  const std::shared_ptr<StoreCore> core_;
};

// Names that Create may have left when it was interrupted, or that a file system puts there.
bool MayBeThere(const std::string& name) {
  static constexpr std::string_view kNames[] = {kLockPath, "packs", "objects",   "snapshots",
                                                "tmp",     "keys",  "lost+found"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

}  // namespace

Status Store::Create(StoreFiles& files, const StoreKey* key,
                     std::shared_ptr<const StoreSecret> secret) {
  for (const std::string& name : TRY(files.List("."))) {
    if (name == kHeaderPath) {
      return Error::Make(ErrorCode::kBusy, "there is a snapshot store in {} already", files.name());
    }
    if (!MayBeThere(name)) {
      return Error::Make(ErrorCode::kInvalidArgument,
                         "{} is not empty (it holds '{}') and no snapshot store: give a directory "
                         "of its own",
                         files.name(), name);
    }
  }
  const std::unique_ptr<StoreFiles::Lock> lock =
      TRY(files.AcquireLock(std::string(kLockPath), StoreFiles::LockMode::kExclusive,
                            fmt::format("pid {}, which makes the store", ::getpid())));
  for (const char* directory : {"packs", "objects", "snapshots", "tmp"}) {
    TRY(files.CreateDirectory(directory));
  }
  for (const std::string& name : TRY(files.List("tmp"))) {
    TRY(files.Remove("tmp/" + name));
  }
  TRY(files.SyncDirectory("."));
  StoreHeader header;
  if (::getrandom(header.uid.data(), header.uid.size(), 0) !=
      static_cast<ssize_t>(header.uid.size())) {
    return Error::FromErrno(errno, "the kernel has no random numbers for the store's id");
  }
  if (key != nullptr) {
    secret = secret == nullptr ? StoreSecret::Random() : std::move(secret);
    header.cipher = StoreCipher::kAes256Gcm;
    header.key_check = secret->NewKeyCheck();
    TRY(files.CreateDirectory("keys"));
    TRY(WriteWholeFile(files, std::string(kStoreKeyPath), secret->Wrap(*key)));
    TRY(files.SyncDirectory("keys"));
    TRY(files.SyncDirectory("."));
  }
  TRY(WriteWholeFile(files, std::string(kHeaderPath), EncodeStoreHeader(header)));
  return files.SyncDirectory(".");
}

Result<std::shared_ptr<const StoreSecret>> Store::SecretOfExport(std::span<const uint8_t> beginning,
                                                                 const StoreKey* key) {
  static_assert(kExportBeginningBytes >= kExportHeaderBytes + kExportKeyBytes);
  if (beginning.size() < kExportHeaderBytes) {
    return Error::Make(ErrorCode::kCorrupt, "this is no exported snapshot");
  }
  const ExportHeader header = TRY(DecodeExportHeader(beginning.first(kExportHeaderBytes)));
  if (header.cipher == StoreCipher::kNone) {
    return std::shared_ptr<const StoreSecret>();
  }
  if (key == nullptr) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "the export is encrypted: name the key file of the store that it came from "
                       "(--key FILE)");
  }
  if (beginning.size() < kExportHeaderBytes + kExportKeyBytes) {
    return Error::Make(ErrorCode::kCorrupt, "the export ends at byte {}, too early",
                       beginning.size());
  }
  Result<std::shared_ptr<const StoreSecret>> secret = StoreSecret::Unwrap(
      beginning.subspan(kExportHeaderBytes + kKeyCheckBytes, kStoreKeyFileBytes), *key);
  if (!secret.ok() && secret.error().code() == ErrorCode::kPermissionDenied) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "this is not the key of the store that the export came from");
  }
  return secret;
}

Result<std::unique_ptr<Store>> Store::Open(std::shared_ptr<StoreFiles> files,
                                           std::string_view owner,
                                           std::shared_ptr<const StoreKey> key) {
  StoreTuning tuning;
  tuning.key = std::move(key);
  tuning.owner = owner;
  tuning.lock_wait_ms = 5000;
  tuning.prune_pause_ms = 30;
  return OpenStore(std::move(files), tuning);
}

Result<std::unique_ptr<Store>> OpenStore(std::shared_ptr<StoreFiles> files,
                                         const StoreTuning& tuning) {
  std::shared_ptr<StoreCore> core = TRY(StoreCore::Open(std::move(files), tuning));
  return std::unique_ptr<Store>(std::make_unique<FileStore>(std::move(core)));
}

}  // namespace pacsvisor
