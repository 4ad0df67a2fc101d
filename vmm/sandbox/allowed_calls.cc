#include "vmm/sandbox/allowed_calls.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/ioprio.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include "vmm/base/check.h"
#include "vmm/base/linux_abi.h"

namespace pacsvisor {
namespace {

constexpr unsigned kIoctlRequest = 1;
// _IOC(2): the type of a request, which names the driver.
constexpr uint64_t kIoctlTypeMask = static_cast<uint64_t>(_IOC_TYPEMASK) << _IOC_TYPESHIFT;

class Calls {
 public:
  void Add(std::initializer_list<int> numbers) {
    for (const int number : numbers) {
      calls_.push_back({.number = number, .rules = {}, .error = 0});
    }
  }
  void AddWhere(int number, std::vector<ArgumentRule> rules) {
    calls_.push_back({.number = number, .rules = std::move(rules)});
  }
  void AddRefused(int number, int error, std::vector<ArgumentRule> rules = {}) {
    calls_.push_back({.number = number, .rules = std::move(rules), .error = error});
  }
  void AddIoctl(unsigned long request) {
    // The kernel takes 32 bits of it.
    AddWhere(SYS_ioctl, {{.index = kIoctlRequest, .mask = 0xffff'ffff, .value = request}});
  }
  std::vector<AllowedCall> Take() { return std::move(calls_); }

 private:
  std::vector<AllowedCall> calls_;
};

// What the C and C++ libraries do on any thread: memory (never executable), locks, time, exit.
void AddEveryThread(Calls& calls) {
  calls.Add({SYS_read,
             SYS_write,
             SYS_readv,
             SYS_writev,
             SYS_close,
             SYS_futex,
             SYS_munmap,
             SYS_mremap,
             SYS_madvise,
             SYS_brk,
             SYS_rt_sigprocmask,
             SYS_rt_sigreturn,
             SYS_restart_syscall,
             SYS_sigaltstack,
             SYS_exit,
             SYS_exit_group,
             SYS_set_robust_list,
             SYS_rseq,
             SYS_sched_yield,
             SYS_clock_gettime,
             SYS_clock_nanosleep,
             SYS_nanosleep,
             SYS_gettid,
             SYS_getpid,
             SYS_getrandom,
             SYS_sched_getaffinity,
             SYS_poll,
             SYS_ppoll});
  for (const int number : {SYS_mmap, SYS_mprotect}) {
    calls.AddWhere(number, {{.index = 2, .mask = PROT_EXEC, .value = 0}});
  }
  for (const int option : {PR_SET_NAME, PR_GET_NAME}) {
    calls.AddWhere(SYS_prctl, {{.index = 0, .value = static_cast<uint64_t>(option)}});
  }
  // A terminal in raw mode is put right by whichever thread ends the process.
  calls.AddIoctl(TCGETS);
  calls.AddIoctl(TCSETS);
  // Signals to this process only: kicking a vCPU, raising what aborts.
  calls.AddWhere(SYS_tgkill, {{.index = 0, .value = static_cast<uint64_t>(getpid())}});
  // glibc looks whether standard error is a terminal, and dups nothing that it does not have.
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_GETFL}});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_GETFD}});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_DUPFD_CLOEXEC}});
}

const ArgumentRule kOpenToRead = {
    .index = 2, .mask = O_ACCMODE | O_CREAT | O_TRUNC, .value = O_RDONLY};

// A directory's descriptor, not AT_FDCWD, which is negative.
constexpr uint64_t kSignOfInt = 0x8000'0000;
const ArgumentRule kFromDescriptor = {.index = 0, .mask = kSignOfInt, .value = 0};
const ArgumentRule kToDescriptor = {.index = 2, .mask = kSignOfInt, .value = 0};
const ArgumentRule kFromHere = {.index = 0, .mask = kSignOfInt, .value = kSignOfInt};

// glibc's malloc looks into /proc/sys/vm/overcommit_memory when a thread first gives memory back,
// and does without.
void AddNoFiles(Calls& calls) { calls.AddRefused(SYS_openat, EACCES, {kOpenToRead}); }

void AddKvm(Calls& calls) {
  calls.AddWhere(SYS_ioctl, {{.index = kIoctlRequest,
                              .mask = kIoctlTypeMask,
                              .value = static_cast<uint64_t>(KVMIO) << _IOC_TYPESHIFT}});
}

// A driver that accepts other offloads: the TAP interface is told, by the thread that finds out.
void AddTapSettings(Calls& calls) {
  calls.AddIoctl(TUNSETOFFLOAD);
  calls.AddIoctl(TUNSETVNETHDRSZ);
}

// Descriptors that are open already.
void AddEvents(Calls& calls) {
  // lseek: the size of a disk image, which somebody may have cut short.
  calls.Add({SYS_lseek, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait, SYS_io_uring_enter,
             SYS_timerfd_settime, SYS_timerfd_gettime});
  AddTapSettings(calls);
}

void AddConnections(Calls& calls) {
  calls.Add({SYS_accept4, SYS_recvfrom, SYS_recvmsg, SYS_sendto, SYS_sendmsg, SYS_shutdown,
             SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername});
}

// libslirp opens a socket for each of the guest's, reads the host's name servers, and resolves
// nothing itself.
void AddUserNetwork(Calls& calls) {
  for (const int family : {AF_INET, AF_INET6}) {
    calls.AddWhere(SYS_socket, {{.index = 0, .value = static_cast<uint64_t>(family)}});
  }
  calls.Add({SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_newfstatat, SYS_fstat, SYS_stat,
             SYS_lseek});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_SETFL}});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_SETFD}});
  calls.AddIoctl(FIONBIO);
  calls.AddIoctl(FIONREAD);
  calls.AddWhere(SYS_openat, {kOpenToRead});
}

void AddDiskIo(Calls& calls) {
  calls.Add({SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2,
             SYS_fsync, SYS_fdatasync, SYS_fallocate, SYS_sync_file_range});
}

// Of a userfaultfd that is open already; no request makes another.
void AddUserFaults(Calls& calls) {
  for (const unsigned long request :
       {static_cast<unsigned long>(UFFDIO_API), static_cast<unsigned long>(UFFDIO_REGISTER),
        static_cast<unsigned long>(UFFDIO_UNREGISTER), static_cast<unsigned long>(UFFDIO_WAKE),
        static_cast<unsigned long>(UFFDIO_COPY), static_cast<unsigned long>(UFFDIO_ZEROPAGE),
        static_cast<unsigned long>(UFFDIO_WRITEPROTECT)}) {
    calls.AddIoctl(request);
  }
}

// DirtySource (vmm/dirty/dirty_source.h), and what guest memory is loaded through.
void AddMemoryTracking(Calls& calls) {
  AddKvm(calls);
  calls.AddIoctl(kPagemapScan);
  AddUserFaults(calls);
}

// The files of a store, named from descriptors of its directories on. (A filter does not see the
// name: an absolute one leads elsewhere.)
void AddStoreFiles(Calls& calls) {
  calls.AddWhere(SYS_openat, {kFromDescriptor});
  calls.AddWhere(SYS_mkdirat, {kFromDescriptor});
  calls.AddWhere(SYS_unlinkat, {kFromDescriptor});
  calls.AddWhere(SYS_fchownat, {kFromDescriptor});  // to the store's owner
  for (const int number : {SYS_renameat, SYS_renameat2}) {
    calls.AddWhere(number, {kFromDescriptor, kToDescriptor});
  }
  // fdopendir(3) sets FD_CLOEXEC.
  for (const int command : {F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK, F_SETFD}) {
    calls.AddWhere(SYS_fcntl, {{.index = 1, .value = static_cast<uint64_t>(command)}});
  }
  calls.Add(
      {SYS_fstat, SYS_newfstatat, SYS_statx, SYS_getdents64, SYS_lseek, SYS_ftruncate, SYS_flock});
}

// Files of a store that is open already, to read.
void AddFetch(Calls& calls) {
  calls.AddWhere(SYS_openat, {kFromDescriptor, kOpenToRead});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_SETFD}});  // fdopendir(3)
  calls.Add({SYS_pread64, SYS_preadv, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_getdents64,
             SYS_lseek, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait});
}

// Of the calling thread itself.
void AddLowPriority(Calls& calls) {
  for (const int number : {SYS_getpriority, SYS_setpriority}) {
    calls.AddWhere(number, {{.index = 0, .value = PRIO_PROCESS}, {.index = 1, .value = 0}});
  }
  calls.AddWhere(SYS_ioprio_set,
                 {{.index = 0, .value = IOPRIO_WHO_PROCESS}, {.index = 1, .value = 0}});
}

void AddThreadStart(Calls& calls) {
  // Threads of this process, never another process. What clone3 is asked for lies in memory, where
  // a filter cannot look: without it glibc takes clone.
  calls.AddRefused(SYS_clone3, ENOSYS);
  calls.AddWhere(SYS_clone, {{.index = 0, .mask = CLONE_THREAD, .value = CLONE_THREAD}});
  // What confines the new thread; it can only take away.
  calls.AddWhere(SYS_seccomp, {{.index = 0, .value = SECCOMP_SET_MODE_FILTER}});
}

// A TAP interface that was deleted and made anew, which a reset of the guest attaches to.
void AddTapAttach(Calls& calls) {
  for (const unsigned long request :
       {static_cast<unsigned long>(TUNGETFEATURES), static_cast<unsigned long>(TUNSETIFF),
        static_cast<unsigned long>(SIOCGIFINDEX), static_cast<unsigned long>(SIOCGIFFLAGS)}) {
    calls.AddIoctl(request);
  }
}

// Builds the machine, at the start and when the guest resets itself, of what is open already; takes
// down at the end what has a name on the host.
void AddBuilding(Calls& calls) {
  calls.Add({SYS_unlink, SYS_unlinkat, SYS_rmdir, SYS_ftruncate, SYS_eventfd2, SYS_epoll_create1,
             SYS_timerfd_create, SYS_memfd_create, SYS_io_uring_register, SYS_rt_sigaction,
             SYS_uname, SYS_sysinfo, SYS_geteuid, SYS_getuid, SYS_getegid, SYS_getgid,
             SYS_prlimit64, SYS_mincore, SYS_membarrier});
}

}  // namespace

std::vector<AllowedCall> AllowedCalls(ThreadKind kind) {
  Calls calls;
  AddEveryThread(calls);
  switch (kind) {
    case ThreadKind::kVcpu:
      AddNoFiles(calls);
      AddKvm(calls);
      AddTapSettings(calls);
      break;
    case ThreadKind::kDevice:
      AddNoFiles(calls);
      // A disk's new layer, which another thread has opened.
      calls.AddWhere(SYS_io_uring_register, {{.index = 1, .value = IORING_REGISTER_FILES_UPDATE}});
      AddEvents(calls);
      AddConnections(calls);
      break;
    case ThreadKind::kNetwork:
      AddEvents(calls);
      AddConnections(calls);
      AddUserNetwork(calls);
      break;
    case ThreadKind::kDiskIo:
      AddNoFiles(calls);
      AddDiskIo(calls);
      // Layers of a disk that are merged.
      calls.AddWhere(SYS_unlinkat, {kFromDescriptor});
      break;
    case ThreadKind::kControl:
      AddNoFiles(calls);
      AddKvm(calls);
      AddEvents(calls);
      AddConnections(calls);
      AddThreadStart(calls);
      break;
    case ThreadKind::kSnapshot:
      // As AddNoFiles: libraries' files go by other names than the store's.
      calls.AddRefused(SYS_openat, EACCES, {kFromHere, kOpenToRead});
      AddMemoryTracking(calls);
      AddStoreFiles(calls);
      AddDiskIo(calls);
      AddLowPriority(calls);
      AddThreadStart(calls);
      break;
    case ThreadKind::kStore:
      AddNoFiles(calls);
      calls.Add({SYS_sync_file_range});
      AddLowPriority(calls);
      break;
    case ThreadKind::kFault:
      calls.AddRefused(SYS_openat, EACCES, {kFromHere, kOpenToRead});
      AddUserFaults(calls);
      AddFetch(calls);
      break;
    case ThreadKind::kMain:
      AddMemoryTracking(calls);
      AddStoreFiles(calls);
      AddEvents(calls);
      AddConnections(calls);
      AddUserNetwork(calls);
      AddDiskIo(calls);
      AddLowPriority(calls);
      AddThreadStart(calls);
      AddTapAttach(calls);
      AddBuilding(calls);
      break;
  }
  return calls.Take();
}

}  // namespace pacsvisor
