// A raw disk image, or a block device of the host: opened, measured, claimed. What is stored in it
// is the guest's and is never looked at. Threads: any; constant after Open.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"
#include "vmm/disk/image_lock.h"

namespace pacsvisor {

enum class DiskCache {
  kWriteback,  // through the host's page cache; durable when the guest flushes
  kNone,       // past it (O_DIRECT), where the file system can; durable when the guest flushes
};

struct DiskImageOptions {
  std::filesystem::path path;
  bool read_only = false;
  DiskCache cache = DiskCache::kWriteback;
  bool with_layers = false;  // whoever opens it looks into its layers too (LayeredDisk)
  ImageOwner owner;
};

class DiskImage {
 public:
  // What O_DIRECT wants of addresses, and of offsets and sizes; powers of two.
  struct Alignment {
    uint32_t memory_bytes = 4096;
    uint32_t offset_bytes = 4096;
  };

  // Refused: what is neither a file nor a block device, sizes that are 0 or not a multiple of 512,
  // an image in use by another machine (kBusy, its name in the message), one whose layers are not
  // merged (kBusy) unless the caller takes them over and may write.
  static Result<DiskImage> Open(const DiskImageOptions& options);

  const std::filesystem::path& path() const { return path_; }
  uint64_t size_bytes() const { return size_bytes_; }
  bool read_only() const { return read_only_; }
  bool is_block_device() const { return is_block_device_; }
  // Whether there may be layers beside it: opened for somebody who looks into them.
  bool with_layers() const { return with_layers_; }
  int fd() const { return fd_.get(); }
  // The same file with O_DIRECT; -1 without.
  int direct_fd() const { return direct_fd_.get(); }
  const Alignment& direct_alignment() const { return direct_alignment_; }

 private:
  DiskImage(std::filesystem::path path, bool read_only, ImageLock lock)
      : path_(std::move(path)), read_only_(read_only), lock_(std::move(lock)) {}
  Status Measure();
  void OpenDirect();

  std::filesystem::path path_;
  bool read_only_;
  bool is_block_device_ = false;
  bool with_layers_ = false;
  uint64_t size_bytes_ = 0;
  Alignment direct_alignment_;
  ImageLock lock_;
  UniqueFd fd_;
  UniqueFd direct_fd_;
};

}  // namespace pacsvisor
