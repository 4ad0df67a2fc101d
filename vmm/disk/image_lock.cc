#include "vmm/disk/image_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

bool LockFile(int fd, short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;  // from 0 to 0: the whole file, however long it grows
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// What the records of an image are named after, whichever path leads to it.
std::optional<std::string> RecordPrefix(int image) {
  struct stat status {};
  if (::fstat(image, &status) != 0) {
    return std::nullopt;
  }
  return S_ISBLK(status.st_mode) ? fmt::format("device-{:x}.", status.st_rdev)
                                 : fmt::format("file-{:x}-{:x}.", status.st_dev, status.st_ino);
}

// The text of a record whose writer lives; a leftover is removed.
std::optional<std::string> ReadRecord(const fs::path& path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) {
    return std::nullopt;
  }
  if (LockFile(file.get(), F_WRLCK)) {
    ::unlink(path.c_str());
    return std::nullopt;
  }
  std::array<char, 256> text;
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  return size > 0 ? std::optional(std::string(text.data(), static_cast<size_t>(size)))
                  : std::nullopt;
}

std::string DescribeHolders(int image, const fs::path& record_directory) {
  const std::optional<std::string> prefix = RecordPrefix(image);
  std::string holders;
  std::error_code error;
  if (prefix.has_value() && !record_directory.empty()) {
    for (fs::directory_iterator entry(record_directory, error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->path().filename().string().starts_with(*prefix)) {
        if (const std::optional<std::string> text = ReadRecord(entry->path())) {
          holders += (holders.empty() ? "" : ", ") + *text;
        }
      }
    }
  }
  return holders.empty() ? "another program (lslocks(8) and fuser(1) may name it)" : holders;
}

// Written under a hidden name, locked, then renamed: no reader ever meets an unlocked new record.
Result<std::pair<UniqueFd, fs::path>> WriteRecord(int image, const ImageOwner& owner) {
  static std::atomic<unsigned> counter = 0;
  const std::optional<std::string> prefix = RecordPrefix(image);
  std::error_code error;
  fs::create_directories(owner.record_directory, error);
  const std::string name =
      fmt::format("{}{}-{}", prefix.value_or("unknown."), ::getpid(), counter.fetch_add(1));
  const fs::path hidden = owner.record_directory / ("." + name);
  const fs::path path = owner.record_directory / name;
  UniqueFd file(::open(hidden.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  const std::string text = fmt::format("machine '{}' (pid {})", owner.machine.substr(0, 128),
                                       owner.pid != 0 ? owner.pid : int64_t{::getpid()});
  if (!file.valid() || !LockFile(file.get(), F_WRLCK) ||
      ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::rename(hidden.c_str(), path.c_str()) != 0) {
    const int error_number = errno;
    ::unlink(hidden.c_str());
    return Error::FromErrno(error_number, "cannot write {}", path.string());
  }
  return std::pair(std::move(file), path);
}

}  // namespace

void RemoveStaleImageRecords(const fs::path& record_directory) {
  std::error_code error;
  for (fs::directory_iterator entry(record_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!entry->path().filename().string().starts_with('.')) {  // one that is being written
      ReadRecord(entry->path());
    }
  }
}

Result<std::string> HoldersOfImage(const fs::path& image, const fs::path& record_directory) {
  const UniqueFd file(::open(image.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct flock lock {};
  lock.l_type = F_WRLCK;  // which any claim stands against
  lock.l_whence = SEEK_SET;
  if (!file.valid() || ::fcntl(file.get(), F_OFD_GETLK, &lock) != 0) {
    return Error::FromErrno(errno, "cannot ask who uses disk image {}", image.string());
  }
  return lock.l_type == F_UNLCK ? std::string() : DescribeHolders(file.get(), record_directory);
}

Result<ImageLock> ImageLock::Acquire(const fs::path& image, Mode mode, const ImageOwner& owner) {
  const bool exclusive = mode == Mode::kExclusive;
  UniqueFd file(::open(image.c_str(), (exclusive ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) {
    return Error::FromErrno(errno, "cannot open disk image {}", image.string());
  }
  if (!LockFile(file.get(), exclusive ? F_WRLCK : F_RDLCK)) {
    if (errno != EAGAIN && errno != EACCES) {
      return Error::FromErrno(
          errno, "cannot lock disk image {} (its file system must support locks)", image.string());
    }
    return Error::Make(
        ErrorCode::kBusy,
        "disk image {} is in use by {}; stop that first, or give this machine a copy "
        "of its own",
        image.string(), DescribeHolders(file.get(), owner.record_directory));
  }
  ImageLock lock(std::move(file));
  if (!owner.record_directory.empty()) {
    Result<std::pair<UniqueFd, fs::path>> record = WriteRecord(lock.image_.get(), owner);
    if (record.ok()) {
      lock.record_ = std::move(record->first);
      lock.record_path_ = std::move(record->second);
    } else {
      Log(LogLevel::kWarning, "{}; the lock on {} stands, but nobody will know whose it is",
          record.error().message(), image.string());
    }
  }
  return lock;
}

ImageLock& ImageLock::operator=(ImageLock&& other) noexcept {
  RemoveRecord();
  image_ = std::move(other.image_);
  record_ = std::move(other.record_);
  record_path_ = std::exchange(other.record_path_, {});
  return *this;
}

ImageLock::~ImageLock() { RemoveRecord(); }

void ImageLock::RemoveRecord() {
  if (record_.valid()) {
    ::unlink(record_path_.c_str());
  }
}

}  // namespace pacsvisor
