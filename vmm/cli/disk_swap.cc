#include "vmm/cli/disk_swap.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "vmm/cli/disk_facts.h"
#include "vmm/cli/dropped_disk.h"
#include "vmm/control/untrusted_json.h"

namespace pacsvisor {
namespace internal {

std::function<void(const std::string&)> before_swap_step;

}  // namespace internal

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kRecordLimitBytes = 1 << 20;
constexpr char kRestoreWord[] = "restore";
constexpr char kPutBackWord[] = "put back";

std::string RecordName(const MachineConfig& config) {
  return config.disks.empty() ? std::string() : config.disks.front().path + ".swap";
}

void Step(const std::string& what) {
  if (internal::before_swap_step) {
    internal::before_swap_step(what);
  }
}

bool IsThere(const std::string& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0;
}

Status SyncFolderOf(const std::string& path) {
  const std::string folder = fs::absolute(path).parent_path().string();
  const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) {
    return Error::FromErrno(errno, "cannot make names in '{}' durable", folder);
  }
  return {};
}

Status Rename(const std::string& from, const std::string& to) {
  Step("rename to " + to);
  if (rename(from.c_str(), to.c_str()) != 0) {
    return Error::FromErrno(errno, "cannot give '{}' the name '{}'", from, to);
  }
  return {};
}

// From here on the exchange is finished by whoever comes.
Status WriteRecord(const MachineConfig& config, SwapDirection direction) {
  Json record = {{"swap", direction == SwapDirection::kRestore ? kRestoreWord : kPutBackWord},
                 {"disks", Json::array()}};
  for (const DiskConfig& disk : config.disks) {
    // Paths are bytes, and only compared.
    record["disks"].push_back(std::vector<uint8_t>(disk.path.begin(), disk.path.end()));
  }
  const std::string text = record.dump();
  const std::string path = RecordName(config);
  const std::string temporary = path + ".part";
  Step("write " + temporary);
  const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd.valid() ||
      write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      fsync(fd.get()) != 0) {
    return Error::FromErrno(errno, "cannot write '{}'", temporary);
  }
  TRY(Rename(temporary, path));
  return SyncFolderOf(path);
}

Result<std::string> ReadRecord(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  std::string text(kRecordLimitBytes, '\0');
  const ssize_t size = fd.valid() ? read(fd.get(), text.data(), text.size()) : -1;
  if (size < 0) {
    return Error::FromErrno(errno, "cannot read '{}'", path);
  }
  text.resize(static_cast<size_t>(size));
  return text;
}

// kCorrupt: it is not of the disks of `config`.
Result<SwapDirection> DirectionOf(const std::string& text, const MachineConfig& config) {
  const Json record = TRY(ParseUntrustedJson(text, kRecordLimitBytes));
  Json disks = Json::array();
  for (const DiskConfig& disk : config.disks) {
    disks.push_back(std::vector<uint8_t>(disk.path.begin(), disk.path.end()));
  }
  const bool known = record.is_object() && record.contains("swap") && record.contains("disks") &&
                     (record["swap"] == kRestoreWord || record["swap"] == kPutBackWord);
  if (!known || record["disks"] != disks) {
    return Error::Make(ErrorCode::kCorrupt,
                       "'{}' says that disks are being exchanged, and not that it is these: a "
                       "roll-back was cut short under another configuration; start the machine "
                       "with that one first",
                       RecordName(config));
  }
  return record["swap"] == kRestoreWord ? SwapDirection::kRestore : SwapDirection::kPutBack;
}

// The image comes last: as long as it is where it was, the move is not done.
Status MoveDisk(const std::string& from, const std::string& to) {
  struct stat status = {};
  // The layers of one that is reached by a link are beside the file itself, which stays.
  const bool link = lstat(from.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
  if (!link && IsThere(LayerDirectoryOf(from))) {
    TRY(Rename(LayerDirectoryOf(from), LayerDirectoryOf(to)));
    TRY(SyncFolderOf(from));
  }
  return Rename(from, to);
}

// As often as need be: what is done already shows in the names.
Status Exchange(const MachineConfig& config, SwapDirection direction) {
  for (const DiskConfig& disk : config.disks) {
    const bool restore = direction == SwapDirection::kRestore;
    const std::string comes = restore ? RestoredName(disk.path) : ReplacedName(disk.path);
    const std::string goes = restore ? ReplacedName(disk.path) : RestoredName(disk.path);
    if (!IsThere(comes)) {
      continue;
    }
    if (IsThere(disk.path)) {
      TRY(MoveDisk(disk.path, goes));
    }
    TRY(MoveDisk(comes, disk.path));
    TRY(SyncFolderOf(disk.path));
  }
  const std::string record = RecordName(config);
  Step("remove " + record);
  if (unlink(record.c_str()) != 0) {
    return Error::FromErrno(errno, "cannot remove '{}'", record);
  }
  return SyncFolderOf(record);
}

}  // namespace

std::string RestoredName(const std::string& disk) { return disk + ".restored"; }
std::string ReplacedName(const std::string& disk) { return disk + ".replaced"; }

Status SwapDisks(const MachineConfig& config, SwapDirection direction) {
  if (config.disks.empty()) {
    return {};
  }
  for (const DiskConfig& disk : config.disks) {
    const std::string comes =
        direction == SwapDirection::kRestore ? RestoredName(disk.path) : ReplacedName(disk.path);
    if (!IsThere(comes)) {
      return Error::Make(ErrorCode::kNotFound, "'{}' is not there: no disk was exchanged", comes);
    }
  }
  if (direction == SwapDirection::kRestore) {
    DropReplacedDisks(config);  // of a restore that was killed: nobody shall meet them again
  }
  TRY(WriteRecord(config, direction));
  return Exchange(config, direction);
}

Status FinishDiskSwap(const MachineConfig& config) {
  const std::string path = RecordName(config);
  if (path.empty() || !IsThere(path)) {
    return {};
  }
  const std::string text = TRY(ReadRecord(path));
  return Exchange(config, TRY(DirectionOf(text, config)));
}

void DropReplacedDisks(const MachineConfig& config) {
  for (const DiskConfig& disk : config.disks) {
    DropDisk(ReplacedName(disk.path));
  }
}

Result<RestoredFiles> RestoredFiles::Create(const std::vector<std::string>& disks) {
  RestoredFiles files;
  for (const std::string& disk : disks) {
    const std::string path = RestoredName(disk);
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) {
      return Error::FromErrno(errno, "cannot create '{}'", path);
    }
    struct stat ours = {};
    struct stat named = {};
    // Who had it before may have made a disk of it meanwhile: that is not ours to empty.
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0 || fstat(fd.get(), &ours) != 0 ||
        lstat(path.c_str(), &named) != 0 || ours.st_ino != named.st_ino || !S_ISREG(ours.st_mode)) {
      return Error::Make(ErrorCode::kBusy,
                         "'{}' is another process's, which restores the same machine: wait for it",
                         path);
    }
    files.files_.push_back({path, std::move(fd)});
    DropLayers(path);  // left by one that was killed
    if (ftruncate(files.files_.back().fd.get(), 0) != 0) {
      return Error::FromErrno(errno, "cannot empty '{}'", path);
    }
  }
  return files;
}

RestoredFiles::~RestoredFiles() {
  for (const File& file : files_) {
    struct stat ours = {};
    struct stat named = {};
    if (file.fd.valid() && fstat(file.fd.get(), &ours) == 0 &&
        lstat(file.path.c_str(), &named) == 0 && ours.st_ino == named.st_ino) {
      DropDisk(file.path);
    }
  }
}

Status RestoredFiles::Sync() {
  for (const File& file : files_) {
    if (fsync(file.fd.get()) != 0) {
      return Error::FromErrno(errno, "cannot write '{}'", file.path);
    }
    TRY(SyncFolderOf(file.path));
  }
  return {};
}

}  // namespace pacsvisor
