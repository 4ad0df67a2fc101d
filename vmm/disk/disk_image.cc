#include "vmm/disk/disk_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "vmm/base/align.h"
#include "vmm/base/log.h"
#include "vmm/disk/block_request.h"
#include "vmm/disk/layer_directory.h"

namespace pacsvisor {
namespace {

Error OpenError(const std::filesystem::path& path, int error_number, bool read_only) {
  Error error = Error::FromErrno(error_number, "cannot open disk image {}", path.string());
  if (!read_only && (error_number == EACCES || error_number == EROFS || error_number == EPERM)) {
    return Error::Make(error.code(),
                       "{}; make it writable, or set 'read_only = true' for this disk",
                       error.message());
  }
  return error;
}

// A fifo or a device that hangs on open must not: the type is looked at first.
Status CheckType(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    return Error::FromErrno(errno, "cannot open disk image {}", path.string());
  }
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "disk image {} is neither a file nor a block device", path.string());
  }
  return {};
}

// Without its layers the image is an old state of the disk, in parts: whoever wrote to it would mix
// the two.
Status CheckLayers(const DiskImageOptions& options) {
  if ((!options.with_layers || options.read_only) && LayerDirectory::HoldsLayers(options.path)) {
    const Result<std::string> source = LayerDirectory::SourceOf(options.path);
    if (source.ok() && !source->empty()) {
      return Error::Make(
          ErrorCode::kBusy,
          "disk image {} is not whole: it was restored, and what is missing is still "
          "to be fetched from {}: run it once, writable, with pacsvisor, which does",
          options.path.string(), *source);
    }
    return Error::Make(ErrorCode::kBusy,
                       "disk image {} has layers that are not merged into it (its machine was "
                       "killed), in {}.layers: run it once, writable, with pacsvisor, which merges "
                       "them",
                       options.path.string(), options.path.string());
  }
  return {};
}

}  // namespace

Result<DiskImage> DiskImage::Open(const DiskImageOptions& options) {
  TRY(CheckType(options.path));
  const int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  UniqueFd fd(::open(options.path.c_str(), flags));
  if (!fd.valid()) {
    return OpenError(options.path, errno, options.read_only);
  }
  DiskImage image(
      options.path, options.read_only,
      TRY(ImageLock::Acquire(
          options.path, options.read_only ? ImageLock::Mode::kShared : ImageLock::Mode::kExclusive,
          options.owner)));
  // Behind the lock: a machine that runs is named as such.
  TRY(CheckLayers(options));
  image.fd_ = std::move(fd);
  image.with_layers_ = options.with_layers && !options.read_only;
  TRY(image.Measure());
  if (options.cache == DiskCache::kNone) {
    image.OpenDirect();
  }
  return image;
}

Status DiskImage::Measure() {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) {
    return Error::FromErrno(errno, "cannot measure disk image {}", path_.string());
  }
  is_block_device_ = S_ISBLK(status.st_mode);
  size_bytes_ = static_cast<uint64_t>(status.st_size);
  if (is_block_device_ && ::ioctl(fd_.get(), BLKGETSIZE64, &size_bytes_) != 0) {
    return Error::FromErrno(errno, "cannot measure block device {}", path_.string());
  }
  if (size_bytes_ == 0) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "disk image {} is empty; give it a size ('truncate -s 10G {}')",
                       path_.string(), path_.string());
  }
  if (!IsAligned(size_bytes_, kSectorSizeBytes)) {
    return Error::Make(
        ErrorCode::kInvalidArgument,
        "disk image {} has {} bytes, which is not a multiple of 512: it is cut short "
        "or not a raw image; if it is, 'truncate -s {} {}' rounds it up",
        path_.string(), size_bytes_, AlignUp(size_bytes_, kSectorSizeBytes), path_.string());
  }
  return {};
}

void DiskImage::OpenDirect() {
  direct_fd_.Reset(::open(path_.c_str(), (read_only_ ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC));
  if (!direct_fd_.valid()) {
    Log(LogLevel::kWarning,
        "disk image {}: its file system refuses O_DIRECT ({}); cache = \"writeback\" is used",
        path_.string(), Error::FromErrno(errno, "open").message());
    return;
  }
  struct statx status {};
  if (::statx(direct_fd_.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0 && IsPowerOfTwo(status.stx_dio_mem_align) &&
      IsPowerOfTwo(status.stx_dio_offset_align)) {
    direct_alignment_ = {status.stx_dio_mem_align, status.stx_dio_offset_align};
  }
}

}  // namespace pacsvisor
