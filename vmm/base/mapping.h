// An owned memory mapping (mmap/munmap).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/result.h"

namespace pacsvisor {

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  // Shared mapping of `size_bytes` of a descriptor, from its byte `offset_bytes` on; `protection`
  // as in mmap(2).
  static Result<Mapping> MapShared(int fd, size_t size_bytes, int protection,
                                   uint64_t offset_bytes = 0);
  // Private read-only mapping of a whole file.
  static Result<Mapping> MapFile(int fd, size_t size_bytes);
  // `size_bytes` of readable and writable memory whose address is a multiple of `alignment_bytes`
  // (a power of two), with inaccessible guard space of the same size on either side; anonymous when
  // `memfd` is -1, else shared pages of that memfd from its byte `offset_bytes` on. Not reserved in
  // swap (MAP_NORESERVE), excluded from core dumps.
  static Result<Mapping> MapGuarded(size_t size_bytes, size_t alignment_bytes, int memfd,
                                    uint64_t offset_bytes);

  uint8_t* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  std::span<uint8_t> bytes() const { return {data_, size_bytes_}; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_bytes_ = 0;
  void* reservation_ = nullptr;
  size_t reservation_bytes_ = 0;
};

}  // namespace pacsvisor
