#include "vmm/sandbox/namespaces.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "vmm/base/unique_fd.h"

namespace pacsvisor {
namespace {

// Any directory that is there; what is mounted on it is seen by this namespace alone.
const std::string kRoot = "/tmp";
// The name servers, and what seeds the random numbers of the user-mode network.
constexpr std::array kShown = {"/etc/resolv.conf", "/dev/urandom"};
constexpr unsigned long kHarmless = MS_NOSUID | MS_NODEV | MS_NOEXEC;

Status MakeDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
    return Error::FromErrno(errno, "cannot make {}", path);
  }
  return {};
}

// Shows one of the host's files in the new root, where the host has it; followed if it is a link.
Status Show(const std::string& name) {
  const std::string path = kRoot + name;
  TRY(MakeDirectory(path.substr(0, path.rfind('/'))));
  if (!UniqueFd(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)).valid()) {
    return Error::FromErrno(errno, "cannot make {}", path);
  }
  if (mount(name.c_str(), path.c_str(), nullptr, MS_BIND, nullptr) != 0 && errno != ENOENT) {
    return Error::FromErrno(errno, "cannot show {} to the machine", name);
  }
  return {};
}

Status MakeRoot() {
  // Nothing of what follows shows outside.
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Error::FromErrno(errno, "cannot make mounts private");
  }
  if (mount("tmpfs", kRoot.c_str(), "tmpfs", kHarmless, "size=64k,mode=0755") != 0) {
    return Error::FromErrno(errno, "cannot mount an empty root directory");
  }
  for (const char* const name : kShown) {
    TRY(Show(name));
  }
  return {};
}

// pivot_root(2), "pivot_root(".", ".")": the old root lies on the new one, and is taken off.
Status ChangeRoot() {
  if (chdir(kRoot.c_str()) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
      umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
    return Error::FromErrno(errno, "cannot change the root directory");
  }
  if (mount(nullptr, "/", nullptr, MS_REMOUNT | MS_RDONLY | kHarmless, nullptr) != 0) {
    return Error::FromErrno(errno, "cannot make the root directory read-only");
  }
  return {};
}

}  // namespace

Status EnterEmptyNetwork() {
  if (unshare(CLONE_NEWNET) != 0) {
    return Error::FromErrno(errno, "cannot make a network namespace");
  }
  return {};
}

Status EnterEmptyRoot() {
  if (unshare(CLONE_NEWNS) != 0) {
    return Error::FromErrno(errno, "cannot make a mount namespace");
  }
  TRY(MakeRoot());
  return ChangeRoot();
}

}  // namespace pacsvisor
