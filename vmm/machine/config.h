// A machine's configuration as plain data, and VM.toml as its written form.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/rate_limiter.h"
#include "vmm/base/result.h"
#include "vmm/disk/disk_image.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/machine/tracking.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/sandbox/cgroup.h"
#include "vmm/sandbox/namespaces.h"
#include "vmm/store/keep_rules.h"

namespace pacsvisor {

using MacBytes = std::array<uint8_t, 6>;

// Who uncompresses a bzImage. kAuto chooses what was measured to be faster.
enum class KernelUnpack { kAuto, kHost, kGuest };
enum class NetBackend {
  kUser,  // libslirp, in this process; no privileges
  kTap,   // an existing TAP interface
  kNone,  // a card without a cable
};
enum class ForwardProtocol { kTcp, kUdp };

struct BootConfig {
  std::string kernel;  // bzImage or PVH ELF
  std::string initrd;  // empty: none
  std::string cmdline;
  KernelUnpack unpack = KernelUnpack::kAuto;
};

struct DiskConfig {
  std::string path;    // raw image or block device
  std::string serial;  // at most 20 bytes of printable ASCII (virtio 1.2, 5.2.6); may be empty
  bool read_only = false;
  uint32_t queues = 1;
  DiskCache cache = DiskCache::kWriteback;
  RateLimits rates;  // reads and writes together; unset: no limit
};

// "[tcp:|udp:]HOST_ADDRESS:HOST_PORT:GUEST_PORT" in VM.toml; "127.0.0.1:4242:4242".
struct PortForward {
  ForwardProtocol protocol = ForwardProtocol::kTcp;
  std::string host_address;  // IPv4, dotted
  uint16_t host_port = 0;
  uint16_t guest_port = 0;
};

struct NetConfig {
  NetBackend backend = NetBackend::kUser;
  std::string interface;  // kTap only
  MacBytes mac = {};      // never all zero after LoadConfig: made of name and index where not given
  std::vector<PortForward> forwards;  // kUser only
  bool isolated = false;              // kUser only: the guest reaches nothing but the forwards
  std::optional<uint64_t> bandwidth_bytes;  // a second, each direction; unset: no limit
};

struct SandboxConfig {
  std::string user;          // whom the process becomes when root starts it; empty: nobody else
  Namespaces namespaces;     // of its own
  bool filter_calls = true;  // seccomp; false only to look for a fault
};

// Snapshots that the machine's process takes by itself.
struct ScheduleConfig {
  static constexpr uint64_t kMinEveryUs = 1'000'000;
  static constexpr uint64_t kMaxEveryUs = 366ull * 24 * 3600 * 1'000'000;

  uint64_t every_us = 0;
  bool quiesce = false;
  KeepRules keep;                   // of them; without a rule all stay
  uint64_t verified_within_us = 0;  // `pacsvisor snapshots` warns; 0: never
};

struct MachineConfig {
  static constexpr uint32_t kMaxCpus = 16;
  static constexpr uint64_t kMinMemoryBytes = 8ul << 20;
  static constexpr size_t kMaxDisks = 16;
  static constexpr size_t kMaxNets = 8;
  static constexpr uint32_t kMaxDiskQueues = 16;
  static constexpr uint64_t kMinBandwidthBytes = 64ul << 10;  // less, and guests give up waiting
  static constexpr uint64_t kMaxBandwidthBytes = 1ul << 40;
  static constexpr uint64_t kMinWriteRateBytes = 1ul << 20;  // less, and nobody waits for the end
  static constexpr uint64_t kMinOperations = 10;
  static constexpr uint64_t kMaxOperations = 1'000'000'000;

  std::string name;
  uint32_t cpus = 1;
  uint64_t memory_bytes = 0;  // a multiple of 1 MiB
  CpuModel cpu = CpuModel::kHost;
  MemoryBacking memory_backing = MemoryBacking::kAnonymous;
  Tracking tracking = Tracking::kAuto;
  BootConfig boot;
  std::vector<DiskConfig> disks;
  std::vector<NetConfig> nets;
  std::string console_log;  // file that the serial console's output is appended to; empty: none
  bool agent_enabled = false;
  std::string store_path;                          // empty: no snapshots
  std::string store_key;                           // its key file; empty: not encrypted
  std::optional<uint64_t> store_write_rate_bytes;  // a second; unset: no limit
  std::optional<ScheduleConfig> schedule;
  SandboxConfig sandbox;
  CgroupLimits limits;
  // What LoadConfig read, and the absolute directory that its relative paths start at: a snapshot
  // takes both along.
  std::string source_text;
  std::string source_directory;
};

// Where a key of the configuration stands: "memory", "boot.kernel", "disk[1].path", "net[0]" →
// line, counted from 1. A key that is not there is looked up by what it stands in, down to line 0
// (of the file: 1).
class ConfigPlaces {
 public:
  void Set(std::string key, int line) { lines_[std::move(key)] = line; }
  int LineOf(std::string_view key) const;

 private:
  std::map<std::string, int, std::less<>> lines_;
};

struct ConfigProblem {
  std::string key;   // "disk[1].path"
  int line = 0;      // 0: the file as a whole, or no file
  std::string text;  // what, why, what to do
};

struct ParsedConfig {
  MachineConfig config;  // keys with problems hold their defaults
  ConfigPlaces places;
  std::vector<ConfigProblem> problems;  // unknown and missing keys, wrong types and values
  bool is_toml = true;                  // false: a syntax error is the only problem
};

// What of the host the checks need.
struct HostLimits {
  uint64_t memory_bytes = 0;
  CgroupHost cgroups;

  static HostLimits OfThisHost();
};

inline constexpr size_t kConfigSizeLimitBytes = 64u << 10;

// From TOML text, at most kConfigSizeLimitBytes; touches no file. `directory` is put before
// relative paths ("" leaves them). A syntax error stops at the first.
ParsedConfig ParseConfigText(std::string_view text, std::string_view directory);

// Ranges and clashes within the configuration, whatever host it is for.
std::vector<ConfigProblem> ValidateConfig(const MachineConfig& config,
                                          const ConfigPlaces& places = {});
// Files, devices, ports and memory of this host.
std::vector<ConfigProblem> CheckConfigAgainstHost(const MachineConfig& config,
                                                  const ConfigPlaces& places,
                                                  const HostLimits& limits);

// All of the above on a file. The error names every problem on a line of its own, as FILE:LINE:
// TEXT, in the file's order.
Result<MachineConfig> LoadConfig(const std::string& path);

// Locally administered, the same for the same name and index.
MacBytes DefaultMac(std::string_view name, size_t index);
std::string FormatMac(const MacBytes& mac);
std::string FormatForward(const PortForward& forward);
std::string_view NetBackendName(NetBackend backend);

}  // namespace pacsvisor
