#include "vmm/memory/user_fault_fd.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "vmm/base/linux_abi.h"
#include "vmm/memory/guest_address.h"
#include "vmm/memory/userfaultfd.h"

namespace pacsvisor {
namespace {

uffdio_range RangeOf(std::span<const uint8_t> range) {
  // An address as a number, as the ABI has it.
  return {.start = reinterpret_cast<uint64_t>(range.data()), .len = range.size()};
}

// Fills page runs until all of `size_bytes` is there. `fill(offset, bytes, &done)` is the request
// for the rest; it returns ioctl's result and sets how many bytes it filled (negative: none).
template <typename Fill>
Status FillAll(size_t size_bytes, const char* what, Fill&& fill) {
  size_t offset = 0;
  while (offset < size_bytes) {
    int64_t done = 0;
    if (fill(offset, size_bytes - offset, &done) == 0) {
      return {};
    }
    if (done > 0) {
      offset += static_cast<size_t>(done);  // stopped on the way: the next call says why
    } else if (errno == EEXIST) {
      offset += kPageSizeBytes;  // there already
    } else if (errno != EAGAIN) {
      return Error::FromErrno(errno, "cannot {} a page of guest memory", what);
    }
  }
  return {};
}

}  // namespace

Result<UniqueFd> UserFaultFd::Open() { return NewUserfaultfd(UserfaultScope::kAllFaults); }

Result<UserFaultFd> UserFaultFd::Create(UniqueFd fd, uint64_t without) {
  // An agreement with a feature that the kernel does not know fails and may be tried again without.
  // The answer names all that it has; only this one changes what it does when asked for.
  for (const uint64_t asked : {kUffdFeatureWpUnpopulated & ~without, uint64_t{0}}) {
    uffdio_api api = {.api = UFFD_API, .features = asked};
    if (ioctl(fd.get(), UFFDIO_API, &api) == 0) {
      const uint64_t features = (api.features & ~kUffdFeatureWpUnpopulated) | asked;
      return UserFaultFd(std::move(fd), features & ~without);
    }
  }
  return Error::FromErrno(errno, "userfaultfd: the kernel does not speak this version of it");
}

Result<std::shared_ptr<const UserFaultFd>> UserFaultFd::OpenShared(uint64_t without) {
  UniqueFd fd = TRY(Open());
  return std::make_shared<const UserFaultFd>(TRY(Create(std::move(fd), without)));
}

Status UserFaultFd::Register(std::span<uint8_t> range, uint64_t modes) const {
  uffdio_register argument = {.range = RangeOf(range), .mode = modes};
  if (ioctl(fd_.get(), UFFDIO_REGISTER, &argument) != 0) {
    return Error::FromErrno(errno, "userfaultfd cannot watch {} bytes of guest memory{}",
                            range.size(),
                            errno == EBUSY ? " (another one watches them already)" : "");
  }
  return {};
}

Status UserFaultFd::Unregister(std::span<uint8_t> range) const {
  uffdio_range argument = RangeOf(range);
  if (ioctl(fd_.get(), UFFDIO_UNREGISTER, &argument) != 0) {
    return Error::FromErrno(errno, "userfaultfd cannot let go of {} bytes of guest memory",
                            range.size());
  }
  return {};
}

Status UserFaultFd::Copy(std::span<uint8_t> to, std::span<const uint8_t> from) const {
  CHECK(to.size() == from.size());
  return FillAll(to.size(), "fill", [&](size_t offset, size_t bytes, int64_t* done) {
    uffdio_copy argument = {.dst = RangeOf(to).start + offset,
                            .src = RangeOf(from).start + offset,
                            .len = bytes,
                            .mode = 0};
    const int result = ioctl(fd_.get(), UFFDIO_COPY, &argument);
    *done = argument.copy;
    return result;
  });
}

Status UserFaultFd::Zero(std::span<uint8_t> to) const {
  return FillAll(to.size(), "zero", [&](size_t offset, size_t bytes, int64_t* done) {
    uffdio_zeropage argument = {.range = RangeOf(to.subspan(offset, bytes)), .mode = 0};
    const int result = ioctl(fd_.get(), UFFDIO_ZEROPAGE, &argument);
    *done = argument.zeropage;
    return result;
  });
}

Status UserFaultFd::SetProtection(std::span<uint8_t> range, uint64_t mode) const {
  uffdio_writeprotect argument = {.range = RangeOf(range), .mode = mode};
  while (ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &argument) != 0) {
    if (errno != EAGAIN) {
      return Error::FromErrno(errno, "cannot change the write protection of {} bytes of memory",
                              range.size());
    }
  }
  return {};
}

Status UserFaultFd::Protect(std::span<uint8_t> range) const {
  return SetProtection(range, UFFDIO_WRITEPROTECT_MODE_WP);
}

Status UserFaultFd::Unprotect(std::span<uint8_t> range) const { return SetProtection(range, 0); }

Status UserFaultFd::Wake(std::span<uint8_t> range) const {
  uffdio_range argument = RangeOf(range);
  if (ioctl(fd_.get(), UFFDIO_WAKE, &argument) != 0) {
    return Error::FromErrno(errno, "cannot wake who waits for guest memory");
  }
  return {};
}

Result<size_t> UserFaultFd::Read(std::span<uffd_msg> messages) const {
  const ssize_t bytes = read(fd_.get(), messages.data(), messages.size_bytes());
  if (bytes < 0) {
    if (errno == EAGAIN || errno == EINTR) {
      return size_t{0};
    }
    return Error::FromErrno(errno, "cannot read faults from userfaultfd");
  }
  return static_cast<size_t>(bytes) / sizeof(uffd_msg);
}

}  // namespace pacsvisor
