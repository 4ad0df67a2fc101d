// A Unix stream socket that waits for clients of this user, at a path.
#pragma once

#include <memory>
#include <string>

#include "vmm/base/result.h"
#include "vmm/base/unique_fd.h"

namespace pacsvisor {

class UnixListener {
 public:
  // Mode 0600 from the first instant. A socket at `path` that nobody answers any more is replaced;
  // anything else there is left alone. The socket does not block. Errors: kBusy (another process
  // answers there), kInvalidArgument (the path is too long, or holds something else), the file
  // system's.
  static Result<UnixListener> Open(const std::string& path);
  static Result<std::shared_ptr<const UnixListener>> OpenShared(const std::string& path);
  UnixListener(UnixListener&&) = default;
  UnixListener& operator=(UnixListener&&) = delete;
  ~UnixListener();  // removes the socket from its path

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }
  // The next client, not blocking; none when there is none.
  UniqueFd Accept() const;

 private:
  UnixListener(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;
};

}  // namespace pacsvisor
