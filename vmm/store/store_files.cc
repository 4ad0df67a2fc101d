#include "vmm/store/store_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

constexpr size_t kMostWordsBytes = 255;
constexpr int kMostLockTries = 1000;
// A file is written out in such parts while it grows.
constexpr uint64_t kWriteOutBytes = 8 * kMiB;
// A store holds the memory of guests: patients' data, passwords.
constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

// What the user can do about the commonest failures of a store's disk.
std::string_view Advice(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return " (make room there, or give the store another disk)";
    case EROFS:
      return " (its file system is mounted read-only)";
    case EACCES:
    case EPERM:
      return " (this user may not; the store's directory and all in it must be the user's)";
    case EMFILE:
    case ENFILE:
      return " (too many files are open; raise the limit: ulimit -n)";
    default:
      return "";
  }
}

class HostFile : public StoreFile {
 public:
  HostFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<uint64_t> SizeBytes() override {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) {
      return Failure("cannot look at");
    }
    return static_cast<uint64_t>(status.st_size);
  }

  Status ReadAt(uint64_t offset_bytes, std::span<uint8_t> bytes) override {
    while (!bytes.empty()) {
      const ssize_t got =
          ::pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
      if (got < 0 && errno == EINTR) {
        continue;
      }
      if (got < 0) {
        return Failure("cannot read");
      }
      if (got == 0) {
        return Error::Make(ErrorCode::kCorrupt, "{} ends at byte {}, too early", path_,
                           offset_bytes);
      }
      offset_bytes += static_cast<uint64_t>(got);
      bytes = bytes.subspan(static_cast<size_t>(got));
    }
    return {};
  }

  Status Append(std::span<const uint8_t> bytes) override {
    while (!bytes.empty()) {
      const ssize_t put = ::write(fd_.get(), bytes.data(), bytes.size());
      if (put < 0 && errno == EINTR) {
        continue;
      }
      if (put < 0) {
        return Failure("cannot write");
      }
      bytes = bytes.subspan(static_cast<size_t>(put));
      appended_ += static_cast<uint64_t>(put);
    }
    return appended_ - begun_ >= kWriteOutBytes ? WriteOut() : Status();
  }

  Status Sync() override {
    return ::fdatasync(fd_.get()) == 0 ? Status() : Status(Failure("cannot sync"));
  }

 private:
  // Begins with what has come since, and waits for what was begun before. What of it the page cache
  // holds unwritten is two parts at most: little for Sync to wait for, and nothing that holds up
  // other writers of this host, the guest's disks among them, when the kernel finds too much of it.
  Status WriteOut() {
    const auto range = [this](uint64_t from, uint64_t to, unsigned flags) {
      return to == from || ::sync_file_range(fd_.get(), static_cast<off_t>(from),
                                             static_cast<off_t>(to - from), flags) == 0;
    };
    const bool done =
        range(begun_, appended_, SYNC_FILE_RANGE_WRITE) &&
        range(waited_, begun_,
              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    // A file system may not know it (ENOSYS, EINVAL, ESPIPE: nothing was tried).
    if (!done && (errno == EIO || errno == ENOSPC || errno == EDQUOT)) {
      return Failure("cannot write");
    }
    waited_ = std::exchange(begun_, appended_);
    return {};
  }

  Error Failure(std::string_view what) const {
    const int error_number = errno;
    return Error::FromErrno(error_number, "{} {}{}", what, path_, Advice(error_number));
  }

  const UniqueFd fd_;
  const std::string path_;
  // Of a new file, by whoever appends: to where it has come, to where it is being written out, and
  // to where it is.
  uint64_t appended_ = 0;
  uint64_t begun_ = 0;
  uint64_t waited_ = 0;
};

class HostLock : public StoreFiles::Lock {
 public:
  explicit HostLock(UniqueFd fd) : fd_(std::move(fd)) {}

 private:
  const UniqueFd fd_;  // the lock is the open file description's
};

struct Owner {
  uid_t user = 0;
  gid_t group = 0;
};

class HostFiles : public StoreFiles {
 public:
  // `owner`: whom new files are given to, when that is not whoever makes them.
  HostFiles(UniqueFd directory, std::string name, std::optional<Owner> owner)
      : directory_(std::move(directory)), name_(std::move(name)), owner_(owner) {}

  std::string name() const override { return name_; }

  Result<std::vector<std::string>> List(const std::string& directory) override {
    UniqueFd fd = TRY(Open(directory, O_RDONLY | O_DIRECTORY, "cannot list"));
    struct CloseStream {
      void operator()(DIR* stream) const { ::closedir(stream); }
    };
    const std::unique_ptr<DIR, CloseStream> stream(::fdopendir(fd.get()));
    if (stream == nullptr) {
      return Failure("cannot list", directory);
    }
    (void)fd.Release();  // the stream's now
    std::vector<std::string> names;
    for (errno = 0; const dirent* entry = ::readdir(stream.get()); errno = 0) {
      const std::string_view entry_name(entry->d_name);
      if (entry_name != "." && entry_name != "..") {
        names.emplace_back(entry_name);
      }
    }
    if (errno != 0) {
      return Failure("cannot list", directory);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<std::unique_ptr<StoreFile>> OpenForRead(const std::string& path) override {
    UniqueFd fd = TRY(Open(path, O_RDONLY, "cannot open"));
    return std::unique_ptr<StoreFile>(std::make_unique<HostFile>(std::move(fd), FullName(path)));
  }

  Result<std::unique_ptr<StoreFile>> CreateFile(const std::string& path) override {
    Result<UniqueFd> fd = Open(path, O_RDWR | O_CREAT | O_EXCL | O_APPEND, "cannot make");
    if (!fd.ok() && fd.error().error_number() == EEXIST) {
      return Error::Make(ErrorCode::kBusy, "{} is there already", FullName(path));
    }
    UniqueFd file = TRY(std::move(fd));
    return std::unique_ptr<StoreFile>(std::make_unique<HostFile>(std::move(file), FullName(path)));
  }

  Status Rename(const std::string& from, const std::string& to) override {
    CheckPath(from);
    CheckPath(to);
    return ::renameat(directory_.get(), from.c_str(), directory_.get(), to.c_str()) == 0
               ? Status()
               : Status(Failure("cannot rename to", to));
  }

  Status Remove(const std::string& path) override {
    CheckPath(path);
    return ::unlinkat(directory_.get(), path.c_str(), 0) == 0
               ? Status()
               : Status(Failure("cannot remove", path));
  }

  Status Overwrite(const std::string& path) override {
    const UniqueFd fd = TRY(Open(path, O_WRONLY, "cannot open"));
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) {
      return Failure("cannot look at", path);
    }
    const std::array<uint8_t, 4096> zeroes = {};
    for (off_t at = 0; at < status.st_size;) {
      const size_t part = std::min(zeroes.size(), static_cast<size_t>(status.st_size - at));
      const ssize_t put = ::pwrite(fd.get(), zeroes.data(), part, at);
      if (put < 0 && errno != EINTR) {
        return Failure("cannot overwrite", path);
      }
      at += std::max<ssize_t>(put, 0);
    }
    return ::fdatasync(fd.get()) == 0 ? Status() : Status(Failure("cannot sync", path));
  }

  Status CreateDirectory(const std::string& path) override {
    CheckPath(path);
    if (::mkdirat(directory_.get(), path.c_str(), kDirectoryMode) != 0) {
      return errno == EEXIST ? Status() : Status(Failure("cannot make", path));
    }
    GiveAway(path);
    return {};
  }

  Status SyncDirectory(const std::string& path) override {
    const UniqueFd fd = TRY(Open(path, O_RDONLY | O_DIRECTORY, "cannot sync"));
    return ::fsync(fd.get()) == 0 ? Status() : Status(Failure("cannot sync", path));
  }

  Result<std::unique_ptr<Lock>> AcquireLock(const std::string& path, LockMode mode,
                                            const std::string& words) override {
    UniqueFd fd;
    bool current = false;
    for (int tries = 0; !current; ++tries) {
      if (tries == kMostLockTries) {
        return Error::Make(ErrorCode::kUnsupported,
                           "cannot lock {}: the file that has this name changes all the time",
                           FullName(path));
      }
      fd = TRY(Open(path, O_RDWR | O_CREAT, "cannot open"));
      struct flock lock {};
      lock.l_type = mode == LockMode::kExclusive ? F_WRLCK : F_RDLCK;
      lock.l_whence = SEEK_SET;  // from 0 to 0: the whole file, however long it grows
      if (::fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
        if (errno != EAGAIN && errno != EACCES) {
          return Failure("cannot lock (the file system must support locks)", path);
        }
        return Error::Make(ErrorCode::kBusy,
                           "{} is locked by {}; wait until it is done, or end it if it hangs",
                           FullName(path), Holder(fd.get()));
      }
      // It may have been removed by its last holder since it was opened.
      struct stat named {};
      struct stat opened {};
      current = ::fstat(fd.get(), &opened) == 0 &&
                ::fstatat(directory_.get(), path.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
                named.st_ino == opened.st_ino && named.st_dev == opened.st_dev;
    }
    const std::string_view text = std::string_view(words).substr(0, kMostWordsBytes);
    if (::ftruncate(fd.get(), 0) != 0 ||
        ::pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
      return Failure("cannot write", path);
    }
    return std::unique_ptr<Lock>(std::make_unique<HostLock>(std::move(fd)));
  }

 private:
  // Whatever is passed in is the store's own name for something, never a user's.
  static void CheckPath(const std::string& path) {
    CHECK(!path.empty() && path.front() != '/' && path.find("..") == std::string::npos, "{}", path);
  }

  std::string FullName(const std::string& path) const { return name_ + "/" + path; }

  Error Failure(std::string_view what, const std::string& path) const {
    const int error_number = errno;
    return Error::FromErrno(error_number, "{} {}{}", what, FullName(path), Advice(error_number));
  }

  Result<UniqueFd> Open(const std::string& path, int flags, std::string_view what) const {
    CheckPath(path);
    UniqueFd fd(::openat(directory_.get(), path.c_str(),
                         flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kFileMode));
    if (!fd.valid()) {
      return Failure(what, path);
    }
    if ((flags & O_CREAT) != 0) {
      GiveAway(path);
    }
    return fd;
  }

  // What root makes in a user's store is the user's; who may not give it has lost nothing.
  void GiveAway(const std::string& path) const {
    if (owner_.has_value()) {
      const int given = ::fchownat(directory_.get(), path.c_str(), owner_->user, owner_->group,
                                   AT_SYMLINK_NOFOLLOW);
      (void)given;
    }
  }

  static std::string Holder(int fd) {
    std::array<char, kMostWordsBytes> text;
    const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
    return size > 0 ? std::string(text.data(), static_cast<size_t>(size))
                    : "another program (lslocks(8) may name it)";
  }

  const UniqueFd directory_;
  const std::string name_;
  const std::optional<Owner> owner_;
};

}  // namespace

Result<std::shared_ptr<StoreFiles>> StoreFiles::OpenDirectory(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    const int error_number = errno;
    return Error::FromErrno(error_number, "cannot open the store's directory {}{}", path,
                            Advice(error_number));
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) {
    return Error::FromErrno(errno, "cannot look at the store's directory {}", path);
  }
  std::optional<Owner> owner;
  if (::geteuid() == 0 && status.st_uid != 0) {
    owner = {.user = status.st_uid, .group = status.st_gid};
  }
  return std::shared_ptr<StoreFiles>(std::make_shared<HostFiles>(std::move(fd), path, owner));
}

}  // namespace pacsvisor
