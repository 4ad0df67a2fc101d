// What a configuration asks of this host: files, devices, interfaces, ports, memory. Each is asked
// again, for good, by whoever opens it; here the user learns of all of them at once.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "vmm/base/unique_fd.h"
#include "vmm/machine/config.h"
#include "vmm/machine/config_text.h"
#include "vmm/machine/image_kind.h"
#include "vmm/sandbox/privileges.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kSectorBytes = 512;
constexpr char kTunDevice[] = "/dev/net/tun";

std::string ErrnoText(int error_number) {
  char buffer[128];
  return strerror_r(error_number, buffer, sizeof(buffer));
}

std::string DirectoryOf(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

bool Accessible(const std::string& path, int mode) {
  return faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0;
}

class HostCheck {
 public:
  HostCheck(const MachineConfig& config, const ConfigPlaces& places, const HostLimits& limits)
      : config_(config), places_(places), limits_(limits) {}

  std::vector<ConfigProblem> Run() {
    if (config_.memory_bytes > limits_.memory_bytes) {
      Problem("memory", "a memory of {} is more than this host has ({}): give less",
              FormatSize(config_.memory_bytes), FormatSize(limits_.memory_bytes >> 20 << 20));
    }
    CheckReadable("boot.kernel", config_.boot.kernel, "kernel");
    CheckReadable("boot.initrd", config_.boot.initrd, "initrd");
    for (size_t i = 0; i < config_.disks.size(); ++i) {
      CheckDisk(fmt::format("disk[{}].path", i), config_.disks[i]);
    }
    for (size_t i = 0; i < config_.nets.size(); ++i) {
      CheckNet(i, config_.nets[i]);
    }
    CheckConsoleLog();
    CheckStore();
    CheckSandbox();
    CheckLimits();
    return std::move(problems_);
  }

 private:
  // Which file it is, whatever its name: a block device by its number.
  using FileId = std::pair<uint64_t, uint64_t>;

  template <typename... Args>
  void Problem(const std::string& key, fmt::format_string<Args...> format, Args&&... args) {
    problems_.push_back({.key = key,
                         .line = places_.LineOf(key),
                         .text = fmt::format(format, std::forward<Args>(args)...)});
  }

  static FileId IdOf(const struct stat& status) {
    return S_ISBLK(status.st_mode) ? FileId(0, status.st_rdev)
                                   : FileId(status.st_dev + 1, status.st_ino);
  }

  // Opens for reading; what is wrong is noted.
  UniqueFd Open(const std::string& key, const std::string& path, std::string_view what) {
    // Without O_NONBLOCK a named pipe would wait for its writer.
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd.valid()) {
      return fd;
    }
    const int reason = errno;
    if (reason == ENOENT || reason == ENOTDIR) {
      Problem(key, "the {} '{}' is not there: correct the path (relative ones start at this file)",
              what, path);
    } else {
      Problem(key, "the {} '{}' cannot be opened: {}; check its owner and mode (ls -l)", what, path,
              ErrnoText(reason));
    }
    return fd;
  }

  void CheckReadable(const std::string& key, const std::string& path, std::string_view what) {
    if (path.empty()) {
      return;
    }
    const UniqueFd fd = Open(key, path, what);
    struct stat status;
    if (!fd.valid() || fstat(fd.get(), &status) != 0) {
      return;
    }
    if (!S_ISREG(status.st_mode)) {
      Problem(key, "the {} '{}' is {}: name a file", what, path,
              S_ISDIR(status.st_mode) ? "a directory" : "no regular file");
    } else if (status.st_size == 0) {
      Problem(key, "the {} '{}' is empty: copy it again", what, path);
    }
  }

  static std::optional<ForeignImage> ForeignImageIn(int fd) {
    std::array<uint8_t, kImageHeadBytes> head;
    const ssize_t count = pread(fd, head.data(), head.size(), 0);
    return KindOfForeignImage(
        std::span(head).first(static_cast<size_t>(std::max<ssize_t>(count, 0))));
  }

  void CheckDisk(const std::string& key, const DiskConfig& disk) {
    if (disk.path.empty()) {
      return;
    }
    const UniqueFd fd = Open(key, disk.path, "disk");
    struct stat status;
    if (!fd.valid() || fstat(fd.get(), &status) != 0) {
      return;
    }
    uint64_t size_bytes = static_cast<uint64_t>(status.st_size);
    if (S_ISBLK(status.st_mode)) {
      if (ioctl(fd.get(), BLKGETSIZE64, &size_bytes) != 0) {
        Problem(key, "the size of '{}' cannot be read: {}", disk.path, ErrnoText(errno));
        return;
      }
    } else if (!S_ISREG(status.st_mode)) {
      Problem(key, "the disk '{}' is {}: name a raw image or a block device", disk.path,
              S_ISDIR(status.st_mode) ? "a directory" : "neither a file nor a block device");
      return;
    }
    // A guest that takes its bytes for a disk's destroys it.
    const std::optional<ForeignImage> foreign = ForeignImageIn(fd.get());
    if (foreign && !disk.read_only) {
      Problem(key,
              "the disk '{}' is {}, and disks here are raw images: {} makes one (if its bytes are "
              "meant as they are: read_only = true)",
              disk.path, foreign->name, UnpackCommand(*foreign, disk.path));
    } else if (size_bytes == 0 || size_bytes % kSectorBytes != 0) {
      Problem(key,
              "the disk '{}' has {} bytes: a disk has whole sectors of {} bytes and at least one; "
              "check the image, or enlarge it with truncate --size=%512",
              disk.path, size_bytes, kSectorBytes);
    }
    if (!disk.read_only && !Accessible(disk.path, W_OK)) {
      Problem(key,
              "the disk '{}' cannot be written: {}; set read_only = true, or give this user "
              "the right",
              disk.path, ErrnoText(errno));
    }
    const auto [earlier, is_new] = disks_.emplace(IdOf(status), key);
    if (!is_new) {
      Problem(key,
              "'{}' is the same file as the disk on line {}: two disks on one file destroy each "
              "other's data; give each a file of its own",
              disk.path, places_.LineOf(earlier->second));
    }
  }

  void CheckNet(size_t index, const NetConfig& net) {
    if (net.backend == NetBackend::kTap && !net.interface.empty()) {
      CheckTap(fmt::format("net[{}].interface", index), net.interface);
    }
    if (net.backend != NetBackend::kUser) {
      return;
    }
    for (size_t i = 0; i < net.forwards.size(); ++i) {
      if (net.forwards[i].host_port != 0) {
        CheckPort(fmt::format("net[{}].forward[{}]", index, i), net.forwards[i]);
      }
    }
  }

  void CheckTap(const std::string& key, const std::string& interface) {
    if (!Accessible(kTunDevice, R_OK | W_OK)) {
      Problem(
          key,
          "backend = \"tap\" needs {}: {}; load it (modprobe tun) and give this user the right, "
          "or use backend = \"user\"",
          kTunDevice, ErrnoText(errno));
    } else if (!Accessible(fmt::format("/sys/class/net/{}/tun_flags", interface), F_OK)) {
      Problem(key,
              "there is no TAP interface \"{}\": create it (ip tuntap add dev {} mode tap user "
              "$USER; ip link set {} up), or use backend = \"user\"",
              Printable(interface), Printable(interface), Printable(interface));
    }
  }

  // By binding it for a moment, with the option the network back end uses too: a port in TIME_WAIT
  // is free.
  void CheckPort(const std::string& key, const PortForward& forward) {
    const bool tcp = forward.protocol == ForwardProtocol::kTcp;
    const UniqueFd fd(socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
    sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(forward.host_port)};
    if (!fd.valid() || inet_pton(AF_INET, forward.host_address.c_str(), &address.sin_addr) != 1) {
      return;
    }
    const int yes = 1;
    if (tcp) {
      setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    }
    // sockaddr_in is what bind(2) reads behind a sockaddr of family AF_INET.
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
      return;
    }
    switch (errno) {
      case EADDRINUSE:
        Problem(key,
                "forward \"{}\": port {} of this host is in use; choose another one, or stop who "
                "has it (ss -{}lnp 'sport = :{}')",
                FormatForward(forward), forward.host_port, tcp ? 't' : 'u', forward.host_port);
        return;
      case EADDRNOTAVAIL:
        Problem(key, "forward \"{}\": this host has no address {}; use one of its own (ip address)",
                FormatForward(forward), forward.host_address);
        return;
      case EACCES:
        Problem(key,
                "forward \"{}\": ports below 1024 are for root; choose a higher one for the host's "
                "side",
                FormatForward(forward));
        return;
      default:
        Problem(key, "forward \"{}\" cannot be bound: {}", FormatForward(forward),
                ErrnoText(errno));
    }
  }

  void CheckConsoleLog() {
    const std::string& path = config_.console_log;
    if (path.empty()) {
      return;
    }
    if (!config_.store_key.empty() && !Accessible(config_.store_key, R_OK)) {
      Problem("store.key",
              "the key file '{}' cannot be read: {} (pacsvisor store new-key FILE makes one)",
              config_.store_key, ErrnoText(errno));
    }
    struct stat status;
    if (stat(path.c_str(), &status) == 0) {
      if (S_ISDIR(status.st_mode) || !Accessible(path, W_OK)) {
        Problem("console.log", "the log '{}' {}: name a file that this user may write", path,
                S_ISDIR(status.st_mode) ? "is a directory" : "cannot be written");
      } else if (const auto disk = disks_.find(IdOf(status)); disk != disks_.end()) {
        Problem("console.log",
                "the log '{}' is the disk on line {}: the log would destroy it; name another file",
                path, places_.LineOf(disk->second));
      }
    } else if (!Accessible(DirectoryOf(path), W_OK | X_OK)) {
      Problem("console.log", "the log '{}' cannot be created: {} on '{}'", path, ErrnoText(errno),
              DirectoryOf(path));
    }
  }

  void CheckSandbox() {
    const SandboxConfig& sandbox = config_.sandbox;
    const bool root = geteuid() == 0;
    if (!sandbox.user.empty()) {
      const Result<User> user = FindUser(sandbox.user);
      if (!user.ok()) {
        Problem("sandbox.user", "user: {}; make one (adduser --system --group {}), or name another",
                user.error().message(), Printable(sandbox.user));
      } else if (!root && user->uid != geteuid()) {
        Problem("sandbox.user",
                "user: only root can become '{}': start as root or as that user, or leave the key "
                "out",
                Printable(sandbox.user));
      }
    }
    if (sandbox.namespaces.any() && !root) {
      Problem("sandbox.namespaces",
              "namespaces: only root can make them: start as root (and name a user to become), or "
              "leave the key out");
    }
  }

  void CheckLimits() {
    if (config_.limits.any()) {
      if (const Status probed = ProbeCgroups(limits_.cgroups); !probed.ok()) {
        Problem("limits", "limits cannot be kept: {}; or leave [limits] out",
                probed.error().message());
      }
    }
  }

  void CheckStore() {
    const std::string& path = config_.store_path;
    if (path.empty()) {
      return;
    }
    if (!config_.store_key.empty() && !Accessible(config_.store_key, R_OK)) {
      Problem("store.key",
              "the key file '{}' cannot be read: {} (pacsvisor store new-key FILE makes one)",
              config_.store_key, ErrnoText(errno));
    }
    struct stat status;
    if (stat(path.c_str(), &status) == 0) {
      if (!S_ISDIR(status.st_mode)) {
        Problem("store.path", "the store '{}' is a file: a store is a directory; name another",
                path);
      } else if (!Accessible(path, R_OK | W_OK | X_OK)) {
        Problem("store.path", "the store '{}' cannot be written: {}", path, ErrnoText(errno));
      }
    } else if (!Accessible(DirectoryOf(path), W_OK | X_OK)) {
      Problem("store.path", "the store '{}' cannot be created: {} on '{}'", path, ErrnoText(errno),
              DirectoryOf(path));
    }
  }

  const MachineConfig& config_;
  const ConfigPlaces& places_;
  const HostLimits& limits_;
  std::vector<ConfigProblem> problems_;
  std::map<FileId, std::string> disks_;  // → key
};

}  // namespace

HostLimits HostLimits::OfThisHost() {
  struct sysinfo info = {};
  CHECK(sysinfo(&info) == 0);
  return {.memory_bytes = static_cast<uint64_t>(info.totalram) * info.mem_unit, .cgroups = {}};
}

std::vector<ConfigProblem> CheckConfigAgainstHost(const MachineConfig& config,
                                                  const ConfigPlaces& places,
                                                  const HostLimits& limits) {
  return HostCheck(config, places, limits).Run();
}

}  // namespace pacsvisor
