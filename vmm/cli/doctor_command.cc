#include <fmt/format.h>
#include <linux/userfaultfd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "vmm/base/linux_abi.h"
#include "vmm/cli/command.h"
#include "vmm/cli/standard_streams.h"
#include "vmm/machine/host_report.h"

namespace pacsvisor {
namespace {

using Json = nlohmann::json;
using Level = HostFinding::Level;

constexpr char kDoctorFooter[] =
    R"(Exit status: 0 machines can run here; 1 something they need is missing.

Examples:
  pacsvisor doctor
  pacsvisor doctor --json | jq .kvm.kind)";

struct UffdFeature {
  uint64_t bit;
  const char* name;
};
constexpr UffdFeature kUffdFeatures[] = {{UFFD_FEATURE_PAGEFAULT_FLAG_WP, "write-protect"},
                                         {UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "write-protect-shared"},
                                         {kUffdFeatureWpUnpopulated, "write-protect-unpopulated"},
                                         {kUffdFeatureWpAsync, "write-protect-async"},
                                         {UFFD_FEATURE_MISSING_SHMEM, "missing-shared"},
                                         {UFFD_FEATURE_MINOR_SHMEM, "minor-shared"}};

// A host without KVM at all has no kind of it.
std::string_view KindOf(const KvmReport& kvm) {
  return kvm.device.exists ? KvmKindName(kvm.kind) : "none";
}

Json ToJson(const DeviceReport& device) {
  return {{"exists", device.exists}, {"usable", device.usable}, {"problem", device.problem}};
}

Json KvmToJson(const KvmReport& kvm) {
  Json json = ToJson(kvm.device);
  json["kind"] = KindOf(kvm);
  json["api"] = kvm.api_version;
  json["capabilities"] = Json::object();
  json["missing"] = Json::array();
  for (const CapabilityReport& capability : kvm.capabilities) {
    json["capabilities"][std::string(capability.name)] = capability.value;
    if (capability.required && capability.value == 0) {
      json["missing"].push_back(capability.name);
    }
  }
  return json;
}

Json UserfaultToJson(const UserfaultReport& userfault) {
  Json features = Json::array();
  for (const UffdFeature& feature : kUffdFeatures) {
    if ((userfault.features & feature.bit) != 0) {
      features.push_back(feature.name);
    }
  }
  return {{"usable", userfault.usable},
          {"problem", userfault.problem},
          {"unprivileged", userfault.unprivileged},
          {"features", std::move(features)}};
}

Json DirtyLogToJson(const HostReport& report) {
  Json json = {{"auto", TrackingName(AutomaticTracking(report))}, {"problems", Json::object()}};
  for (const TrackingReport& tracking : report.tracking) {
    const std::string name(TrackingName(tracking.kind));
    json[name] = tracking.problem.empty();
    if (!tracking.problem.empty()) {
      json["problems"][name] = tracking.problem;
    }
  }
  return json;
}

std::string_view LevelName(Level level) {
  switch (level) {
    case Level::kNote:
      return "note";
    case Level::kWarning:
      return "warning";
    case Level::kProblem:
      return "problem";
  }
  CHECK(false, "level {}", static_cast<int>(level));
}

Json ContainmentToJson(const ContainmentReport& containment) {
  const auto entry = [](const std::string& problem) {
    return Json{{"usable", problem.empty()}, {"problem", problem}};
  };
  return {{"root", containment.is_root},
          {"seccomp", entry(containment.seccomp_problem)},
          {"cgroup_limits", entry(containment.cgroup_problem)},
          {"namespaces", entry(containment.namespaces_problem)},
          {"io_uring_restrictions", entry(containment.uring_restrictions_problem)}};
}

Json ToJson(const HostReport& report, const std::vector<HostFinding>& findings) {
  Json list = Json::array();
  for (const HostFinding& finding : findings) {
    list.push_back(
        {{"level", LevelName(finding.level)}, {"text", finding.text}, {"remedy", finding.remedy}});
  }
  const MemoryReport& memory = report.memory;
  return {{"version", PACSVISOR_VERSION},
          {"kernel", report.kernel},
          {"cpu",
           {{"model", report.cpu_model},
            {"count", report.cpus},
            {"svm", report.kvm.cpu_has_svm},
            {"vmx", report.kvm.cpu_has_vmx},
            {"hypervisor", report.kvm.is_guest}}},
          {"kvm", KvmToJson(report.kvm)},
          {"dirty_log", DirtyLogToJson(report)},
          {"userfaultfd", UserfaultToJson(report.userfault)},
          {"io_uring", ToJson(report.io_uring)},
          {"tun", ToJson(report.tun)},
          {"containment", ContainmentToJson(report.containment)},
          {"memory",
           {{"total_bytes", memory.total_bytes},
            {"available_bytes", memory.available_bytes},
            {"huge_page_bytes", memory.huge_page_bytes},
            {"huge_pages_total", memory.huge_pages_total},
            {"huge_pages_free", memory.huge_pages_free},
            {"transparent_huge_pages", memory.transparent_huge_pages}}},
          {"findings", std::move(list)}};
}

void PrintLine(std::string_view name, std::string_view text) {
  Print(stdout, "{:<12} {}\n", name, text);
}

std::string UsableText(bool usable, const std::string& problem) {
  return usable ? "usable" : fmt::format("not usable: {}", problem);
}

void PrintCapabilities(const KvmReport& kvm) {
  const auto has = [](const CapabilityReport& entry) { return entry.value != 0; };
  const auto count = std::count_if(kvm.capabilities.begin(), kvm.capabilities.end(), has);
  PrintLine("", fmt::format("{} of {} capabilities", count, kvm.capabilities.size()));
  for (const CapabilityReport& entry : kvm.capabilities) {
    if (!has(entry)) {
      PrintLine("", fmt::format("without {} ({}): {}", entry.name,
                                entry.required ? "required" : "optional", entry.why));
    }
  }
}

void PrintDirtyLog(const HostReport& report) {
  std::vector<std::string_view> usable;
  for (const TrackingReport& tracking : report.tracking) {
    if (tracking.problem.empty()) {
      usable.push_back(TrackingName(tracking.kind));
    }
  }
  PrintLine("dirty log", usable.empty() ? "none"
                                        : fmt::format("{}; \"auto\" is {}", fmt::join(usable, ", "),
                                                      TrackingName(AutomaticTracking(report))));
  for (const TrackingReport& tracking : report.tracking) {
    if (!usable.empty() && !tracking.problem.empty()) {
      PrintLine("", fmt::format("without {}: {}", TrackingName(tracking.kind), tracking.problem));
    }
  }
}

void PrintText(const HostReport& report, const std::vector<HostFinding>& findings) {
  constexpr unsigned kMib = 20;
  const KvmReport& kvm = report.kvm;
  PrintLine("host",
            fmt::format("{} CPUs, {}, Linux {}", report.cpus, report.cpu_model, report.kernel));
  PrintLine("kvm", kvm.device.usable
                       ? fmt::format("usable, API {}, kind {}", kvm.api_version, KindOf(kvm))
                       : UsableText(false, kvm.device.problem));
  if (kvm.device.usable) {
    PrintCapabilities(kvm);
  }
  PrintDirtyLog(report);
  std::string features;
  const Json userfault = UserfaultToJson(report.userfault);
  for (const Json& name : userfault.at("features")) {
    features += ", " + name.get<std::string>();
  }
  PrintLine("userfaultfd",
            UsableText(report.userfault.usable, report.userfault.problem) + features);
  PrintLine("io_uring", UsableText(report.io_uring.usable, report.io_uring.problem));
  PrintLine("tun", UsableText(report.tun.usable, report.tun.problem));
  const Json containment = ContainmentToJson(report.containment);
  for (const auto& [name, entry] : containment.items()) {
    if (entry.is_object()) {
      PrintLine("contain", fmt::format("{}: {}", name,
                                       UsableText(entry.at("usable").get<bool>(),
                                                  entry.at("problem").get<std::string>())));
    }
  }
  const MemoryReport& memory = report.memory;
  PrintLine(
      "memory",
      fmt::format("{} MiB, {} MiB available; transparent huge pages: {}; {} of {} huge pages "
                  "free",
                  memory.total_bytes >> kMib, memory.available_bytes >> kMib,
                  memory.transparent_huge_pages, memory.huge_pages_free, memory.huge_pages_total));
  for (const HostFinding& finding : findings) {
    Print(stdout, "\n{}: {}\n", LevelName(finding.level), finding.text);
    if (!finding.remedy.empty()) {
      Print(stdout, "  → {}\n", finding.remedy);
    }
  }
}

ExitStatus Doctor(bool json) {
  const HostReport report = ExamineHost();
  const std::vector<HostFinding> findings = JudgeHost(report);
  if (json) {
    Print(stdout, "{}\n",
          ToJson(report, findings).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    PrintText(report, findings);
  }
  const bool runs = std::none_of(findings.begin(), findings.end(), [](const HostFinding& finding) {
    return finding.level == Level::kProblem;
  });
  return runs ? ExitStatus::kDone : ExitStatus::kFailed;
}

}  // namespace

void AddDoctorCommand(CLI::App& app, ExitStatus* status) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("doctor", "What this host can do, what is missing and how to get it");
  command->add_flag("--json", *json, "Print all of it as JSON");
  command->footer(kDoctorFooter);
  command->callback([json, status] { *status = Doctor(*json); });
}

}  // namespace pacsvisor
