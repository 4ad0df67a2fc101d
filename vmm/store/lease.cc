#include "vmm/store/lease.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "vmm/base/log.h"
#include "vmm/store/store_core.h"

namespace pacsvisor {
namespace {

constexpr size_t kMostLeaseWordsBytes = 255;  // of a lock's file
constexpr int kMostLeaseTries = 1000;
constexpr std::string_view kAny = "*";

std::atomic<uint64_t> lease_counter = 0;

bool IsUnwritable(const Error& error) {
  switch (error.error_number()) {
    case EROFS:
    case EACCES:
    case EPERM:
    case ENOSPC:
    case EDQUOT:
      return true;
    default:
      return false;
  }
}

std::string LeaseWords(const std::string& owner, const std::optional<SnapshotId>& id) {
  const std::string what = id.has_value() ? id->Hex() : std::string(kAny);
  const std::string who = fmt::format("pid {}{}{}", ::getpid(), owner.empty() ? "" : ", ", owner);
  return who.substr(0, kMostLeaseWordsBytes - 1 - what.size()) + " " + what;
}

// Whoever is about to write its words holds whatever it may be.
LiveLease ReadLease(StoreFiles& files, const std::string& path) {
  LiveLease lease{.owner = "another program", .id = std::nullopt};
  const Result<std::vector<uint8_t>> bytes = ReadWholeFile(files, path, kMostLeaseWordsBytes);
  if (!bytes.ok()) {
    return lease;
  }
  const std::string words(bytes->begin(), bytes->end());
  const size_t space = words.rfind(' ');
  if (space != std::string::npos) {
    lease.owner = words.substr(0, space);
    lease.id = SnapshotId::FromHex(std::string_view(words).substr(space + 1));
  }
  return lease;
}

}  // namespace

Result<std::vector<LiveLease>> LiveLeases(StoreFiles& files) {
  std::vector<LiveLease> live;
  const Result<std::vector<std::string>> names = files.List("leases");
  if (!names.ok() && names.error().code() == ErrorCode::kNotFound) {
    return live;
  }
  for (const std::string& name : TRY(names)) {
    const std::string path = "leases/" + name;
    const Result<std::unique_ptr<StoreFiles::Lock>> lock =
        files.AcquireLock(path, StoreFiles::LockMode::kExclusive, "");
    if (lock.ok()) {
      TRY(files.Remove(path));  // nobody's; and ours until it is gone
    } else if (lock.error().code() == ErrorCode::kBusy) {
      live.push_back(ReadLease(files, path));
    } else {
      return lock.error();
    }
  }
  return live;
}

Result<std::unique_ptr<StoreFiles::Lock>> TakeLease(StoreFiles& files, const std::string& owner,
                                                    const std::optional<SnapshotId>& id) {
  const Status made = files.CreateDirectory("leases");
  if (made.ok()) {
    const Result<std::vector<LiveLease>> others = LiveLeases(files);  // for what it removes
    if (!others.ok()) {
      Log(LogLevel::kDebug, "leases of the dead are left: {}", others.error().message());
    }
  }
  const std::string words = LeaseWords(owner, id);
  Result<std::unique_ptr<StoreFiles::Lock>> lock = Error::Make(ErrorCode::kBusy, "no lease");
  for (int tries = 0; made.ok() && !lock.ok() && tries < kMostLeaseTries; ++tries) {
    // The number may be another's, of another host or namespace.
    const std::string path =
        fmt::format("leases/{}-{}", ::getpid(), lease_counter.fetch_add(1) + 1);
    lock = files.AcquireLock(path, StoreFiles::LockMode::kExclusive, words);
    if (!lock.ok() && lock.error().code() != ErrorCode::kBusy) {
      break;
    }
  }
  const Error* const error = !made.ok() ? &made.error() : !lock.ok() ? &lock.error() : nullptr;
  if (error != nullptr && IsUnwritable(*error)) {
    Log(LogLevel::kDebug, "reading the store without a lease: {}", error->message());
    return std::unique_ptr<StoreFiles::Lock>();
  }
  if (error != nullptr) {
    return *error;
  }
  return lock;
}

}  // namespace pacsvisor
