#include "firmware/boot/image_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "firmware/boot/file_kind.h"
#include "vmm/memory/guest_io_vector.h"

namespace pacsvisor {

Status ImageSource::RequireSize(uint64_t wanted_bytes) const {
  if (size_bytes_ >= wanted_bytes) {
    return {};
  }
  return Error::Make(ErrorCode::kCorrupt,
                     "{} ends after {} of {} bytes: copy it again from where it came from", name_,
                     size_bytes_, wanted_bytes);
}

Status ImageSource::Read(uint64_t offset_bytes, std::span<uint8_t> to) const {
  const std::optional<uint64_t> end = CheckedAdd<uint64_t>(offset_bytes, to.size());
  TRY(RequireSize(end.value_or(UINT64_MAX)));
  return ReadInside(offset_bytes, to);
}

Status ImageSource::ReadIntoGuest(uint64_t offset_bytes, GuestMemory& memory, GuestRange to) const {
  CHECK(memory.Contains(to), "{}+{}", to.start, to.size_bytes);
  const std::optional<uint64_t> end = CheckedAdd(offset_bytes, to.size_bytes);
  TRY(RequireSize(end.value_or(UINT64_MAX)));
  return ReadInsideIntoGuest(offset_bytes, memory, to);
}

Result<std::vector<uint8_t>> ImageSource::Head() const {
  std::vector<uint8_t> head(std::min<uint64_t>(size_bytes_, kFileHeadBytes));
  TRY(Read(0, head));
  return head;
}

Result<HostFile> HostFile::Open(const std::string& path, std::string_view role) {
  std::string name = fmt::format("{} '{}'", role, path);
  // O_NONBLOCK: a FIFO of that name must not hold us up before it is refused.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot open the {}", name);
  }
  struct stat status;
  if (::fstat(fd.get(), &status) != 0) {
    return Error::FromErrno(errno, "cannot look at the {}", name);
  }
  if (!S_ISREG(status.st_mode)) {
    return Error::Make(ErrorCode::kInvalidArgument, "the {} is {}: name a file", name,
                       S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
  }
  return HostFile(std::move(name), static_cast<uint64_t>(status.st_size), std::move(fd));
}

Error HostFile::ReadError(uint64_t offset_bytes, int error_number) const {
  if (error_number == 0) {
    return Error::Make(ErrorCode::kIo, "{} became shorter than {} bytes while it was read", name(),
                       size_bytes());
  }
  return Error::FromErrno(error_number, "cannot read {} at byte {}", name(), offset_bytes);
}

Status HostFile::ReadInside(uint64_t offset_bytes, std::span<uint8_t> to) const {
  while (!to.empty()) {
    const ssize_t count =
        ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset_bytes));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return ReadError(offset_bytes, count < 0 ? errno : 0);
    }
    to = to.subspan(static_cast<size_t>(count));
    offset_bytes += static_cast<uint64_t>(count);
  }
  return {};
}

Status HostFile::ReadInsideIntoGuest(uint64_t offset_bytes, GuestMemory& memory,
                                     GuestRange to) const {
  const GuestRange ranges[] = {to};
  std::optional<GuestIoVector> vector =
      GuestIoVector::Create(memory, ranges, IoDirection::kDeviceWrites);
  CHECK(vector.has_value(), "{}+{}", to.start, to.size_bytes);
  uint64_t done_bytes = 0;
  int error_number = 0;
  while (done_bytes < to.size_bytes) {
    iovec rest = vector->iovecs().front();
    rest.iov_base = static_cast<uint8_t*>(rest.iov_base) + done_bytes;
    rest.iov_len -= done_bytes;
    const ssize_t count =
        ::preadv(fd_.get(), &rest, 1, static_cast<off_t>(offset_bytes + done_bytes));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      error_number = count < 0 ? errno : 0;
      break;
    }
    done_bytes += static_cast<uint64_t>(count);
  }
  vector->Landed();
  if (done_bytes < to.size_bytes) {
    return ReadError(offset_bytes + done_bytes, error_number);
  }
  return {};
}

Status MemoryImage::ReadInside(uint64_t offset_bytes, std::span<uint8_t> to) const {
  std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(offset_bytes), to.size(), to.begin());
  return {};
}

Status MemoryImage::ReadInsideIntoGuest(uint64_t offset_bytes, GuestMemory& memory,
                                        GuestRange to) const {
  CHECK(memory.Write(to.start, bytes_.subspan(offset_bytes, to.size_bytes)), "{}", to.start);
  return {};
}

}  // namespace pacsvisor
