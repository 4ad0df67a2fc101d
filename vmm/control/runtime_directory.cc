#include "vmm/control/runtime_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "vmm/control/unix_socket.h"

namespace pacsvisor {
namespace {

constexpr char kLockName[] = "lock";
constexpr char kSocketName[] = "control.sock";
constexpr char kAgentSocketName[] = "agent.sock";
// Claims lose against a directory being removed under them this often at most.
constexpr int kMaxAttempts = 100;

// With what to do about it.
Error HostError(int error_number, const std::string& what) {
  const Error plain = Error::FromErrno(error_number, "{}", what);
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return Error::Make(plain.code(),
                         "{}; make room there, or name another directory in PACSVISOR_RUNTIME_DIR",
                         plain.message());
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOENT:
      return Error::Make(plain.code(), "{}; name a directory of yours in PACSVISOR_RUNTIME_DIR",
                         plain.message());
    default:
      return plain;
  }
}

struct flock WholeFile(short type) {
  return {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0, .l_pid = 0};
}

// 0 when the file holds no number (yet).
int64_t ReadPid(int fd) {
  char text[32];
  const ssize_t count = pread(fd, text, sizeof(text), 0);
  int64_t pid = 0;
  if (count > 0) {
    std::from_chars(text, text + count, pid);
  }
  return std::max<int64_t>(pid, 0);
}

std::string Holder(int64_t pid) {
  return pid == 0 ? std::string("another process") : fmt::format("process {}", pid);
}

// Ours alone: nobody else may put a socket where a machine's is looked for.
Result<UniqueFd> OpenPrivateDirectory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return HostError(errno, fmt::format("cannot create the runtime directory '{}'", path));
  }
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (!fd.valid() || fstat(fd.get(), &status) != 0) {
    return Error::FromErrno(errno, "cannot open the runtime directory '{}'", path);
  }
  if (status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
    return Error::Make(ErrorCode::kPermissionDenied,
                       "the runtime directory '{}' belongs to user {} with mode {:o}, it must be "
                       "yours alone: remove it, or chown and chmod 700 it",
                       path, status.st_uid, status.st_mode & 07777);
  }
  return fd;
}

// Nothing when the directory went away, or another lock file took this one's place, in between.
Result<std::optional<UniqueFd>> TryLock(int directory, const std::string& name) {
  UniqueFd lock(openat(directory, kLockName, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock.valid()) {
    if (errno == ENOENT) {
      return std::optional<UniqueFd>();
    }
    return HostError(errno, fmt::format("cannot open the lock of machine '{}'", name));
  }
  struct flock request = WholeFile(F_WRLCK);
  if (fcntl(lock.get(), F_OFD_SETLK, &request) != 0) {
    if (errno != EAGAIN && errno != EACCES) {
      return Error::FromErrno(errno, "cannot lock machine '{}'", name);
    }
    return Error::Make(ErrorCode::kBusy,
                       "a machine named '{}' is running ({}): stop it (pacsvisor stop {}), or give "
                       "this one another name",
                       name, Holder(ReadPid(lock.get())), name);
  }
  struct stat mine;
  struct stat current;
  if (fstat(lock.get(), &mine) != 0 ||
      fstatat(directory, kLockName, &current, AT_SYMLINK_NOFOLLOW) != 0 ||
      mine.st_ino != current.st_ino) {
    return std::optional<UniqueFd>();
  }
  return std::optional<UniqueFd>(std::move(lock));
}

Status WritePid(int fd) {
  const std::string text = fmt::format("{}\n", getpid());
  if (ftruncate(fd, 0) != 0 ||
      pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return HostError(errno, "cannot write the machine's lock file");
  }
  return {};
}

// The holder's pid while `path` is locked by somebody, nothing otherwise.
std::optional<int64_t> LockHolder(const std::string& path) {
  const UniqueFd fd(open((path + "/" + kLockName).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct flock query = WholeFile(F_RDLCK);
  if (!fd.valid() || fcntl(fd.get(), F_OFD_GETLK, &query) != 0 || query.l_type == F_UNLCK) {
    return std::nullopt;
  }
  return ReadPid(fd.get());
}

bool IsPlainName(const std::string& name) {
  return !name.empty() && name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

Result<RuntimeDirectory> RuntimeDirectory::Claim(const std::string& base, const std::string& name) {
  CHECK(IsPlainName(name), "'{}'", name);  // the configuration's check lets no other through
  const std::string path = base + "/" + name;
  TRY(CheckUnixSocketPath(path + "/" + kSocketName));
  TRY(OpenPrivateDirectory(base));
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    Result<UniqueFd> opened = OpenPrivateDirectory(path);
    if (!opened.ok() && opened.error().code() == ErrorCode::kNotFound) {
      continue;  // its last holder removed it just now
    }
    UniqueFd directory = TRY(std::move(opened));
    std::optional<UniqueFd> lock = TRY(TryLock(directory.get(), name));
    if (lock) {
      RuntimeDirectory claimed(path, std::move(directory), *std::move(lock));
      TRY(WritePid(claimed.lock_.get()));
      unlinkat(claimed.directory_.get(), kSocketName, 0);  // a dead machine's
      unlinkat(claimed.directory_.get(), kAgentSocketName, 0);
      return claimed;
    }
  }
  return Error::Make(ErrorCode::kBusy, "the runtime directory '{}' keeps changing: try again",
                     path);
}

RuntimeDirectory::~RuntimeDirectory() {
  if (lock_.valid()) {  // not moved from
    Remove();
  }
}

void RuntimeDirectory::Remove() const {
  unlinkat(directory_.get(), kSocketName, 0);
  unlinkat(directory_.get(), kAgentSocketName, 0);
  unlinkat(directory_.get(), kLockName, 0);
  rmdir(path_.c_str());  // fails, rightly, when the next machine of this name is already in it
}

Result<std::string> ImageRecordDirectory(const std::string& base) {
  const std::string path = base + "/.images";  // with the dot it is no machine's name
  TRY(OpenPrivateDirectory(base));
  TRY(OpenPrivateDirectory(path));
  return path;
}

Result<std::string> RuntimeBase() {
  if (const char* chosen = std::getenv("PACSVISOR_RUNTIME_DIR");
      chosen != nullptr && *chosen != 0) {
    return std::string(chosen);
  }
  if (geteuid() == 0) {
    return std::string("/run/pacsvisor");
  }
  const char* session = std::getenv("XDG_RUNTIME_DIR");
  if (session == nullptr || *session != '/') {
    return Error::Make(
        ErrorCode::kNotFound,
        "XDG_RUNTIME_DIR is not set, so there is no place for the machine's socket: "
        "log in (pam_systemd sets it), or set it to a directory that is yours alone");
  }
  return std::string(session) + "/pacsvisor";
}

Result<std::vector<RunningMachine>> ListRunningMachines(const std::string& base) {
  std::vector<RunningMachine> machines;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(base.c_str()), closedir);
  if (directory == nullptr) {
    if (errno == ENOENT) {
      return machines;
    }
    return Error::FromErrno(errno, "cannot read the runtime directory '{}'", base);
  }
  while (const dirent* entry = readdir(directory.get())) {
    const std::string name = entry->d_name;
    const std::string path = base + "/" + name;
    if (!IsPlainName(name)) {
      continue;
    }
    if (const std::optional<int64_t> pid = LockHolder(path)) {
      machines.push_back({.name = name, .pid = *pid, .socket_path = path + "/" + kSocketName});
    }
  }
  std::sort(machines.begin(), machines.end(),
            [](const RunningMachine& a, const RunningMachine& b) { return a.name < b.name; });
  return machines;
}

Result<RunningMachine> FindRunningMachine(const std::string& base, const std::string& name) {
  const std::string path = base + "/" + name;
  const std::optional<int64_t> pid =
      IsPlainName(name) ? LockHolder(path) : std::optional<int64_t>();
  if (!pid) {
    return Error::Make(ErrorCode::kNotFound,
                       "no machine named '{}' is running here: pacsvisor ps lists those that are",
                       name);
  }
  return RunningMachine{.name = name, .pid = *pid, .socket_path = path + "/" + kSocketName};
}

}  // namespace pacsvisor
