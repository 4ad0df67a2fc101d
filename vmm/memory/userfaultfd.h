// Opening a userfaultfd (userfaultfd(2)). It belongs to the address space of the process that opens
// it: not before the last fork.
#pragma once

#include <cstdint>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

// Whose faults its reader must serve. Those of the kernel (KVM's on the guest's behalf) need a
// privilege: CAP_SYS_PTRACE, vm.unprivileged_userfaultfd=1 or rights on /dev/userfaultfd.
enum class UserfaultScope {
  kUserFaults,  // also enough where nobody serves any: asynchronous write protection (Linux 5.11)
  kAllFaults,
};

// Non-blocking, before UFFDIO_API.
Result<UniqueFd> NewUserfaultfd(UserfaultScope scope);
// After UFFDIO_API with these UFFD_FEATURE_*. kUnsupported names the bits that the kernel lacks.
Result<UniqueFd> OpenUserfaultfd(UserfaultScope scope, uint64_t features);
// What the kernel offers.
Result<uint64_t> UserfaultFeatures(UserfaultScope scope);

}  // namespace pacsvisor
