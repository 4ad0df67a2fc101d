#include "vmm/machine/host_report.h"

#include <gmock/gmock.h>
#include <linux/userfaultfd.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace pacsvisor {
namespace {

using testing::HasSubstr;
using Level = HostFinding::Level;

// A host on which nothing is wrong.
HostReport Good() {
  HostReport report;
  report.kvm.device = {.exists = true, .usable = true};
  report.kvm.kind = KvmKind::kSvm;
  report.kvm.cpu_has_svm = true;
  report.kvm.api_version = 12;
  report.kvm.capabilities = {
      {.name = "KVM_CAP_IRQFD", .why = "interrupts", .value = 1, .required = true},
      {.name = "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", .why = "log", .value = 3}};
  report.tun = {.exists = true, .usable = true};
  report.io_uring = {.exists = true, .usable = true};
  for (const Tracking kind : kTrackingSources) {
    report.tracking.push_back({.kind = kind, .problem = ""});
  }
  report.userfault = {.usable = true, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP};
  report.memory = {
      .total_bytes = 8ul << 30, .available_bytes = 7ul << 30, .transparent_huge_pages = "madvise"};
  return report;
}

// The finding that holds `text`; one of level kNote that says so when there is none.
HostFinding Find(const HostReport& report, const std::string& text) {
  for (const HostFinding& finding : JudgeHost(report)) {
    if (finding.text.find(text) != std::string::npos) {
      return finding;
    }
  }
  return {.text = "(no finding)"};
}

bool HasProblem(const HostReport& report) {
  const std::vector<HostFinding> findings = JudgeHost(report);
  return std::any_of(findings.begin(), findings.end(),
                     [](const HostFinding& finding) { return finding.level == Level::kProblem; });
}

TEST(JudgeHost, AGoodHostHasNoProblem) { EXPECT_FALSE(HasProblem(Good())); }

TEST(JudgeHost, WithoutKvmItSaysHowToGetIt) {
  HostReport report = Good();
  report.kvm.device = {.exists = false};
  EXPECT_EQ(Find(report, "no /dev/kvm").level, Level::kProblem);
  EXPECT_EQ(Find(report, "no /dev/kvm").remedy, "modprobe kvm_amd");
  report.kvm.cpu_has_svm = false;
  report.kvm.cpu_has_vmx = true;
  EXPECT_EQ(Find(report, "no /dev/kvm").remedy, "modprobe kvm_intel");
  report.kvm.cpu_has_vmx = false;
  EXPECT_THAT(Find(report, "no /dev/kvm").remedy, HasSubstr("firmware"));
  report.kvm.is_guest = true;
  EXPECT_THAT(Find(report, "no /dev/kvm").remedy, HasSubstr("nested"));
}

TEST(JudgeHost, WithoutRightsItNamesTheGroup) {
  HostReport report = Good();
  report.kvm.device = {.exists = true, .usable = false, .problem = "Permission denied"};
  EXPECT_EQ(Find(report, "cannot be opened").level, Level::kProblem);
  EXPECT_THAT(Find(report, "cannot be opened").remedy, HasSubstr("usermod -aG kvm"));
}

TEST(JudgeHost, WhatKvmLacksIsNamed) {
  HostReport report = Good();
  report.kvm.capabilities[0].value = 0;
  EXPECT_FALSE(report.kvm.AllRequired());
  EXPECT_EQ(Find(report, "KVM_CAP_IRQFD").level, Level::kProblem);
  report = Good();
  report.kvm.api_version = 11;
  EXPECT_EQ(Find(report, "API version 11").level, Level::kProblem);
}

TEST(JudgeHost, SaysWhatEachKindOfKvmMeans) {
  HostReport report = Good();
  EXPECT_EQ(Find(report, "AMD-V").level, Level::kNote);
  report.kvm.kind = KvmKind::kVmx;
  EXPECT_THAT(Find(report, "VT-x").text, HasSubstr("untested"));
  report.kvm.kind = KvmKind::kPvm;
  EXPECT_THAT(Find(report, "paravirtual").text, HasSubstr("interpreted"));
  report.kvm.kind = KvmKind::kUnknown;
  EXPECT_EQ(Find(report, "does not know").level, Level::kWarning);
  EXPECT_FALSE(HasProblem(report));
}

TEST(JudgeHost, SaysWhatIsNotContained) {
  HostReport report = Good();
  report.containment = {.is_root = true,
                        .seccomp_problem = "Invalid argument",
                        .cgroup_problem = "this host has no cgroup version 2",
                        .namespaces_problem = "",
                        .uring_restrictions_problem = "Invalid argument"};
  EXPECT_THAT(Find(report, "seccomp filters").text, HasSubstr("Invalid argument"));
  EXPECT_THAT(Find(report, "without capabilities").remedy, HasSubstr("user = "));
  EXPECT_THAT(Find(report, "[limits]").text, HasSubstr("no cgroup version 2"));
  EXPECT_EQ(Find(report, "restricted").level, Level::kWarning);
  EXPECT_FALSE(HasProblem(report));
}

TEST(JudgeHost, WithoutIoUringDisksAreSlower) {
  HostReport report = Good();
  report.io_uring = {.exists = true, .usable = false, .problem = "Operation not permitted"};
  EXPECT_EQ(Find(report, "io_uring").level, Level::kWarning);
  EXPECT_THAT(Find(report, "io_uring").text, HasSubstr("threads"));
}

TEST(JudgeHost, WhatMakesMachinesWorseIsNoProblem) {
  HostReport report = Good();
  report.userfault = {.usable = false, .problem = "Operation not permitted"};
  report.tun = {.exists = false, .problem = "No such file or directory"};
  report.kvm.capabilities[1].value = 0;
  report.memory.available_bytes = 1 << 20;
  report.memory.transparent_huge_pages = "never";
  EXPECT_FALSE(HasProblem(report));
  EXPECT_EQ(Find(report, "track dirty memory").level, Level::kWarning);
  EXPECT_EQ(Find(report, "userfaultfd").level, Level::kWarning);
  EXPECT_EQ(Find(report, "/dev/net/tun").remedy, "modprobe tun");
  EXPECT_EQ(Find(report, "of memory are available").level, Level::kWarning);
  EXPECT_EQ(Find(report, "huge pages").level, Level::kNote);
}

TEST(AutomaticTracking, IsTheBitmapWhereMachinesRun) {
  HostReport report = Good();
  EXPECT_EQ(AutomaticTracking(report), Tracking::kBitmap);
  for (TrackingReport& tracking : report.tracking) {
    tracking.problem = "there is no /dev/kvm";
  }
  EXPECT_EQ(AutomaticTracking(report), Tracking::kAuto);
}

TEST(ExamineHost, ReadsThisHost) {
  const HostReport report = ExamineHost();
  EXPECT_FALSE(report.kernel.empty());
  EXPECT_GE(report.cpus, 1u);
  EXPECT_GT(report.memory.total_bytes, report.memory.available_bytes);
  EXPECT_GT(report.memory.huge_page_bytes, 0u);
  EXPECT_EQ(report.kvm.device.usable, access("/dev/kvm", R_OK | W_OK) == 0);
  EXPECT_EQ(report.kvm.capabilities.empty(), !report.kvm.device.usable);
  EXPECT_EQ(report.tracking.size(), kTrackingSources.size());
}

}  // namespace
}  // namespace pacsvisor
