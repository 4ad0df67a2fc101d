#include "vmm/machine/config_write.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "vmm/base/duration.h"
#include "vmm/machine/config_text.h"
#include "vmm/machine/tracking.h"

namespace pacsvisor {
namespace {

// A basic string (TOML 1.0.0, "String").
std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

class Writer {
 public:
  void Table(std::string_view header) { text_ += fmt::format("[{}]\n", header); }
  void Key(std::string_view key, std::string_view value) {
    text_ += fmt::format("{} = {}\n", key, value);
  }
  void Text(std::string_view key, std::string_view value) {
    if (!value.empty()) {
      Key(key, Quoted(value));
    }
  }
  void Flag(std::string_view key, bool value, bool usual) {
    if (value != usual) {
      Key(key, value ? "true" : "false");
    }
  }
  template <typename Number>
  void Count(std::string_view key, const std::optional<Number>& value) {
    if (value) {
      Key(key, fmt::format("{}", *value));
    }
  }
  void Size(std::string_view key, const std::optional<uint64_t>& value) {
    if (value) {
      Key(key, Quoted(FormatSize(*value)));
    }
  }
  void Texts(std::string_view key, const std::vector<std::string>& values) {
    std::string list;
    for (const std::string& value : values) {
      list += (list.empty() ? "" : ", ") + Quoted(value);
    }
    if (!values.empty()) {
      Key(key, "[" + list + "]");
    }
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

void WriteBoot(Writer& out, const BootConfig& boot) {
  out.Table("boot");
  out.Text("kernel", boot.kernel);
  out.Text("initrd", boot.initrd);
  out.Text("cmdline", boot.cmdline);
  if (boot.unpack != KernelUnpack::kAuto) {
    out.Text("unpack", boot.unpack == KernelUnpack::kHost ? "host" : "guest");
  }
}

void WriteDisk(Writer& out, const DiskConfig& disk) {
  out.Table("[disk]");
  out.Text("path", disk.path);
  out.Text("serial", disk.serial);
  out.Flag("read_only", disk.read_only, false);
  out.Key("queues", fmt::format("{}", disk.queues));
  out.Text("cache", disk.cache == DiskCache::kNone ? "none" : "");
  out.Size("bandwidth", disk.rates.bytes_per_second);
  out.Count("iops", disk.rates.operations_per_second);
}

void WriteNet(Writer& out, const NetConfig& net) {
  out.Table("[net]");
  out.Text("backend", NetBackendName(net.backend));
  out.Text("interface", net.interface);
  out.Text("mac", FormatMac(net.mac));
  std::vector<std::string> forwards;
  for (const PortForward& forward : net.forwards) {
    forwards.push_back(FormatForward(forward));
  }
  out.Texts("forward", forwards);
  out.Flag("isolated", net.isolated, false);
  out.Size("bandwidth", net.bandwidth_bytes);
}

void WriteSchedule(Writer& out, const ScheduleConfig& schedule) {
  out.Table("schedule");
  out.Text("every", DurationText(schedule.every_us));
  out.Flag("quiesce", schedule.quiesce, false);
  if (schedule.verified_within_us != 0) {
    out.Text("verified_within", DurationText(schedule.verified_within_us));
  }
  const KeepRules& keep = schedule.keep;
  std::string rules;
  for (const auto& [name, count] :
       {std::pair("last", keep.last), std::pair("hourly", keep.hourly),
        std::pair("daily", keep.daily), std::pair("weekly", keep.weekly),
        std::pair("monthly", keep.monthly), std::pair("yearly", keep.yearly)}) {
    if (count != 0) {
      rules += fmt::format("{}{} = {}", rules.empty() ? "" : ", ", name, count);
    }
  }
  if (!rules.empty()) {
    out.Key("keep", "{ " + rules + " }");
  }
}

void WriteSandbox(Writer& out, const SandboxConfig& sandbox) {
  if (sandbox.user.empty() && !sandbox.namespaces.any() && sandbox.filter_calls) {
    return;
  }
  out.Table("sandbox");
  out.Text("user", sandbox.user);
  out.Flag("seccomp", sandbox.filter_calls, true);
  std::vector<std::string> names;
  for (const auto& [asked, name] :
       {std::pair(sandbox.namespaces.pid, "pid"), std::pair(sandbox.namespaces.mount, "mount"),
        std::pair(sandbox.namespaces.network, "net")}) {
    if (asked) {
      names.emplace_back(name);
    }
  }
  out.Texts("namespaces", names);
}

void WriteLimits(Writer& out, const CgroupLimits& limits) {
  if (limits.any()) {
    out.Table("limits");
    out.Count("cpu_percent", limits.cpu_percent);
    out.Size("memory", limits.memory_bytes);
    out.Count("threads", limits.thread_count);
  }
}

}  // namespace

std::string ConfigToToml(const MachineConfig& config) {
  Writer out;
  out.Text("name", config.name);
  out.Key("cpus", fmt::format("{}", config.cpus));
  out.Size("memory", config.memory_bytes);
  if (config.cpu != CpuModel::kHost) {
    out.Text("cpu", CpuModelName(config.cpu));
  }
  if (config.memory_backing == MemoryBacking::kMemfd) {
    out.Text("memory_backing", "memfd");
  }
  if (config.tracking != Tracking::kAuto) {
    out.Text("tracking", TrackingName(config.tracking));
  }
  WriteBoot(out, config.boot);
  for (const DiskConfig& disk : config.disks) {
    WriteDisk(out, disk);
  }
  for (const NetConfig& net : config.nets) {
    WriteNet(out, net);
  }
  if (!config.console_log.empty()) {
    out.Table("console");
    out.Text("log", config.console_log);
  }
  if (config.agent_enabled) {
    out.Table("agent");
  }
  if (!config.store_path.empty()) {
    out.Table("store");
    out.Text("path", config.store_path);
    if (!config.store_key.empty()) {
      out.Text("key", config.store_key);
    }
    out.Size("write_rate", config.store_write_rate_bytes);
  }
  if (config.schedule) {
    WriteSchedule(out, *config.schedule);
  }
  WriteSandbox(out, config.sandbox);
  WriteLimits(out, config.limits);
  return out.Take();
}

}  // namespace pacsvisor
