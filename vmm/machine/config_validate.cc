// Ranges and clashes inside a configuration.
#include <fmt/format.h>
#include <net/if.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>

#include "vmm/machine/config.h"
#include "vmm/machine/config_text.h"

namespace pacsvisor {
namespace {

constexpr size_t kMaxNameLength = 63;
constexpr size_t kMaxSerialBytes = 20;     // virtio 1.2, 5.2.6: VIRTIO_BLK_T_GET_ID
constexpr size_t kMaxCmdlineBytes = 2047;  // Linux x86: COMMAND_LINE_SIZE with its terminator
constexpr uint64_t kMemoryUnitBytes = 1ul << 20;
constexpr uint32_t kMinCpuPercent = 5;
// The process beside its guest: its own memory, what its sockets and page tables take.
constexpr uint64_t kOwnMemoryBytes = 64ul << 20;
constexpr uint32_t kMinThreads = 128;

bool IsName(std::string_view name) {
  const auto is_alnum = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= kMaxNameLength && is_alnum(name.front()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.'; });
}

bool IsSerial(std::string_view serial) {
  return serial.size() <= kMaxSerialBytes &&
         std::all_of(serial.begin(), serial.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

bool IsInterfaceName(std::string_view name) {
  return !name.empty() && name.size() < IFNAMSIZ && name != "." && name != ".." &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return c > 0x20 && c < 0x7f && c != '/' && c != ':'; });
}

// Two listeners clash when one of them takes every address.
bool Clash(const PortForward& a, const PortForward& b) {
  return a.protocol == b.protocol && a.host_port == b.host_port &&
         (a.host_address == b.host_address || a.host_address == "0.0.0.0" ||
          b.host_address == "0.0.0.0");
}

std::string NormalPath(const std::string& path) {
  return std::filesystem::path(path).lexically_normal().string();
}

class Validator {
 public:
  Validator(const MachineConfig& config, const ConfigPlaces& places)
      : config_(config), places_(places) {}

  std::vector<ConfigProblem> Run() {
    CheckMachine();
    CheckBoot();
    CheckDisks();
    CheckNets();
    CheckForwards();
    CheckNetworkNamespace();
    CheckStore();
    CheckSchedule();
    CheckLimits();
    return std::move(problems_);
  }

 private:
  template <typename... Args>
  void Problem(const std::string& key, fmt::format_string<Args...> format, Args&&... args) {
    problems_.push_back({.key = key,
                         .line = places_.LineOf(key),
                         .text = fmt::format(format, std::forward<Args>(args)...)});
  }

  void CheckMachine() {
    if (!IsName(config_.name)) {
      Problem("name",
              "name = \"{}\" cannot name a machine: use 1 to {} letters, digits, '-', '_' and '.', "
              "the first a letter or digit",
              Printable(config_.name), kMaxNameLength);
    }
    if (config_.cpus < 1 || config_.cpus > MachineConfig::kMaxCpus) {
      Problem("cpus", "cpus = {} is out of range: give 1 to {}", config_.cpus,
              MachineConfig::kMaxCpus);
    }
    if (config_.memory_bytes < MachineConfig::kMinMemoryBytes) {
      Problem("memory", "a memory of {} boots nothing: give at least {}",
              FormatSize(config_.memory_bytes), FormatSize(MachineConfig::kMinMemoryBytes));
    } else if (config_.memory_bytes % kMemoryUnitBytes != 0) {
      Problem("memory", "a memory of {} is not whole: give a multiple of 1M",
              FormatSize(config_.memory_bytes));
    }
  }

  void CheckStore() {
    const uint64_t rate =
        config_.store_write_rate_bytes.value_or(MachineConfig::kMinWriteRateBytes);
    if (rate < MachineConfig::kMinWriteRateBytes || rate > MachineConfig::kMaxBandwidthBytes) {
      Problem("store.write_rate",
              "a write_rate of {} a second is out of range: give {} to {}, or leave it out for no "
              "limit",
              FormatSize(rate), FormatSize(MachineConfig::kMinWriteRateBytes),
              FormatSize(MachineConfig::kMaxBandwidthBytes));
    }
  }

  void CheckSchedule() {
    if (config_.schedule && config_.store_path.empty()) {
      Problem("schedule", "snapshots need a place to go to: add [store] with path = \"DIRECTORY\"");
    }
    if (config_.schedule && config_.schedule->quiesce && !config_.agent_enabled) {
      Problem("schedule.quiesce",
              "file systems are frozen by the guest's agent: add [agent], and install "
              "qemu-guest-agent in the guest");
    }
  }

  void CheckBoot() {
    const BootConfig& boot = config_.boot;
    if (boot.kernel.empty()) {
      Problem("boot.kernel", "no kernel is given: name a bzImage or PVH ELF file");
    }
    if (boot.cmdline.size() > kMaxCmdlineBytes) {
      Problem("boot.cmdline", "the command line has {} bytes: Linux takes at most {}",
              boot.cmdline.size(), kMaxCmdlineBytes);
    }
    if (boot.cmdline.find_first_of(std::string_view("\n\r\0", 3)) != std::string::npos) {
      Problem("boot.cmdline", "the command line spans lines: Linux reads one, write it as one");
    }
  }

  void CheckDisks() {
    if (config_.disks.size() > MachineConfig::kMaxDisks) {
      Problem(fmt::format("disk[{}]", MachineConfig::kMaxDisks),
              "{} disks are too many: a machine has at most {}", config_.disks.size(),
              MachineConfig::kMaxDisks);
    }
    for (size_t i = 0; i < config_.disks.size(); ++i) {
      CheckDisk(i);
    }
  }

  void CheckDisk(size_t index) {
    const DiskConfig& disk = config_.disks[index];
    const std::string key = fmt::format("disk[{}]", index);
    if (disk.path.empty()) {
      Problem(key + ".path", "the disk has no path: name a raw image or a block device");
    }
    if (!IsSerial(disk.serial)) {
      Problem(key + ".serial",
              "serial = \"{}\" cannot be one: use at most {} printable ASCII characters without "
              "spaces",
              Printable(disk.serial), kMaxSerialBytes);
    }
    if (disk.queues < 1 || disk.queues > MachineConfig::kMaxDiskQueues) {
      Problem(key + ".queues", "queues = {} is out of range: give 1 to {}", disk.queues,
              MachineConfig::kMaxDiskQueues);
    }
    CheckBandwidth(key, disk.rates.bytes_per_second);
    const uint64_t operations =
        disk.rates.operations_per_second.value_or(MachineConfig::kMinOperations);
    if (operations < MachineConfig::kMinOperations || operations > MachineConfig::kMaxOperations) {
      Problem(key + ".iops",
              "iops = {} is out of range: give {} to {}, or leave it out for no limit", operations,
              MachineConfig::kMinOperations, MachineConfig::kMaxOperations);
    }
    for (size_t other = 0; other < index; ++other) {
      const DiskConfig& earlier = config_.disks[other];
      if (!disk.path.empty() && NormalPath(disk.path) == NormalPath(earlier.path)) {
        Problem(key + ".path",
                "'{}' is a disk twice (first on line {}): two disks on one file destroy each "
                "other's data; give each a file of its own",
                disk.path, places_.LineOf(fmt::format("disk[{}].path", other)));
        break;
      }
    }
    for (size_t other = 0; other < index; ++other) {
      if (!disk.serial.empty() && disk.serial == config_.disks[other].serial) {
        Problem(key + ".serial",
                "serial = \"{}\" is taken by another disk (line {}): a guest finds disks by it; "
                "give each its own",
                disk.serial, places_.LineOf(fmt::format("disk[{}].serial", other)));
        break;
      }
    }
  }

  void CheckBandwidth(const std::string& key, std::optional<uint64_t> given) {
    const uint64_t bandwidth = given.value_or(MachineConfig::kMinBandwidthBytes);
    if (bandwidth < MachineConfig::kMinBandwidthBytes ||
        bandwidth > MachineConfig::kMaxBandwidthBytes) {
      Problem(key + ".bandwidth",
              "a bandwidth of {} a second is out of range: give {} to {}, or leave it out for no "
              "limit",
              FormatSize(bandwidth), FormatSize(MachineConfig::kMinBandwidthBytes),
              FormatSize(MachineConfig::kMaxBandwidthBytes));
    }
  }

  void CheckNets() {
    if (config_.nets.size() > MachineConfig::kMaxNets) {
      Problem(fmt::format("net[{}]", MachineConfig::kMaxNets),
              "{} network cards are too many: a machine has at most {}", config_.nets.size(),
              MachineConfig::kMaxNets);
    }
    for (size_t i = 0; i < config_.nets.size(); ++i) {
      CheckBackend(i);
      CheckMac(i);
      CheckBandwidth(fmt::format("net[{}]", i), config_.nets[i].bandwidth_bytes);
    }
  }

  void CheckBackend(size_t index) {
    const NetConfig& net = config_.nets[index];
    const std::string key = fmt::format("net[{}]", index);
    const bool tap = net.backend == NetBackend::kTap;
    const bool user = net.backend == NetBackend::kUser;
    if (tap && !IsInterfaceName(net.interface)) {
      Problem(key + ".interface",
              "interface = \"{}\" names no TAP interface: give the name of an existing one, such "
              "as \"tap0\" (at most {} characters)",
              Printable(net.interface), IFNAMSIZ - 1);
    }
    if (!tap && !net.interface.empty()) {
      Problem(key + ".interface",
              "interface is for backend = \"tap\", this one is \"{}\": remove it or change the "
              "backend",
              NetBackendName(net.backend));
    }
    if (!user && !net.forwards.empty()) {
      Problem(key + ".forward",
              "forward is for backend = \"user\", this one is \"{}\", whose guest has an address "
              "of its own: remove it or change the backend",
              NetBackendName(net.backend));
    }
    if (!user && net.isolated) {
      Problem(key + ".isolated",
              "isolated is for backend = \"user\", this one is \"{}\": remove it; a TAP interface "
              "is isolated by what it is bridged to",
              NetBackendName(net.backend));
    }
    for (size_t other = 0; other < index; ++other) {
      if (tap && config_.nets[other].backend == NetBackend::kTap &&
          net.interface == config_.nets[other].interface) {
        Problem(key + ".interface",
                "interface \"{}\" is used twice (first on line {}): give each card its own",
                Printable(net.interface), places_.LineOf(fmt::format("net[{}].interface", other)));
        break;
      }
    }
  }

  void CheckMac(size_t index) {
    const MacBytes& mac = config_.nets[index].mac;
    const std::string key = fmt::format("net[{}].mac", index);
    if ((mac[0] & 1) != 0) {
      Problem(key,
              "mac {} is a multicast address (its first byte is odd), which no card can have: use "
              "an even first byte, such as 52",
              FormatMac(mac));
    } else if (mac == MacBytes{}) {
      Problem(key, "mac {} is no address: leave the key out to have one made", FormatMac(mac));
    }
    for (size_t other = 0; other < index; ++other) {
      if (mac == config_.nets[other].mac) {
        Problem(key, "mac {} is given to two cards (first on line {}): give each its own",
                FormatMac(mac), places_.LineOf(fmt::format("net[{}].mac", other)));
        break;
      }
    }
  }

  // The user-mode network is sockets of this process.
  void CheckNetworkNamespace() {
    for (size_t i = 0; config_.sandbox.namespaces.network && i < config_.nets.size(); ++i) {
      const NetConfig& net = config_.nets[i];
      if (net.backend == NetBackend::kUser && !(net.isolated && net.forwards.empty())) {
        Problem("sandbox.namespaces",
                "namespaces: in a network namespace of its own the process reaches no network, and "
                "backend = \"user\" (line {}) is sockets of the process: use backend = \"tap\", or "
                "leave out \"net\"",
                places_.LineOf(fmt::format("net[{}]", i)));
      }
    }
  }

  void CheckLimits() {
    const CgroupLimits& limits = config_.limits;
    if (limits.cpu_percent && *limits.cpu_percent < kMinCpuPercent) {
      Problem("limits.cpu_percent",
              "cpu_percent = {} is too little to boot with: give {} or more; 100 is one processor",
              *limits.cpu_percent, kMinCpuPercent);
    }
    if (limits.memory_bytes && *limits.memory_bytes < config_.memory_bytes + kOwnMemoryBytes) {
      Problem("limits.memory",
              "a limit of {} ends the machine as soon as the guest uses its memory: give the "
              "guest's {} and at least {} more",
              FormatSize(*limits.memory_bytes), FormatSize(config_.memory_bytes),
              FormatSize(kOwnMemoryBytes));
    }
    if (limits.thread_count && *limits.thread_count < kMinThreads + config_.cpus) {
      Problem("limits.threads",
              "threads = {} are too few for this machine: give {} or more (control connections "
              "take one each, io_uring and the disks some)",
              *limits.thread_count, kMinThreads + config_.cpus);
    }
  }

  void CheckForwards() {
    struct Seen {
      const PortForward* forward;
      std::string key;
    };
    std::vector<Seen> seen;
    for (size_t i = 0; i < config_.nets.size(); ++i) {
      for (size_t j = 0; j < config_.nets[i].forwards.size(); ++j) {
        const PortForward& forward = config_.nets[i].forwards[j];
        if (forward.host_port == 0) {
          continue;  // was no forward: reported when it was read
        }
        std::string key = fmt::format("net[{}].forward[{}]", i, j);
        const auto clash = std::find_if(seen.begin(), seen.end(), [&](const Seen& earlier) {
          return Clash(*earlier.forward, forward);
        });
        if (clash != seen.end()) {
          Problem(key,
                  "forward \"{}\" takes the host's port {} twice (first on line {}): give each "
                  "forward a port of its own",
                  FormatForward(forward), forward.host_port, places_.LineOf(clash->key));
        }
        seen.push_back({.forward = &forward, .key = std::move(key)});
      }
    }
  }

  const MachineConfig& config_;
  const ConfigPlaces& places_;
  std::vector<ConfigProblem> problems_;
};

}  // namespace

std::vector<ConfigProblem> ValidateConfig(const MachineConfig& config, const ConfigPlaces& places) {
  return Validator(config, places).Run();
}

}  // namespace pacsvisor
