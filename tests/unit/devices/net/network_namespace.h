// A network namespace of the test's own: its interfaces, ports and neighbours disturb nobody, and
// nobody disturbs them.
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "vmm/base/unique_fd.h"

namespace pacsvisor::net_test {

// Moves the calling thread, and those that it starts, into a new namespace with a working loopback,
// until destroyed.
class NetworkNamespace {
 public:
  NetworkNamespace() : before_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    if (::unshare(CLONE_NEWNET) != 0) {
      why_not_ = std::string("cannot make a network namespace: ") + std::strerror(errno);
      return;
    }
    SetUp("lo");
  }
  ~NetworkNamespace() {
    if (why_not_.empty()) {
      (void)::setns(before_.get(), CLONE_NEWNET);
    }
  }
  NetworkNamespace(const NetworkNamespace&) = delete;
  NetworkNamespace& operator=(const NetworkNamespace&) = delete;

  // Empty: there is one.
  const std::string& why_not() const { return why_not_; }

  static bool SetUp(const std::string& interface) {
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP;
    return ::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0;
  }

 private:
  const UniqueFd before_;
  std::string why_not_;
};

}  // namespace pacsvisor::net_test
