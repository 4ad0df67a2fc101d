#include "devices/console/unix_listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

namespace pacsvisor {
namespace {

constexpr int kBacklog = 4;
constexpr mode_t kMode = 0600;

struct UnixAddress {
  sockaddr_un address{};
  socklen_t size = 0;
  // A sockaddr_un is a sockaddr of its family.
  const sockaddr* generic() const { return reinterpret_cast<const sockaddr*>(&address); }
};

Result<UnixAddress> AddressOf(const std::string& path) {
  UnixAddress result;
  if (path.empty() || path.size() >= sizeof(result.address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "'{}' cannot name a Unix socket: 1 to {} bytes are allowed; choose a "
                       "shorter path",
                       path, sizeof(result.address.sun_path) - 1);
  }
  result.address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), result.address.sun_path);
  result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return result;
}

Result<UniqueFd> CreateSocket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot create a Unix socket");
  }
  return fd;
}

// Makes way at `path`: nothing there, or a socket whose owner is gone.
Status RemoveStale(const std::string& path, const UnixAddress& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? Status() : Error::FromErrno(errno, "cannot look at {}", path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "{} is there and is no socket: remove it, or choose another path", path);
  }
  const UniqueFd probe = TRY(CreateSocket());
  // A full backlog (EAGAIN) has an owner, too.
  if (::connect(probe.get(), address.generic(), address.size) == 0 || errno == EAGAIN) {
    return Error::Make(ErrorCode::kBusy,
                       "{}: another process answers at this socket; is the machine running "
                       "already?",
                       path);
  }
  if (errno != ECONNREFUSED) {
    return Error::FromErrno(errno, "cannot tell whether somebody answers at {}", path);
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::FromErrno(errno, "cannot remove the stale socket {}", path);
  }
  return {};
}

}  // namespace

Result<UnixListener> UnixListener::Open(const std::string& path) {
  const UnixAddress address = TRY(AddressOf(path));
  TRY(RemoveStale(path, address));
  UniqueFd fd = TRY(CreateSocket());
  // Before bind: the path is made with the socket's own mode (unix(7)), never wider for a moment.
  if (::fchmod(fd.get(), kMode) != 0) {
    return Error::FromErrno(errno, "cannot restrict the socket {} to its owner", path);
  }
  if (::bind(fd.get(), address.generic(), address.size) != 0) {
    return Error::FromErrno(errno, "cannot make the socket {}", path);
  }
  UnixListener listener(path, std::move(fd));
  if (::listen(listener.fd(), kBacklog) != 0) {
    return Error::FromErrno(errno, "cannot listen at {}", path);
  }
  return listener;
}

Result<std::shared_ptr<const UnixListener>> UnixListener::OpenShared(const std::string& path) {
  return std::make_shared<const UnixListener>(TRY(Open(path)));
}

UnixListener::~UnixListener() {
  if (fd_.valid()) {
    ::unlink(path_.c_str());
  }
}

UniqueFd UnixListener::Accept() const {
  return UniqueFd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace pacsvisor
