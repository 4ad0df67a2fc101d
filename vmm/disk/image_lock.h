// The claim of a machine on a disk image: an open-file-description lock (fcntl(2), F_OFD_SETLK) on
// the whole image, exclusive for writers, shared for readers. The kernel drops it with its holder,
// however that dies.
//
// The kernel does not tell who holds such a lock. So that an error can name the holder, each holder
// keeps a record beside: a file in a directory common to all machines of the host, named after the
// image's inode, which holds pid and machine name and is itself locked while its writer lives. A
// record that nobody locks is left over from a process that died; whoever meets one removes it.
//
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

struct ImageOwner {
  std::string machine;  // as errors shall name it
  // For the records; made when missing. Empty: no record is kept and holders remain unnamed.
  std::filesystem::path record_directory;
  int64_t pid = 0;  // by which errors shall name it; 0: this process's
};

// Takes away the records that nobody's life stands behind any more: of processes that were killed,
// or had not the right to.
void RemoveStaleImageRecords(const std::filesystem::path& record_directory);

// Who holds a claim on `image`, in words; empty: nobody. Takes none itself; the image is opened
// for reading. Stale records that it meets are taken away.
Result<std::string> HoldersOfImage(const std::filesystem::path& image,
                                   const std::filesystem::path& record_directory);

class ImageLock {
 public:
  enum class Mode { kShared, kExclusive };

  // kBusy, with the holder's name where it is known, when another machine's claim stands against
  // it.
  static Result<ImageLock> Acquire(const std::filesystem::path& image, Mode mode,
                                   const ImageOwner& owner);
  ImageLock(ImageLock&&) = default;
  ImageLock& operator=(ImageLock&& other) noexcept;
  ~ImageLock();

 private:
  explicit ImageLock(UniqueFd image) : image_(std::move(image)) {}
  void RemoveRecord();

  // A description of its own: one that io_uring has registered outlives its process for a moment.
  UniqueFd image_;
  UniqueFd record_;
  std::filesystem::path record_path_;
};

}  // namespace pacsvisor
