// The program itself, run as a user runs it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/unit/vmm/cli/program_with_machine.h"
#include "tests/unit/vmm/control/httplib_suppressions.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

TEST_F(ProgramTest, HelpHasExamplesOnEachCommand) {
  for (const std::vector<std::string>& command : {std::vector<std::string>{},
                                                  {"run"},
                                                  {"ps"},
                                                  {"stop"},
                                                  {"pause"},
                                                  {"resume"},
                                                  {"doctor"},
                                                  {"snapshot"},
                                                  {"snapshots"},
                                                  {"verify"},
                                                  {"prune"},
                                                  {"hold"},
                                                  {"export"},
                                                  {"import"},
                                                  {"disk"},
                                                  {"disk", "create"},
                                                  {"disk", "import"},
                                                  {"disk", "info"},
                                                  {"disk", "check"}}) {
    std::vector<std::string> arguments = command;
    arguments.push_back("--help");
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("Example"), HasSubstr("pacsvisor ")));
    EXPECT_THAT(outcome.err, IsEmpty());
  }
}

TEST_F(ProgramTest, HelpTellsTheExitStatuses) {
  EXPECT_THAT(Run({"--help"}).out, HasSubstr("3 the guest ended in a vCPU fault"));
  EXPECT_THAT(Run({"run", "--help"}).out, HasSubstr("3 the guest\nended in a vCPU fault"));
}

TEST_F(ProgramTest, TellsItsVersion) {
  const Outcome outcome = Run({"--version"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.out, "pacsvisor " PACSVISOR_VERSION "\n");
}

TEST_F(ProgramTest, WrongUsageIsStatus2) {
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"fly"},
      {"--fly"},
      {"run"},
      {"run", "a", "b"},
      {"run", "a", "--log-level", "loud"},
      {"stop"},
      {"stop", "a", "--grace", "soon"},
      {"pause"},
      {"ps", "all"},
      {"snapshot"},
      {"snapshot", "a", "--pause-budget", "5"},
      {"snapshot", "a", "--pause-budget", "2m"},
      {"snapshot", "a", "--message", "a\nb"},
      {"disk"},
      {"disk", "create", "a"},
      {"disk", "create", "a", "100"},
      {"disk", "create", "a", "0"},
      {"disk", "create", "a", "big"},
      {"disk", "import", "a"},
      {"disk", "import", "--format", "x", "a", "b"},
      {"doctor", "who"}};
  for (const std::vector<std::string>& arguments : wrong) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.status, 2) << testing::PrintToString(arguments);
    EXPECT_THAT(outcome.err, HasSubstr("--help")) << testing::PrintToString(arguments);
    EXPECT_THAT(outcome.out, IsEmpty());
  }
}

void PointAt(int fd, const char* path) {
  if (dup2(open(path, O_WRONLY), fd) != fd) {
    _exit(126);
  }
}

TEST_F(ProgramTest, WhatCannotBePrintedIsAFailure) {
  const std::vector<std::vector<std::string>> printing = {
      {"ps"}, {"ps", "--json"}, {"doctor", "--json"}, {"--help"}, {"--version"}};
  for (const std::vector<std::string>& arguments : printing) {
    const Outcome full = Run(arguments, [] { PointAt(1, "/dev/full"); });
    EXPECT_EQ(full.status, 1) << testing::PrintToString(arguments);
    EXPECT_THAT(full.err, HasSubstr("cannot write to standard output"));
    const Outcome closed = Run(arguments, [] { close(1); });
    EXPECT_EQ(closed.status, 1) << testing::PrintToString(arguments);
    EXPECT_THAT(closed.err, HasSubstr("cannot write to standard output"));
  }
}

TEST_F(ProgramTest, AReaderThatGoesAwayIsNoFailure) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  close(ends[0]);
  const Outcome outcome = Run({"ps"}, [&] { dup2(ends[1], 1); });
  close(ends[1]);
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.err, IsEmpty());
}

TEST_F(ProgramTest, AnErrorThatCannotBeToldIsStillAStatus) {
  EXPECT_EQ(Run({"stop", "pacs"}, [] { PointAt(2, "/dev/full"); }).status, 1);
  EXPECT_EQ(Run({"stop", "pacs"}, [] { close(2); }).status, 1);
}

TEST_F(ProgramTest, AMachineThatIsNotRunningIsNamed) {
  for (const char* verb : {"stop", "pause", "resume", "snapshot"}) {
    const Outcome outcome = Run({verb, "pacs"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_THAT(outcome.err,
                AllOf(StartsWith("pacsvisor: no machine named 'pacs'"), HasSubstr("pacsvisor ps")));
  }
}

TEST_F(ProgramTest, AConfigurationThatIsNotThereIsNamed) {
  const Outcome outcome = Run({"run", "/none/VM.toml"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("/none/VM.toml"), HasSubstr("No such file")));
}

TEST_F(ProgramTest, AWrongConfigurationIsReportedWholeWithItsLines) {
  const std::string path = Write("VM.toml", "name = \"m\"\ncpus = 99\nmemory = \"x\"\n");
  const Outcome outcome = Run({"run", path});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr(path + ":1: 'boot' is missing"), HasSubstr(path + ":2: cpus = 99"),
                    HasSubstr(path + ":3: memory = \"x\""), HasSubstr("nothing was started")));
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST_F(ProgramTest, WhatIsNoImageIsNamedBeforeAnythingStarts) {
  Write("kernel", "x");
  Write("empty", "");
  Write("odd", std::string(1000, 'x'));
  Write("disk.qcow2", "QFI\xfb" + std::string(508, 'x'));
  const std::string path = Write("VM.toml",
                                 "name = \"m\"\nmemory = \"64M\"\n[boot]\nkernel = \"kernel\"\n"
                                 "initrd = \"empty\"\n[[disk]]\npath = \"odd\"\n[[disk]]\npath = "
                                 "\"disk.qcow2\"\n[[disk]]\npath = \".\"\n");
  const Outcome outcome = Run({"run", path});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr(":5: the initrd"), HasSubstr("is empty: copy it again"),
                                 HasSubstr(":7: the disk"), HasSubstr("has 1000 bytes"),
                                 HasSubstr(":9: the disk"), HasSubstr("is a qcow2 image"),
                                 HasSubstr("qemu-img convert -O raw"), HasSubstr(":11: the disk"),
                                 HasSubstr("nothing was started")));
}

TEST_F(ProgramTest, MoreMemoryThanTheHostHasIsRefused) {
  Write("kernel", "x");
  const std::string path =
      Write("VM.toml", "name = \"m\"\nmemory = \"900T\"\nboot.kernel = \"kernel\"\n");
  const Outcome outcome = Run({"run", path});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("VM.toml:2: a memory of 900T is more than this host has"));
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// What the compiler and linker add for the case that a check of ours is missing. The sanitizer
// builds bring their own.
TEST_F(ProgramTest, IsHardened) {
  const std::string file = Path("elf");
  ASSERT_EQ(std::system(("readelf -dlsW " PACSVISOR_PROGRAM " >" + file).c_str()), 0);
  const std::string elf = Read(file);
  EXPECT_THAT(elf, testing::HasSubstr("NOW PIE"));
  EXPECT_THAT(elf, testing::HasSubstr("GNU_RELRO"));
  EXPECT_THAT(elf, testing::HasSubstr("__stack_chk_fail"));
  EXPECT_THAT(elf, testing::HasSubstr("_chk@GLIBC"));
}
#endif

TEST_F(ProgramTest, PsOfNoneIsAnEmptyTable) {
  EXPECT_EQ(Run({"ps"}).out, "NAME  STATE     CPUS   MEMORY    UPTIME      PID\n");
  EXPECT_EQ(Run({"ps", "--json"}).out, "[]\n");
}

TEST_F(ProgramWithMachineTest, PsShowsIt) {
  EXPECT_THAT(Run({"ps"}).out,
              HasSubstr("\npacs  running      2       2G        0s     4711  fetching: 50 %\n"));
  const nlohmann::json list = nlohmann::json::parse(Run({"ps", "--json"}).out);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["name"], "pacs");
  EXPECT_EQ(list[0]["disks"][0]["path"], "/vm/root.raw");
}

TEST_F(ProgramWithMachineTest, VerbsReachIt) {
  EXPECT_EQ(Run({"pause", "pacs"}).status, 0);
  EXPECT_EQ(Run({"resume", "pacs"}).status, 0);
  EXPECT_EQ(Run({"stop", "pacs", "--grace", "2m", "--no-wait"}).status, 0);
  EXPECT_EQ(Run({"stop", "pacs", "--force", "--no-wait"}).status, 0);
  EXPECT_THAT(machine_.calls(),
              testing::ElementsAre("pause", "resume", "stop 120 false", "stop 30 true"));
}

TEST_F(ProgramWithMachineTest, AFailureOfTheMachineIsTold) {
  machine_.FailWith(Error::Make(ErrorCode::kBusy, "the machine is stopping: wait for its end"));
  const Outcome outcome = Run({"pause", "pacs"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.err, "pacsvisor: the machine is stopping: wait for its end\n");
}

TEST_F(ProgramWithMachineTest, OneThatDoesNotAnswerIsShownAsSilent) {
  server_.reset();
  EXPECT_THAT(Run({"ps"}).out, HasSubstr("silent"));
  const nlohmann::json list = nlohmann::json::parse(Run({"ps", "--json"}).out);
  EXPECT_EQ(list.at(0).at("state"), "silent");
  EXPECT_EQ(list.at(0).at("pid"), getpid());
}

TEST_F(ProgramWithMachineTest, ANameInUseIsRefusedWithItsHolder) {
  const std::string kernel = Write("kernel", "x");
  const std::string path =
      Write("VM.toml", "name = \"pacs\"\nmemory = \"64M\"\nboot.kernel = \"" + kernel + "\"\n");
  const Outcome outcome = Run({"run", path});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("process " + std::to_string(getpid())));
}

TEST_F(ProgramTest, RunFailsOnAKernelThatIsNoneAndLeavesNothingBehind) {
  const std::string kernel = Write("kernel", std::string(4096, 'x'));
  const std::string path =
      Write("VM.toml", "name = \"m\"\nmemory = \"64M\"\nboot.kernel = \"" + kernel + "\"\n");
  const Outcome outcome = Run({"run", path});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, StartsWith("pacsvisor: "));
  EXPECT_EQ(Run({"ps", "--json"}).out, "[]\n");
  EXPECT_NE(access((base_ + "/m").c_str(), F_OK), 0);
}

TEST_F(ProgramTest, DoctorKnowsTheHost) {
  const Outcome text = Run({"doctor"});
  EXPECT_THAT(text.out, AllOf(HasSubstr("kvm"), HasSubstr("io_uring"), HasSubstr("dirty log")));
  const Outcome outcome = Run({"doctor", "--json"});
  EXPECT_EQ(outcome.status, text.status);
  const nlohmann::json report = nlohmann::json::parse(outcome.out);
  const nlohmann::json& kvm = report.at("kvm");
  EXPECT_THAT(kvm.at("kind").get<std::string>(),
              testing::AnyOf("svm", "vmx", "pvm", "unknown", "none"));
  EXPECT_GT(report.at("memory").at("total_bytes"), 0u);
  const bool all_there =
      kvm.at("usable") && kvm.at("missing").empty() && report.at("io_uring").at("usable");
  EXPECT_EQ(outcome.status, all_there ? 0 : 1);
  if (kvm.at("usable")) {
    EXPECT_EQ(kvm.at("api"), 12);
    EXPECT_TRUE(kvm.at("capabilities").contains("KVM_CAP_IRQFD"));
    const nlohmann::json& dirty_log = report.at("dirty_log");
    EXPECT_EQ(dirty_log.at("auto"), "bitmap");
    EXPECT_THAT(text.out, HasSubstr("\"auto\" is bitmap"));
    for (const char* const source : {"bitmap", "ring", "pagemap", "compare"}) {
      EXPECT_EQ(dirty_log.at(source).get<bool>(), !dirty_log.at("problems").contains(source));
    }
  }
}

}  // namespace
}  // namespace pacsvisor
