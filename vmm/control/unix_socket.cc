#include "vmm/control/unix_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

namespace pacsvisor {

Status CheckUnixSocketPath(const std::string& path) {
  constexpr size_t kMaxLength = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() > kMaxLength) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "the socket's path '{}' has {} bytes and Linux takes {}: use a shorter "
                       "machine name, or a shorter XDG_RUNTIME_DIR",
                       path, path.size(), kMaxLength);
  }
  return {};
}

Result<UniqueFd> ListenOnUnixSocket(const std::string& path, int backlog) {
  TRY(CheckUnixSocketPath(path));
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // Linux gives the socket's file the mode that the unbound socket has: it is never open to others.
  if (!fd.valid() || fchmod(fd.get(), 0600) != 0) {
    return Error::FromErrno(errno, "cannot make a Unix socket");
  }
  sockaddr_un address = {.sun_family = AF_UNIX};
  path.copy(address.sun_path, path.size());
  // sockaddr_un is what bind(2) reads behind a sockaddr of family AF_UNIX.
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(fd.get(), backlog) != 0) {
    return Error::FromErrno(errno, "cannot listen on '{}'", path);
  }
  return fd;
}

}  // namespace pacsvisor
