// A userfaultfd(2) on memory of this process: thin RAII over its requests. What the running kernel
// can do is asked of it, never of the headers. Ranges are spans of whole pages that lie in one
// mapping; their bytes are never touched here.
//
// Threads: any, once created. Errors: the host's, with errno.
#pragma once

#include <linux/userfaultfd.h>

#include <cstdint>
#include <memory>
#include <span>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class UserFaultFd {
 public:
  // A descriptor for faults of user *and* kernel mode (KVM and io_uring fault in the kernel).
  // Before privileges are dropped, and in the process whose memory it is to serve: a child's is
  // another.
  static Result<UniqueFd> Open();
  // Agrees with the kernel on the features; once a descriptor. `without`: features not to use even
  // where the kernel has them (what older kernels do is tested on newer ones).
  static Result<UserFaultFd> Create(UniqueFd fd, uint64_t without = 0);
  static Result<std::shared_ptr<const UserFaultFd>> OpenShared(uint64_t without = 0);  // both

  int fd() const { return fd_.get(); }
  bool Has(uint64_t feature) const { return (features_ & feature) == feature; }

  // UFFDIO_REGISTER_MODE_*; adds to what the range is registered for.
  Status Register(std::span<uint8_t> range, uint64_t modes) const;
  // Ends every mode and protection; waiting faults are tried anew.
  Status Unregister(std::span<uint8_t> range) const;

  // Fill what is missing of `to` and wake who waits for it. Pages that are there already keep their
  // bytes.
  Status Copy(std::span<uint8_t> to, std::span<const uint8_t> from) const;
  Status Zero(std::span<uint8_t> to) const;

  Status Protect(std::span<uint8_t> range) const;
  Status Unprotect(std::span<uint8_t> range) const;  // and wakes
  // Whoever waits for a fault in the range tries anew.
  Status Wake(std::span<uint8_t> range) const;

  // The faults that are there, up to messages.size(); 0 when there are none.
  Result<size_t> Read(std::span<uffd_msg> messages) const;

 private:
  UserFaultFd(UniqueFd fd, uint64_t features) : fd_(std::move(fd)), features_(features) {}
  Status SetProtection(std::span<uint8_t> range, uint64_t mode) const;

  UniqueFd fd_;
  uint64_t features_;
};

}  // namespace pacsvisor
