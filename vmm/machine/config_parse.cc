// VM.toml's tables and keys, read into MachineConfig.
#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "vmm/base/duration.h"
#include "vmm/machine/config.h"
#include "vmm/machine/config_table.h"
#include "vmm/machine/config_text.h"
#include "vmm/machine/config_tree.h"

namespace pacsvisor {
namespace {

template <typename Enum>
using Choices = std::pair<std::string_view, Enum>;

constexpr Choices<CpuModel> kCpuModels[] = {{"host", CpuModel::kHost},
                                            {"x86-64-v2", CpuModel::kX86_64V2},
                                            {"x86-64-v3", CpuModel::kX86_64V3}};
constexpr Choices<MemoryBacking> kBackings[] = {{"anonymous", MemoryBacking::kAnonymous},
                                                {"memfd", MemoryBacking::kMemfd}};
constexpr Choices<Tracking> kTrackings[] = {{"auto", Tracking::kAuto},
                                            {"bitmap", Tracking::kBitmap},
                                            {"ring", Tracking::kRing},
                                            {"pagemap", Tracking::kPagemap},
                                            {"compare", Tracking::kCompare}};
constexpr Choices<KernelUnpack> kUnpacks[] = {
    {"auto", KernelUnpack::kAuto}, {"host", KernelUnpack::kHost}, {"guest", KernelUnpack::kGuest}};
constexpr Choices<DiskCache> kCaches[] = {{"writeback", DiskCache::kWriteback},
                                          {"none", DiskCache::kNone}};
constexpr Choices<NetBackend> kBackends[] = {
    {"user", NetBackend::kUser}, {"tap", NetBackend::kTap}, {"none", NetBackend::kNone}};

class Reader {
 public:
  Reader(std::string_view directory, ParsedConfig* out)
      : directory_(directory), out_(*out), config_(out->config) {}

  void ReadRoot(const ConfigNode& root) {
    ConfigTable table(root, "", &out_);
    config_.name = table.String("name").value_or("");
    table.Missing("name", "\"pacs\"");
    config_.cpus = table.Number("cpus").value_or(config_.cpus);
    config_.memory_bytes = table.Size("memory").value_or(0);
    table.Missing("memory", "\"2G\"");
    config_.cpu = table.Choice<CpuModel>("cpu", kCpuModels).value_or(config_.cpu);
    config_.memory_backing =
        table.Choice<MemoryBacking>("memory_backing", kBackings).value_or(config_.memory_backing);
    config_.tracking = table.Choice<Tracking>("tracking", kTrackings).value_or(config_.tracking);
    ReadBoot(table);
    ReadDisks(table);
    ReadNets(table);
    if (const ConfigNode* console = table.Table("console")) {
      ReadConsole(*console);
    }
    if (const ConfigNode* agent = table.Table("agent")) {
      ReadAgent(*agent);
    }
    if (const ConfigNode* store = table.Table("store")) {
      ReadStore(*store);
    }
    if (const ConfigNode* schedule = table.Table("schedule")) {
      ReadSchedule(*schedule);
    }
    if (const ConfigNode* sandbox = table.Table("sandbox")) {
      ReadSandbox(*sandbox);
    }
    if (const ConfigNode* limits = table.Table("limits")) {
      ReadLimits(*limits);
    }
    table.ReportUnknown();
  }

 private:
  void ReadBoot(ConfigTable& root) {
    const ConfigNode* node = root.Table("boot");
    root.Missing("boot", "a [boot] table with kernel = \"vmlinuz\"");
    if (node == nullptr) {
      return;
    }
    ConfigTable table(*node, "boot", &out_);
    BootConfig& boot = config_.boot;
    boot.kernel = table.Path("kernel", directory_).value_or("");
    table.Missing("kernel", "\"vmlinuz\"");
    boot.initrd = table.Path("initrd", directory_).value_or("");
    boot.cmdline = table.String("cmdline").value_or("");
    boot.unpack = table.Choice<KernelUnpack>("unpack", kUnpacks).value_or(boot.unpack);
    table.ReportUnknown();
  }

  void ReadDisks(ConfigTable& root) {
    for (const ConfigNode& node : root.Tables("disk")) {
      ConfigTable table(node, fmt::format("disk[{}]", config_.disks.size()), &out_);
      DiskConfig disk;
      disk.path = table.Path("path", directory_).value_or("");
      table.Missing("path", "\"root.raw\"");
      disk.serial = table.String("serial").value_or("");
      disk.read_only = table.Boolean("read_only").value_or(false);
      disk.queues = table.Number("queues").value_or(disk.queues);
      disk.cache = table.Choice<DiskCache>("cache", kCaches).value_or(disk.cache);
      disk.rates.bytes_per_second = table.Size("bandwidth");
      disk.rates.operations_per_second = table.Number("iops");
      table.ReportUnknown();
      config_.disks.push_back(std::move(disk));
    }
  }

  void ReadNets(ConfigTable& root) {
    for (const ConfigNode& node : root.Tables("net")) {
      ConfigTable table(node, fmt::format("net[{}]", config_.nets.size()), &out_);
      NetConfig net;
      net.backend = table.Choice<NetBackend>("backend", kBackends).value_or(net.backend);
      table.Missing("backend", "\"user\"");
      net.interface = table.String("interface").value_or("");
      net.mac = ReadMac(table);
      const auto forwards = table.Strings("forward");
      for (size_t i = 0; i < forwards.size(); ++i) {
        net.forwards.push_back(ReadForward(table, i, forwards[i]));
      }
      net.isolated = table.Boolean("isolated").value_or(false);
      net.bandwidth_bytes = table.Size("bandwidth");
      table.ReportUnknown();
      config_.nets.push_back(std::move(net));
    }
  }

  MacBytes ReadMac(ConfigTable& table) {
    const std::optional<std::string> text = table.String("mac");
    if (text) {
      if (const std::optional<MacBytes> mac = ParseMac(*text)) {
        return *mac;
      }
      table.Problem("mac", fmt::format("mac = \"{}\" is no address: write six pairs of hex digits, "
                                       "such as \"52:54:00:12:34:56\"",
                                       Printable(*text)));
    }
    return DefaultMac(config_.name, config_.nets.size());
  }

  // An entry with a problem keeps its place, so that the others' lines stay right.
  PortForward ReadForward(ConfigTable& table, size_t index,
                          const std::optional<std::string>& text) {
    if (!text) {
      return {};
    }
    Result<PortForward> forward = ParseForward(*text);
    if (!forward.ok()) {
      table.Problem(fmt::format("forward[{}]", index), forward.error().message());
      return {};
    }
    return *std::move(forward);
  }

  void ReadConsole(const ConfigNode& node) {
    ConfigTable table(node, "console", &out_);
    config_.console_log = table.Path("log", directory_).value_or("");
    table.ReportUnknown();
  }

  void ReadAgent(const ConfigNode& node) {
    ConfigTable table(node, "agent", &out_);
    config_.agent_enabled = table.Boolean("enabled").value_or(true);
    table.ReportUnknown();
  }

  void ReadSchedule(const ConfigNode& node) {
    ConfigTable table(node, "schedule", &out_);
    ScheduleConfig schedule;
    schedule.every_us = ReadDuration(table, "every");
    table.Missing("every", "\"1h\"");
    schedule.quiesce = table.Boolean("quiesce").value_or(false);
    schedule.verified_within_us = ReadDuration(table, "verified_within");
    if (const ConfigNode* keep = table.Table("keep")) {
      ReadKeepRules(*keep, schedule.keep);
    }
    table.ReportUnknown();
    config_.schedule = schedule;
  }

  void ReadKeepRules(const ConfigNode& node, KeepRules& keep) {
    ConfigTable table(node, "schedule.keep", &out_);
    keep.last = table.Number("last").value_or(0);
    keep.hourly = table.Number("hourly").value_or(0);
    keep.daily = table.Number("daily").value_or(0);
    keep.weekly = table.Number("weekly").value_or(0);
    keep.monthly = table.Number("monthly").value_or(0);
    keep.yearly = table.Number("yearly").value_or(0);
    table.ReportUnknown();
  }

  // 0: it is not there, or wrong.
  uint64_t ReadDuration(ConfigTable& table, std::string_view name) {
    const std::optional<std::string> text = table.String(name);
    if (!text) {
      return 0;
    }
    const Result<uint64_t> duration =
        ParseDurationUs(*text, ScheduleConfig::kMinEveryUs, ScheduleConfig::kMaxEveryUs);
    if (!duration.ok()) {
      table.Problem(name,
                    fmt::format("{} = \"{}\" is no time from {} to {}: write a whole number "
                                "and its unit, such as \"30m\", \"1h\" or \"1d\"",
                                name, Printable(*text), DurationText(ScheduleConfig::kMinEveryUs),
                                DurationText(ScheduleConfig::kMaxEveryUs)));
    }
    return duration.ok() ? *duration : 0;
  }

  void ReadStore(const ConfigNode& node) {
    ConfigTable table(node, "store", &out_);
    config_.store_path = table.Path("path", directory_).value_or("");
    table.Missing("path", "\"store\"");
    config_.store_key = table.Path("key", directory_).value_or("");
    config_.store_write_rate_bytes = table.Size("write_rate");
    table.ReportUnknown();
  }

  void ReadSandbox(const ConfigNode& node) {
    ConfigTable table(node, "sandbox", &out_);
    config_.sandbox.user = table.String("user").value_or("");
    config_.sandbox.filter_calls = table.Boolean("seccomp").value_or(true);
    const auto names = table.Strings("namespaces");
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] && !AddNamespace(*names[i])) {
        table.Problem(fmt::format("namespaces[{}]", i),
                      fmt::format("namespaces: \"{}\" is none of \"pid\", \"mount\", \"net\"",
                                  Printable(*names[i])));
      }
    }
    table.ReportUnknown();
  }

  bool AddNamespace(std::string_view name) {
    Namespaces& namespaces = config_.sandbox.namespaces;
    bool* const asked = name == "pid"     ? &namespaces.pid
                        : name == "mount" ? &namespaces.mount
                        : name == "net"   ? &namespaces.network
                                          : nullptr;
    if (asked != nullptr) {
      *asked = true;
    }
    return asked != nullptr;
  }

  void ReadLimits(const ConfigNode& node) {
    ConfigTable table(node, "limits", &out_);
    config_.limits.cpu_percent = table.Number("cpu_percent");
    config_.limits.memory_bytes = table.Size("memory");
    config_.limits.thread_count = table.Number("threads");
    table.ReportUnknown();
  }

  const std::string_view directory_;
  ParsedConfig& out_;
  MachineConfig& config_;
};

}  // namespace

ParsedConfig ParseConfigText(std::string_view text, std::string_view directory) {
  ParsedConfig parsed;
  const ConfigTree tree = ParseToml(text);
  if (tree.syntax_error) {
    parsed.is_toml = false;
    parsed.problems.push_back(
        {.key = "", .line = tree.syntax_error->first, .text = tree.syntax_error->second});
    return parsed;
  }
  Reader(directory, &parsed).ReadRoot(tree.root);
  return parsed;
}

int ConfigPlaces::LineOf(std::string_view key) const {
  while (true) {
    if (const auto found = lines_.find(key); found != lines_.end()) {
      return found->second;
    }
    if (key.empty()) {
      return 0;
    }
    const size_t end = key.find_last_of(".[");
    key = end == std::string_view::npos ? std::string_view() : key.substr(0, end);
  }
}

}  // namespace pacsvisor
