#include "vmm/sandbox/allowed_calls.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <initializer_list>

#include "vmm/base/check.h"

namespace pacsvisor {
namespace {

constexpr unsigned kIoctlRequest = 1;
// _IOC(2): the type of a request, which names the driver.
constexpr uint64_t kIoctlTypeMask = static_cast<uint64_t>(_IOC_TYPEMASK) << _IOC_TYPESHIFT;

class Calls {
 public:
  void Add(std::initializer_list<int> numbers) {
    for (const int number : numbers) {
      calls_.push_back({.number = number, .rules = {}});
    }
  }
  void AddWhere(int number, std::vector<ArgumentRule> rules) {
    calls_.push_back({.number = number, .rules = std::move(rules)});
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
             SYS_poll,
             SYS_ppoll});
  for (const int number : {SYS_mmap, SYS_mprotect}) {
    calls.AddWhere(number, {{.index = 2, .mask = PROT_EXEC, .value = 0}});
  }
  for (const int option : {PR_SET_NAME, PR_GET_NAME}) {
    calls.AddWhere(SYS_prctl, {{.index = 0, .value = static_cast<uint64_t>(option)}});
  }
  // Signals to this process only: kicking a vCPU, raising what aborts.
  calls.AddWhere(SYS_tgkill, {{.index = 0, .value = static_cast<uint64_t>(getpid())}});
  // glibc looks whether standard error is a terminal, and dups nothing that it does not have.
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_GETFL}});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_GETFD}});
  calls.AddWhere(SYS_fcntl, {{.index = 1, .value = F_DUPFD_CLOEXEC}});
}

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
  calls.Add({SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait, SYS_io_uring_enter,
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
  calls.AddWhere(SYS_openat,
                 {{.index = 2, .mask = O_ACCMODE | O_CREAT | O_TRUNC, .value = O_RDONLY}});
}

void AddDiskIo(Calls& calls) {
  calls.Add({SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2,
             SYS_fsync, SYS_fdatasync, SYS_fallocate, SYS_sync_file_range});
}

void AddThreadStart(Calls& calls) { calls.Add({SYS_clone3, SYS_clone}); }

// Opens what the configuration names, at the start and when the guest resets itself.
void AddBuilding(Calls& calls) {
  calls.Add({SYS_openat,
             SYS_newfstatat,
             SYS_fstat,
             SYS_stat,
             SYS_lstat,
             SYS_statx,
             SYS_lseek,
             SYS_access,
             SYS_faccessat,
             SYS_faccessat2,
             SYS_readlink,
             SYS_readlinkat,
             SYS_getdents64,
             SYS_getcwd,
             SYS_rename,
             SYS_renameat,
             SYS_renameat2,
             SYS_mkdir,
             SYS_mkdirat,
             SYS_rmdir,
             SYS_unlink,
             SYS_unlinkat,
             SYS_ftruncate,
             SYS_flock,
             SYS_eventfd2,
             SYS_epoll_create1,
             SYS_timerfd_create,
             SYS_signalfd4,
             SYS_memfd_create,
             SYS_io_uring_setup,
             SYS_io_uring_register,
             SYS_ioctl,
             SYS_fcntl,
             SYS_socket,
             SYS_connect,
             SYS_bind,
             SYS_listen,
             SYS_pipe2,
             SYS_socketpair,
             SYS_dup,
             SYS_rt_sigaction,
             SYS_uname,
             SYS_sysinfo,
             SYS_geteuid,
             SYS_getuid,
             SYS_getegid,
             SYS_getgid,
             SYS_prlimit64,
             SYS_sched_getaffinity,
             SYS_fchmod,
             SYS_mincore,
             SYS_mlock,
             SYS_membarrier,
             SYS_statfs,
             SYS_fstatfs});
}

}  // namespace

std::vector<AllowedCall> AllowedCalls(ThreadKind kind) {
  Calls calls;
  AddEveryThread(calls);
  switch (kind) {
    case ThreadKind::kVcpu:
      AddKvm(calls);
      AddTapSettings(calls);
      break;
    case ThreadKind::kDevice:
      AddEvents(calls);
      AddConnections(calls);
      break;
    case ThreadKind::kNetwork:
      AddEvents(calls);
      AddConnections(calls);
      AddUserNetwork(calls);
      break;
    case ThreadKind::kDiskIo:
      AddDiskIo(calls);
      break;
    case ThreadKind::kControl:
      AddKvm(calls);
      AddEvents(calls);
      AddConnections(calls);
      AddThreadStart(calls);
      break;
    case ThreadKind::kMain:
      AddKvm(calls);
      AddEvents(calls);
      AddConnections(calls);
      AddUserNetwork(calls);
      AddDiskIo(calls);
      AddThreadStart(calls);
      AddBuilding(calls);
      break;
  }
  return calls.Take();
}

}  // namespace pacsvisor
