#include "vmm/cli/new_disk_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "vmm/cli/disk_facts.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;

Error Exists(const std::string& path) {
  return Error::Make(ErrorCode::kBusy,
                     "'{}' is there already: choose another name, or --force replaces it", path);
}

// What may be replaced, and is claimed until it is.
Result<ImageLock> ClaimOld(const std::string& path, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is no file and is not replaced: choose another name", path);
  }
  TRY(CheckUnused(path));
  return ImageLock::Acquire(path, ImageLock::Mode::kExclusive, {});
}

Status SyncDirectory(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) {
    return Error::FromErrno(errno, "cannot make a new name in '{}' durable", path);
  }
  return {};
}

// RENAME_NOREPLACE, where the file system has it.
int RenameToNew(const char* from, const char* to) {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
    return 0;
  }
  return errno == EINVAL && access(to, F_OK) != 0 ? rename(from, to) : -1;
}

}  // namespace

Result<NewDiskFile> NewDiskFile::Create(const std::string& path, Existing existing) {
  std::error_code error;
  const fs::path absolute = fs::absolute(path, error);
  if (error || !absolute.has_filename()) {
    return Error::Make(ErrorCode::kInvalidArgument, "'{}' names no file", path);
  }
  if (HasLayers(path)) {
    return Error::Make(
        ErrorCode::kBusy,
        "'{}' holds what a machine last wrote to an earlier disk of this name: a new "
        "one would be taken for it; move or remove that directory first",
        LayerDirectoryOf(path));
  }
  std::optional<ImageLock> replaced;
  struct stat status = {};
  if (lstat(path.c_str(), &status) == 0) {
    if (existing == Existing::kRefuse) {
      return Exists(path);
    }
    replaced = TRY(ClaimOld(path, status));
  }
  const std::string temporary =
      (absolute.parent_path() / fmt::format(".{}.{}.part", absolute.filename().string(), getpid()))
          .string();
  UniqueFd fd(open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot create a file in '{}'", absolute.parent_path().string());
  }
  NewDiskFile file(absolute.string(), temporary, std::move(fd), existing);
  file.replaced_ = std::move(replaced);
  return file;
}

NewDiskFile::NewDiskFile(NewDiskFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::exchange(other.temporary_path_, {})),
      fd_(std::move(other.fd_)),
      existing_(other.existing_),
      replaced_(std::move(other.replaced_)) {}

NewDiskFile::~NewDiskFile() {
  if (!temporary_path_.empty()) {
    unlink(temporary_path_.c_str());
  }
}

Status NewDiskFile::Finish() {
  if (fsync(fd_.get()) != 0) {
    return Error::FromErrno(errno, "cannot write '{}'", path_);
  }
  const int renamed = existing_ == Existing::kReplace
                          ? rename(temporary_path_.c_str(), path_.c_str())
                          : RenameToNew(temporary_path_.c_str(), path_.c_str());
  if (renamed != 0) {
    return errno == EEXIST ? Exists(path_) : Error::FromErrno(errno, "cannot create '{}'", path_);
  }
  temporary_path_.clear();
  return SyncDirectory(fs::path(path_).parent_path().string());
}

}  // namespace pacsvisor
