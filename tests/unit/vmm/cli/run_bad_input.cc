// `pacsvisor run` on hosts that lack something, with a guest that would run (the dirtier). Part of
// vmm_cli_test where the dirtier is built.
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <thread>

#include "tests/support/needs_kvm.h"
#include "tests/unit/vmm/cli/program_fixture.h"
#include "tests/unit/vmm/cli/terminal_program.h"
#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// In the child: its mounts are its own from here on.
void OwnMounts() {
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    _exit(125);
  }
}
void MountTmpfs(const std::string& path, const char* options) {
  if (mount("none", path.c_str(), "tmpfs", 0, options) != 0) {
    _exit(125);
  }
}

class RunBadInput : public ProgramTest {
 protected:
  RunBadInput() { std::filesystem::copy_file(PACSVISOR_DIRTIER, Path("kernel")); }

  std::string Config(const std::string& name, const std::string& more = "") {
    return Write(name + ".toml",
                 "name = \"" + name + "\"\nmemory = \"64M\"\n[boot]\nkernel = \"kernel\"\n" + more);
  }
  static bool MayMount() {
    const pid_t child = fork();
    if (child == 0) {
      OwnMounts();
      MountTmpfs("/dev", "size=64k");
      _exit(0);
    }
    int status = 0;
    return waitpid(child, &status, 0) == child && status == 0;
  }
};

TEST_F(RunBadInput, ATruncatedKernelIsNamedWithItsSizes) {
  NEEDS_KVM();
  constexpr uint64_t kLeftBytes = 4096;  // the headers, and little of what they promise
  std::filesystem::resize_file(Path("kernel"), kLeftBytes);
  const Outcome outcome = Run({"run", Config("m")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err,
              AllOf(HasSubstr("kernel"), HasSubstr(fmt::format("ends after {} of", kLeftBytes)),
                    HasSubstr("copy it again")));
}

TEST_F(RunBadInput, AWrongInitrdIsNamed) {
  NEEDS_KVM();
  Write("initrd", std::string(4096, 'x'));
  const Outcome outcome = Run({"run", Config("m", "initrd = \"initrd\"\n")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("initrd"), HasSubstr("give a cpio archive")));
}

TEST_F(RunBadInput, ADiskInUseIsRefusedWithItsHolder) {
  NEEDS_KVM();
  const std::string bytes(4096, 'x');
  Write("disk", bytes);
  const std::string disk = "[[disk]]\npath = \"disk\"\n";
  TerminalProgram first(base_, {"run", Config("first", disk)}, TerminalProgram::Input::kNone);
  ASSERT_THAT(first.ReadUntil("event ready"), HasSubstr("event ready"));
  for (const char* access : {"", "read_only = true\n"}) {
    const Outcome second = Run({"run", Config("second", disk + access)});
    EXPECT_EQ(second.status, 1);
    EXPECT_THAT(second.err, AllOf(HasSubstr("is in use by machine 'first'"), HasSubstr("pid")));
  }
  EXPECT_EQ(Run({"stop", "first", "--force"}).status, 0);
  EXPECT_EQ(first.Wait(), 0);
  EXPECT_EQ(Read(Path("disk")), bytes);
}

TEST_F(RunBadInput, AKilledMachineIsGoneFromPsAndItsNameAndDiskAreFree) {
  NEEDS_KVM();
  Write("disk", std::string(4096, 'x'));
  const std::string config = Config("m", "[[disk]]\npath = \"disk\"\n");
  {
    TerminalProgram killed(base_, {"run", config}, TerminalProgram::Input::kNone);
    ASSERT_THAT(killed.ReadUntil("event ready"), HasSubstr("event ready"));
    killed.Signal(SIGKILL);
    EXPECT_EQ(killed.Wait(), 128 + SIGKILL);
  }
  EXPECT_EQ(access((base_ + "/m/control.sock").c_str(), F_OK), 0);  // left behind
  EXPECT_EQ(Run({"ps", "--json"}).out, "[]\n");
  EXPECT_THAT(Run({"stop", "m"}).err, HasSubstr("no machine named 'm' is running"));
  TerminalProgram next(base_, {"run", config}, TerminalProgram::Input::kNone);
  EXPECT_THAT(next.ReadUntil("event ready"), HasSubstr("event ready"));
  EXPECT_EQ(Run({"stop", "m", "--force"}).status, 0);
  EXPECT_EQ(next.Wait(), 0);
}

TEST_F(RunBadInput, WithoutKvmItSaysWhatToDo) {
  if (!MayMount()) {
    GTEST_SKIP() << "this user may not make mounts of its own";
  }
  const Outcome outcome = Run({"run", Config("m")}, [] {
    OwnMounts();
    MountTmpfs("/dev", "size=64k");
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("there is no /dev/kvm"), HasSubstr("pacsvisor doctor")));
  EXPECT_NE(access((base_ + "/m").c_str(), F_OK), 0);
}

TEST_F(RunBadInput, WithoutRightsOnKvmItNamesTheGroup) {
  if (!MayMount()) {
    GTEST_SKIP() << "this user may not make mounts of its own";
  }
  const std::string closed = Write("closed", "");
  ASSERT_EQ(chmod(closed.c_str(), 0), 0);
  const Outcome outcome = Run({"run", Config("m")}, [&] {
    OwnMounts();
    MountTmpfs("/dev", "size=64k");
    const UniqueFd device(open("/dev/kvm", O_CREAT | O_CLOEXEC, 0));
    // Root, but without root's way past file modes.
    if (mount(closed.c_str(), "/dev/kvm", nullptr, MS_BIND, nullptr) != 0 ||
        prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) != 0 ||
        prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH) != 0) {
      _exit(125);
    }
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("no rights on /dev/kvm"), HasSubstr("usermod -aG kvm")));
}

TEST_F(RunBadInput, AFullRuntimeDirectoryIsNamedWithAWayOut) {
  if (!MayMount()) {
    GTEST_SKIP() << "this user may not make mounts of its own";
  }
  std::filesystem::create_directory(base_);
  const Outcome outcome = Run({"run", Config("m")}, [this] {
    OwnMounts();
    MountTmpfs(base_, "size=64k,nr_inodes=2,mode=700");
  });
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("No space left"), HasSubstr("PACSVISOR_RUNTIME_DIR")));
}

TEST_F(RunBadInput, AConsoleLogThatNobodyReadsIsNoReasonToHang) {
  ASSERT_EQ(mkfifo(Path("log").c_str(), 0600), 0);
  const Outcome outcome = Run({"run", Config("m", "[console]\nlog = \"log\"\n")});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.err, HasSubstr("log"));
}

// The next file opened, a disk, would else be standard output.
TEST_F(RunBadInput, WithItsStreamsClosedTheConsoleDoesNotGoIntoADisk) {
  NEEDS_KVM();
  const std::string bytes(4096, 'x');
  for (const char* name : {"a", "b", "c"}) {
    Write(name, bytes);
  }
  const std::string config =
      Config("m",
             "[console]\nlog = \"log\"\n[[disk]]\npath = \"a\"\n[[disk]]\npath = \"b\"\n"
             "[[disk]]\npath = \"c\"\n");
  Outcome outcome;
  std::thread run([&] {
    outcome = Run({"run", config}, [] {
      close(0);
      close(1);
      close(2);
    });
  });
  while (Read(Path("log")).find("event ready") == std::string::npos) {
    std::this_thread::yield();
  }
  const Status stopped = ControlClient(base_ + "/m/control.sock").RequestStop({.force = true});
  EXPECT_TRUE(stopped.ok()) << stopped.error().message();
  run.join();
  EXPECT_EQ(outcome.status, 0);
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_EQ(Read(Path(name)), bytes) << name;
  }
}

TEST_F(RunBadInput, AStopWhileItStartsStartsNothing) {
  NEEDS_KVM();
  // Pending from before the first instruction of the program.
  const Outcome outcome = Run({"run", Config("m")}, [] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    kill(getpid(), SIGTERM);  // raise(3) would send it to this one thread
  });
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.err, HasSubstr("signal 15: power button"));
  EXPECT_THAT(*ListRunningMachines(base_), IsEmpty());
}

}  // namespace
}  // namespace pacsvisor
