// Where the bytes of a kernel or an initrd come from: a file of the host, or bytes already in
// memory (an unpacked kernel). All reads are checked against the end; what lies behind it is an
// error that says so. Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace pacsvisor {

class ImageSource {
 public:
  virtual ~ImageSource() = default;

  const std::string& name() const { return name_; }
  uint64_t size_bytes() const { return size_bytes_; }

  Status Read(uint64_t offset_bytes, std::span<uint8_t> to) const;
  // `to` lies inside memory (CHECKed).
  Status ReadIntoGuest(uint64_t offset_bytes, GuestMemory& memory, GuestRange to) const;
  // The first bytes, as many as KindOfFile looks at.
  Result<std::vector<uint8_t>> Head() const;
  // kCorrupt unless there are at least `wanted_bytes`.
  Status RequireSize(uint64_t wanted_bytes) const;

 protected:
  ImageSource(std::string name, uint64_t size_bytes)
      : name_(std::move(name)), size_bytes_(size_bytes) {}

 private:
  // The range lies inside the source.
  virtual Status ReadInside(uint64_t offset_bytes, std::span<uint8_t> to) const = 0;
  virtual Status ReadInsideIntoGuest(uint64_t offset_bytes, GuestMemory& memory,
                                     GuestRange to) const = 0;

  const std::string name_;
  const uint64_t size_bytes_;
};

class HostFile : public ImageSource {
 public:
  // A regular file; `role` says what it is to be ("kernel", "initrd").
  static Result<HostFile> Open(const std::string& path, std::string_view role);

 private:
  HostFile(std::string name, uint64_t size_bytes, UniqueFd fd)
      : ImageSource(std::move(name), size_bytes), fd_(std::move(fd)) {}
  Status ReadInside(uint64_t offset_bytes, std::span<uint8_t> to) const override;
  Status ReadInsideIntoGuest(uint64_t offset_bytes, GuestMemory& memory,
                             GuestRange to) const override;
  Error ReadError(uint64_t offset_bytes, int error_number) const;

  UniqueFd fd_;
};

class MemoryImage : public ImageSource {
 public:
  // `bytes` are borrowed.
  MemoryImage(std::string name, std::span<const uint8_t> bytes)
      : ImageSource(std::move(name), bytes.size()), bytes_(bytes) {}

 private:
  Status ReadInside(uint64_t offset_bytes, std::span<uint8_t> to) const override;
  Status ReadInsideIntoGuest(uint64_t offset_bytes, GuestMemory& memory,
                             GuestRange to) const override;

  std::span<const uint8_t> bytes_;
};

}  // namespace pacsvisor
