#include "vmm/snapshot/file_space.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "vmm/base/align.h"

namespace pacsvisor {

Result<std::unique_ptr<FileSpace>> FileSpace::Open(std::string name, const std::string& path,
                                                   Mode mode, uint64_t size_bytes) {
  const int flags = mode == Mode::kRead ? O_RDONLY : O_RDWR | O_CREAT | O_EXCL;
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0600));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot {} {}", mode == Mode::kRead ? "open" : "create", path);
  }
  if (mode == Mode::kCreate) {
    if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
      return Error::FromErrno(errno, "cannot give {} its {} bytes", path, size_bytes);
    }
  } else {
    struct stat status;
    if (::fstat(fd.get(), &status) != 0) {
      return Error::FromErrno(errno, "cannot read the size of {}", path);
    }
    size_bytes = static_cast<uint64_t>(status.st_size);
  }
  return std::unique_ptr<FileSpace>(
      new FileSpace(std::move(name), path, std::move(fd), size_bytes));
}

FileSpace::FileSpace(std::string name, std::string path, UniqueFd fd, uint64_t size_bytes)
    : name_(std::move(name)),
      path_(std::move(path)),
      fd_(std::move(fd)),
      size_bytes_(size_bytes),
      block_count_(DivideRoundUp(size_bytes, uint64_t{kBlockBytes})) {}

Status FileSpace::Read(BlockIndex first, std::span<uint8_t> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::pread(fd_.get(), bytes.data() + done, bytes.size() - done,
                                static_cast<off_t>(first.raw() * kBlockBytes + done));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return Error::FromErrno(errno, "cannot read {}", path_);
    }
    if (got == 0) {
      std::fill(bytes.begin() + static_cast<ptrdiff_t>(done), bytes.end(), uint8_t{0});
      return {};
    }
    done += static_cast<size_t>(got);
  }
  return {};
}

Status FileSpace::Write(BlockIndex first, std::span<const uint8_t> bytes) {
  const uint64_t start = first.raw() * kBlockBytes;
  CHECK(first.raw() <= block_count_ && bytes.size() / kBlockBytes <= block_count_ - first.raw());
  const uint64_t wanted = std::min<uint64_t>(bytes.size(), size_bytes_ - start);
  uint64_t done = 0;
  while (done < wanted) {
    const ssize_t written =
        ::pwrite(fd_.get(), bytes.data() + done, wanted - done, static_cast<off_t>(start + done));
    if (written < 0 && errno != EINTR) {
      return Error::FromErrno(errno, "cannot write {}", path_);
    }
    done += written > 0 ? static_cast<uint64_t>(written) : 0;
  }
  return {};
}

Status FileSpace::Sync() {
  if (::fsync(fd_.get()) != 0) {
    return Error::FromErrno(errno, "cannot make {} durable", path_);
  }
  return {};
}

}  // namespace pacsvisor
