#include "vmm/base/mapping.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "vmm/base/align.h"

namespace pacsvisor {

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      reservation_(std::exchange(other.reservation_, nullptr)),
      reservation_bytes_(std::exchange(other.reservation_bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(reservation_, other.reservation_);
  std::swap(reservation_bytes_, other.reservation_bytes_);
  return *this;
}

Mapping::~Mapping() {
  if (reservation_ != nullptr) {
    ::munmap(reservation_, reservation_bytes_);
  }
}

Result<Mapping> Mapping::MapShared(int fd, size_t size_bytes, int protection,
                                   uint64_t offset_bytes) {
  void* address =
      ::mmap(nullptr, size_bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset_bytes));
  if (address == MAP_FAILED) {
    return Error::FromErrno(errno, "cannot map {} bytes", size_bytes);
  }
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(address);
  mapping.size_bytes_ = size_bytes;
  mapping.reservation_ = address;
  mapping.reservation_bytes_ = size_bytes;
  return mapping;
}

Result<Mapping> Mapping::MapFile(int fd, size_t size_bytes) {
  void* address = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  if (address == MAP_FAILED) {
    return Error::FromErrno(errno, "cannot map {} bytes of a file", size_bytes);
  }
  Mapping mapping;
  mapping.data_ = static_cast<uint8_t*>(address);
  mapping.size_bytes_ = size_bytes;
  mapping.reservation_ = address;
  mapping.reservation_bytes_ = size_bytes;
  return mapping;
}

Result<Mapping> Mapping::MapGuarded(size_t size_bytes, size_t alignment_bytes, int memfd,
                                    uint64_t offset_bytes) {
  CHECK(IsPowerOfTwo(alignment_bytes) && size_bytes > 0);
  Mapping mapping;
  mapping.reservation_bytes_ = size_bytes + 3 * alignment_bytes;
  void* reservation = ::mmap(nullptr, mapping.reservation_bytes_, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reservation == MAP_FAILED) {
    return Error::FromErrno(errno, "cannot reserve {} bytes of address space", size_bytes);
  }
  mapping.reservation_ = reservation;
  const uintptr_t start =
      AlignUp(reinterpret_cast<uintptr_t>(reservation) + alignment_bytes, alignment_bytes);
  const int flags =
      MAP_FIXED | MAP_NORESERVE | (memfd >= 0 ? MAP_SHARED : (MAP_PRIVATE | MAP_ANONYMOUS));
  // Safe: [start, start + size_bytes) lies inside the reservation made above.
  void* address = ::mmap(reinterpret_cast<void*>(start), size_bytes, PROT_READ | PROT_WRITE, flags,
                         memfd, static_cast<off_t>(offset_bytes));
  if (address == MAP_FAILED) {
    return Error::FromErrno(errno, "cannot map {} bytes of memory", size_bytes);
  }
  mapping.data_ = static_cast<uint8_t*>(address);
  mapping.size_bytes_ = size_bytes;
  if (::madvise(address, size_bytes, MADV_DONTDUMP) != 0) {
    return Error::FromErrno(errno, "cannot keep guest memory out of core dumps");
  }
  return mapping;
}

}  // namespace pacsvisor
