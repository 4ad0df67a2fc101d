#include "vmm/base/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace pacsvisor {

Result<EventFd> EventFd::Create() {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) {
    return Error::FromErrno(errno, "cannot create an eventfd");
  }
  return EventFd(UniqueFd(fd));
}

void EventFd::Signal() const {
  const uint64_t one = 1;
  // EAGAIN means the counter is at its limit: it is signalled already.
  const ssize_t written = ::write(fd_.get(), &one, sizeof(one));
  CHECK(written == sizeof(one) || errno == EAGAIN, "eventfd write: errno {}", errno);
}

uint64_t EventFd::Consume() const {
  uint64_t count = 0;
  const ssize_t bytes = ::read(fd_.get(), &count, sizeof(count));
  CHECK(bytes == sizeof(count) || errno == EAGAIN, "eventfd read: errno {}", errno);
  return bytes == sizeof(count) ? count : 0;
}

}  // namespace pacsvisor
