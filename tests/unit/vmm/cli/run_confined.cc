// `pacsvisor run` of a machine that may do little: as another user, in namespaces, filtered. With a
// real guest, the dirtier. Part of vmm_cli_test where the dirtier is built.
#include <gmock/gmock.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/needs_kvm.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/cli/program_fixture.h"
#include "tests/unit/vmm/cli/terminal_program.h"
#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"
#include "vmm/sandbox/confinement.h"

namespace pacsvisor {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Input = TerminalProgram::Input;

std::string TextOf(const fs::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// The processes that `parent` started.
std::vector<std::string> ChildrenOf(int64_t parent) {
  std::istringstream text(TextOf(fmt::format("/proc/{0}/task/{0}/children", parent)));
  std::vector<std::string> children;
  for (std::string child; text >> child;) {
    children.push_back(child);
  }
  return children;
}

class RunConfined : public testing::Test {
 protected:
  void SetUp() override {
    NEEDS_KVM();
    if (geteuid() != 0) {
      GTEST_SKIP() << "needs root: only root can become somebody else";
    }
    // The leak checker looks into its process from another, by numbers that a pid namespace
    // changes.
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
  }
  std::string Config(const std::string& more, const std::string& name = "dirt") {
    const std::string path = directory_.path() / (name + ".toml");
    std::ofstream(path) << "name = \"" << name
                        << "\"\nmemory = \"64M\"\nboot.kernel = \"" PACSVISOR_DIRTIER "\"\n"
                        << more;
    return path;
  }
  ControlClient Client() { return ControlClient(base_ + "/dirt/control.sock"); }
  // The process that runs the guest, under the one whose number the machine has.
  std::string MachineProcess() {
    const Result<MachineDescription> description = Client().Describe();
    EXPECT_TRUE(description.ok());
    const std::vector<std::string> children = ChildrenOf(description.value().pid);
    EXPECT_EQ(children.size(), 1u);
    return children.empty() ? "none" : children.front();
  }
  void ExpectNothingLeft() {
    EXPECT_THAT(*ListRunningMachines(base_), IsEmpty());
    EXPECT_FALSE(fs::exists(base_ + "/dirt"));
    EXPECT_TRUE(fs::is_empty(base_ + "/.images"));
  }
  void ExpectEndsByForce(TerminalProgram& program) {
    EXPECT_TRUE(Client().RequestStop({.force = true}).ok());
    EXPECT_EQ(program.Wait(), 0) << program.shown();
    ExpectNothingLeft();
  }
  std::string DiskLine() {
    std::ofstream(directory_.path() / "disk.raw");
    fs::resize_file(directory_.path() / "disk.raw", 1 << 20);
    return "disk = [{ path = \"disk.raw\" }]\n";
  }

  TemporaryDirectory directory_;
  const std::string base_ = directory_.path().string() + "/run";
};

TEST_F(RunConfined, EveryThreadIsTheUsersWithoutCapabilitiesAndFiltered) {
  TerminalProgram program(base_,
                          {"run", Config(DiskLine() + "net = [{ backend = \"user\" }]\nagent = {}\n"
                                                      "sandbox = { user = \"nobody\" }\n")},
                          Input::kNone);
  program.ReadUntil("event ready");
  const std::string uid = std::to_string(getpwnam("nobody")->pw_uid);
  size_t threads = 0;
  const std::string process = MachineProcess();
  for (const fs::directory_entry& thread : fs::directory_iterator("/proc/" + process + "/task")) {
    const std::string name = TextOf(thread.path() / "comm");
    const std::string status = TextOf(thread.path() / "status");
    if (name.starts_with("kvm-") || status.empty()) {
      continue;  // the kernel's own; one that served a connection and has ended
    }
    if (!BuildCanBeConfined() && name == "pacsvisor\n" && thread.path().filename() != process) {
      continue;  // the sanitizer's own, from before main()
    }
    ++threads;
    EXPECT_THAT(status,
                AllOf(HasSubstr(fmt::format("Uid:\t{0}\t{0}\t{0}\t{0}\n", uid)),
                      HasSubstr("CapEff:\t0000000000000000\n"),
                      HasSubstr("CapBnd:\t0000000000000000\n"), HasSubstr("NoNewPrivs:\t1\n"),
                      HasSubstr(BuildCanBeConfined() ? "Seccomp:\t2\n" : "Seccomp:\t0\n")))
        << name;
  }
  EXPECT_GT(threads, 8u);
  ExpectEndsByForce(program);
}

TEST_F(RunConfined, WithoutAUserItKeepsNoCapabilityEither) {
  TerminalProgram program(base_, {"run", Config("")}, Input::kNone);
  program.ReadUntil("event ready");
  const int64_t pid = Client().Describe()->pid;
  EXPECT_THAT(TextOf(fmt::format("/proc/{}/status", pid)),
              AllOf(HasSubstr("CapEff:\t0000000000000000\n"), HasSubstr("NoNewPrivs:\t1\n")));
  ExpectEndsByForce(program);
}

TEST_F(RunConfined, PortsBelow1024AreTheOnlyRightThatIsKeptForThem) {
  TerminalProgram program(
      base_,
      {"run", Config("net = [{ backend = \"user\", forward = [\"127.0.0.1:104:104\"] }]\n"
                     "sandbox = { user = \"nobody\" }\n")},
      Input::kNone);
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("event ready"));
  EXPECT_THAT(TextOf("/proc/" + MachineProcess() + "/status"),
              HasSubstr("CapEff:\t0000000000000400\n"));
  ExpectEndsByForce(program);
}

TEST_F(RunConfined, NamespacesShowNeitherProcessesNorFiles) {
  TerminalProgram program(
      base_,
      {"run", Config(DiskLine() + "net = [{ backend = \"user\" }]\n"
                                  "sandbox = { user = \"nobody\", namespaces = [\"pid\", "
                                  "\"mount\"] }\n")},
      Input::kNone);
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("event ready"));
  const std::string process = MachineProcess();
  EXPECT_THAT(TextOf("/proc/" + process + "/status"), HasSubstr("NSpid:\t" + process + "\t1\n"));
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator("/proc/" + process + "/root/")) {
    if (!entry.is_directory()) {
      files.push_back(entry.path().filename());
    }
  }
  EXPECT_THAT(files, testing::UnorderedElementsAre("resolv.conf", "urandom"));
  ExpectEndsByForce(program);
}

TEST_F(RunConfined, ANetworkNamespaceHasNoInterfaceToUse) {
  TerminalProgram program(
      base_,
      {"run", Config("net = [{ backend = \"none\" }]\n"
                     "sandbox = { user = \"nobody\", namespaces = [\"net\"] }\n")},
      Input::kNone);
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("event ready"));
  const std::string own = fs::read_symlink("/proc/self/ns/net");
  EXPECT_NE(fs::read_symlink("/proc/" + MachineProcess() + "/ns/net").string(), own);
  ExpectEndsByForce(program);
}

TEST_F(RunConfined, TheTerminalAndItsKeysWorkAsEver) {
  TerminalProgram program(
      base_, {"run", Config("sandbox = { user = \"nobody\", namespaces = [\"pid\"] }\n")});
  program.ReadUntil("event ready");
  EXPECT_TRUE(program.IsRaw());
  program.Type("counter\n");
  EXPECT_THAT(program.ReadUntil("ok counter ms="), HasSubstr("ok counter ms="));
  program.Type("\x1dx\x1dx");
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_TRUE(program.IsAsBefore());
  ExpectNothingLeft();
}

TEST_F(RunConfined, SignalsReachTheMachine) {
  TerminalProgram program(base_, {"run", Config("sandbox = { user = \"nobody\" }\n")},
                          Input::kNone);
  program.ReadUntil("event ready");
  program.Signal(SIGTERM);
  EXPECT_THAT(program.ReadUntil("power button"), HasSubstr("power button"));
  while (program.shown().find("by force") == std::string::npos && program.ReadOn()) {
    program.Signal(SIGTERM);
  }
  EXPECT_EQ(program.Wait(), 0);
  ExpectNothingLeft();
}

TEST_F(RunConfined, AGuestThatResetsIsBuiltAnewWithTheRightsThatAreLeft) {
  TerminalProgram program(
      base_, {"run", Config(DiskLine() + "boot.cmdline = \"poweroff=port:0x601:1:1\"\n"
                                         "net = [{ backend = \"user\", forward = "
                                         "[\"127.0.0.1:104:104\"] }]\nagent = {}\n"
                                         "sandbox = { user = \"nobody\", namespaces = [\"pid\", "
                                         "\"mount\"] }\n")});
  for (int round = 0; round < 5; ++round) {
    program.ReadUntil("event ready");
    program.Type("poweroff\n");
    EXPECT_THAT(program.ReadUntil("starting it again"), HasSubstr("starting it again"));
    program.Forget();
  }
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("event ready"));
  program.Type("\x1dx\x1dx");
  EXPECT_EQ(program.Wait(), 0);
  ExpectNothingLeft();
}

// Deleted under the machine, then made again: each time the guest resets itself and is built anew,
// by a process that may not open /dev/net/tun any more.
TEST_F(RunConfined, ATapThatGoesAndComesIsAttachedToAgain) {
  const auto shell = [](const std::string& command) { return std::system(command.c_str()); };
  if (shell("ip tuntap add dev pvconfined mode tap user nobody vnet_hdr") != 0) {
    GTEST_SKIP() << "SKIPPED: this host makes no TAP interface";
  }
  TerminalProgram program(
      base_, {"run", Config("boot.cmdline = \"poweroff=port:0x601:1:1\"\n"
                            "net = [{ backend = \"tap\", interface = \"pvconfined\" }]\n"
                            "sandbox = { user = \"nobody\" }\n")});
  program.ReadUntil("event ready");
  EXPECT_EQ(shell("ip link delete pvconfined"), 0);
  program.Forget();
  program.Type("poweroff\n");
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("with the guest's link down"));
  EXPECT_EQ(shell("ip tuntap add dev pvconfined mode tap user nobody vnet_hdr"), 0);
  program.Forget();
  program.Type("poweroff\n");
  EXPECT_THAT(program.ReadUntil("event ready"), Not(HasSubstr("link down")));
  EXPECT_EQ(shell("ip link show pvconfined | grep -q LOWER_UP || ip link set pvconfined up && "
                  "ip link show pvconfined | grep -q LOWER_UP"),
            0)
      << "nobody has attached to it";
  program.Type("\x1dx\x1dx");
  EXPECT_EQ(program.Wait(), 0) << program.shown();
  shell("ip link delete pvconfined");
}

TEST_F(RunConfined, AKilledMachineIsReportedAndLeavesNothing) {
  TerminalProgram program(base_, {"run", Config(DiskLine() + "sandbox.user = \"nobody\"\n")});
  program.ReadUntil("event ready");
  ASSERT_TRUE(program.IsRaw());
  ASSERT_EQ(kill(std::stoi(MachineProcess()), SIGKILL), 0);
  EXPECT_EQ(program.Wait(), 1);
  EXPECT_THAT(program.shown(), HasSubstr("was killed by signal 9"));
  EXPECT_TRUE(program.IsAsBefore());
  ExpectNothingLeft();
}

TEST_F(RunConfined, TheMachineDiesWithItsSupervisor) {
  const std::string config = Config(DiskLine() + "sandbox.user = \"nobody\"\n");
  {
    TerminalProgram program(base_, {"run", config}, Input::kNone);
    program.ReadUntil("event ready");
    program.Signal(SIGKILL);
    EXPECT_EQ(program.Wait(), 128 + SIGKILL);
  }
  // The name and the disk are free as soon as both are gone.
  std::string shown;
  for (int attempt = 0; attempt < 100 && shown.find("event ready") == std::string::npos;
       ++attempt) {
    TerminalProgram program(base_, {"run", config}, Input::kNone);
    shown = program.ReadUntil("event ready");
  }
  EXPECT_THAT(shown, HasSubstr("event ready"));
}

TEST_F(RunConfined, ADiskInUseIsNamedAfterWhoHasIt) {
  const std::string sandbox =
      DiskLine() + "sandbox = { user = \"nobody\", namespaces = [\"pid\"] }\n";
  TerminalProgram program(base_, {"run", Config(sandbox)}, Input::kNone);
  program.ReadUntil("event ready");
  const int64_t pid = Client().Describe()->pid;
  TerminalProgram other(base_, {"run", Config(sandbox, "other")}, Input::kNone);
  EXPECT_EQ(other.Wait(), 1);
  EXPECT_THAT(other.shown(), HasSubstr(fmt::format("machine 'dirt' (pid {})", pid)));
  ExpectEndsByForce(program);
}

TEST_F(RunConfined, WhatCannotBeKeptIsRefusedByName) {
  TerminalProgram nobody(base_, {"run", Config("sandbox.user = \"nobody-of-that-name\"\n")},
                         Input::kNone);
  EXPECT_EQ(nobody.Wait(), 1);
  EXPECT_THAT(nobody.shown(), AllOf(HasSubstr("dirt.toml:4"), HasSubstr("adduser")));
  TerminalProgram network(
      base_, {"run", Config("net = [{ backend = \"user\" }]\nsandbox.namespaces = [\"net\"]\n")},
      Input::kNone);
  EXPECT_EQ(network.Wait(), 1);
  EXPECT_THAT(network.shown(), HasSubstr("reaches no network"));
  TerminalProgram kind(base_, {"run", Config("sandbox.namespaces = [\"pid\", \"uts\"]\n")},
                       Input::kNone);
  EXPECT_EQ(kind.Wait(), 1);
  EXPECT_THAT(kind.shown(), HasSubstr("\"uts\" is none of"));
}

class RunUnprivileged : public ProgramTest {
 protected:
  void SetUp() override {
    NEEDS_KVM();
    if (geteuid() != 0) {
      GTEST_SKIP() << "needs root: an ordinary user's rights on /dev/kvm are made here";
    }
    // Where the user can get at them, wherever the tree lies.
    fs::copy_file(PACSVISOR_PROGRAM, Path("pacsvisor"));
    fs::copy_file(PACSVISOR_DIRTIER, Path("dirtier.elf"));
    for (const std::string& path : {directory_.path().string(), Path("pacsvisor")}) {
      ASSERT_EQ(chown(path.c_str(), nobody_.pw_uid, nobody_.pw_gid), 0);
    }
  }
  // In the child: /dev/kvm is everybody's, in this mount namespace; then the user's program takes
  // the place of this one.
  void BecomeNobodyAndRun(const std::string& config) {
    const std::string node = Path("kvm");
    if (unshare(CLONE_NEWNS) != 0 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mknod(node.c_str(), S_IFCHR, makedev(10, 232)) != 0 || chmod(node.c_str(), 0666) != 0 ||
        mount(node.c_str(), "/dev/kvm", nullptr, MS_BIND, nullptr) != 0 ||
        setgroups(0, nullptr) != 0 || setgid(nobody_.pw_gid) != 0 || setuid(nobody_.pw_uid) != 0) {
      _exit(125);
    }
    execl(Path("pacsvisor").c_str(), "pacsvisor", "run", config.c_str(), nullptr);
  }
  std::string Config(const std::string& more) {
    const std::string path = Write("VM.toml",
                                   "name = \"dirt\"\nmemory = \"64M\"\n"
                                   "boot = { kernel = \"dirtier.elf\", cmdline = \"run=poweroff "
                                   "poweroff=port:0x600:0x34\" }\n" +
                                       more);
    EXPECT_EQ(chmod(path.c_str(), 0644), 0);
    return path;
  }

  const passwd nobody_ = *getpwnam("nobody");
};

TEST_F(RunUnprivileged, RunsAMachineWhereKvmIsTheUsers) {
  const std::string config = Config("net = [{ backend = \"user\" }]\n");
  const Outcome outcome = Run({}, [&] { BecomeNobodyAndRun(config); });
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("event ready"));
}

TEST_F(RunUnprivileged, IsToldWhatOnlyRootCanDo) {
  const std::string config = Config("sandbox = { user = \"daemon\", namespaces = [\"pid\"] }\n");
  const Outcome outcome = Run({}, [&] { BecomeNobodyAndRun(config); });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("only root can become 'daemon'"),
                                 HasSubstr("namespaces: only root can make them")));
}

}  // namespace
}  // namespace pacsvisor
