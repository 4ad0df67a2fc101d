#include "vmm/cli/disk_facts.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "vmm/base/unique_fd.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/disk/image_lock.h"
#include "vmm/disk/layer_directory.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kStatBlockBytes = 512;  // stat(2), st_blocks

// Where machines of this user note what they hold; empty when there is none.
std::string RecordDirectory() {
  const Result<std::string> base = RuntimeBase();
  if (!base.ok() || access(base->c_str(), F_OK) != 0) {
    return "";
  }
  const Result<std::string> directory = ImageRecordDirectory(*base);
  return directory.ok() ? *directory : "";
}

}  // namespace

Status CheckUnused(const std::string& path) {
  const std::string holders = TRY(HoldersOfImage(path, RecordDirectory()));
  if (!holders.empty()) {
    return Error::Make(ErrorCode::kBusy, "'{}' is in use by {}: stop that first", path, holders);
  }
  return {};
}

std::string LayerDirectoryOf(const std::string& path) { return path + ".layers"; }

bool HasLayers(const std::string& path) {
  return access((LayerDirectoryOf(path) + "/map").c_str(), F_OK) == 0;
}

Result<DiskFacts> InspectDisk(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status = {};
  if (!fd.valid() || fstat(fd.get(), &status) != 0) {
    return Error::FromErrno(errno, "cannot open '{}'", path);
  }
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' is neither a file nor a block device: name a disk image", path);
  }
  DiskFacts facts{.is_block_device = S_ISBLK(status.st_mode),
                  .size_bytes = static_cast<uint64_t>(status.st_size),
                  .allocated_bytes = static_cast<uint64_t>(status.st_blocks) * kStatBlockBytes};
  if (facts.is_block_device && ioctl(fd.get(), BLKGETSIZE64, &facts.size_bytes) != 0) {
    return Error::FromErrno(errno, "cannot measure '{}'", path);
  }
  std::array<uint8_t, kImageHeadBytes> head;
  const ssize_t count = pread(fd.get(), head.data(), head.size(), 0);
  if (count < 0) {
    return Error::FromErrno(errno, "cannot read '{}'", path);
  }
  facts.foreign = KindOfForeignImage(std::span(head).first(static_cast<size_t>(count)));
  facts.holders = TRY(HoldersOfImage(path, RecordDirectory()));
  facts.has_layers = HasLayers(path);
  if (facts.has_layers) {
    const Result<std::string> source = LayerDirectory::SourceOf(path);
    facts.source = source.ok() ? *source : std::string();
  }
  return facts;
}

}  // namespace pacsvisor
