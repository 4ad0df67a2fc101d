// `pacsvisor run` with a real guest, the dirtier, which does not listen to the power button. Part
// of vmm_cli_test where the dirtier is built.
#include <gmock/gmock.h>

#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/needs_kvm.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/vmm/cli/terminal_program.h"
#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Input = TerminalProgram::Input;

constexpr char kLeave[] = "\x1dx";

class RunGuest : public testing::Test {
 protected:
  RunGuest() {
    std::ofstream(config_)
        << "name = \"dirt\"\nmemory = \"64M\"\nboot.kernel = \"" PACSVISOR_DIRTIER
           "\"\nconsole.log = \"console.log\"\n";
  }
  void SetUp() override { NEEDS_KVM(); }
  ControlClient Client() { return ControlClient(base_ + "/dirt/control.sock"); }

  TemporaryDirectory directory_;
  const std::string base_ = directory_.path().string() + "/run";
  const std::string config_ = directory_.path().string() + "/VM.toml";
};

TEST_F(RunGuest, TheTerminalIsTheSerialConsole) {
  TerminalProgram program(base_, {"run", config_});
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("Ctrl-] x leaves"));
  EXPECT_TRUE(program.IsRaw());
  program.Type("counter\n");
  EXPECT_THAT(program.ReadUntil("ok counter ms="), HasSubstr("ok counter ms="));
  program.Type("\x1d?");
  EXPECT_THAT(program.ReadUntil("this help"), HasSubstr("this help"));
  program.Type(std::string(kLeave) + kLeave);
  EXPECT_EQ(program.Wait(), 0);
  EXPECT_TRUE(program.IsAsBefore());
  EXPECT_THAT(program.shown(), HasSubstr("[pacsvisor: by force]"));
  EXPECT_THAT(*ListRunningMachines(base_), IsEmpty());
}

TEST_F(RunGuest, TheConsolesLogHoldsTheGuestsWordsAlone) {
  TerminalProgram program(base_, {"run", config_});
  program.ReadUntil("event ready");
  program.Type(std::string("\x1d?") + kLeave + kLeave);
  EXPECT_EQ(program.Wait(), 0);
  std::stringstream log;
  log << std::ifstream(directory_.path() / "console.log").rdbuf();
  EXPECT_THAT(log.str(), HasSubstr("event ready"));
  EXPECT_THAT(log.str(), Not(HasSubstr("pacsvisor")));
}

TEST_F(RunGuest, WithoutATerminalThereIsOutputOnlyAndItsEndIsNoEnd) {
  TerminalProgram program(base_, {"run", config_}, Input::kNone);
  EXPECT_THAT(program.ReadUntil("event ready"), Not(HasSubstr("Ctrl-]")));
  EXPECT_FALSE(program.IsRaw());
  const Result<MachineDescription> description = Client().Describe();
  ASSERT_TRUE(description.ok()) << description.error().message();
  EXPECT_EQ(description->memory_bytes, 64ul << 20);
  EXPECT_TRUE(Client().RequestStop({.force = true}).ok());
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(RunGuest, ASecondSignalEndsByForce) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    TerminalProgram program(base_, {"run", config_}, Input::kNone);
    program.ReadUntil("event ready");
    program.Signal(number);
    EXPECT_THAT(program.ReadUntil("power button"), HasSubstr("power button"));
    // Until it is late enough for one that is no echo of the first (EndSignals).
    while (program.shown().find("by force") == std::string::npos && program.ReadOn()) {
      program.Signal(number);
    }
    EXPECT_EQ(program.Wait(), 0);
    EXPECT_THAT(program.shown(), HasSubstr("by force"));
  }
}

TEST_F(RunGuest, StopForcesWhenTheGraceIsOver) {
  TerminalProgram program(base_, {"run", config_}, Input::kNone);
  program.ReadUntil("event ready");
  TerminalProgram stop(base_, {"stop", "dirt", "--grace", "1s"});
  EXPECT_EQ(stop.Wait(), 0);
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(RunGuest, WhatIsPastedArrivesWhole) {
  TerminalProgram program(base_, {"run", config_});
  program.ReadUntil("event ready");
  const std::string command = "dirty pages=4 seed=1234567890 pattern=sequential writes=4\n";
  program.Type(command);  // more than a UART takes at once
  EXPECT_THAT(program.ReadUntil("end=writes"), HasSubstr("event done run=1 writes=4 "));
  program.Type(std::string(kLeave) + kLeave);
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(RunGuest, WhatIsTypedDuringAPauseArrivesAfterIt) {
  TerminalProgram program(base_, {"run", config_});
  program.ReadUntil("event ready");
  ASSERT_TRUE(Client().Pause().ok());
  EXPECT_EQ(Client().Describe()->state, MachineState::kPaused);
  program.Type("counter\n\x1d?");
  program.ReadUntil("this help");  // so the keys before it were handed on
  ASSERT_TRUE(Client().Resume().ok());
  EXPECT_THAT(program.ReadUntil("ok counter"), HasSubstr("ok counter"));
  program.Type(std::string(kLeave) + kLeave);
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(RunGuest, AGuestFaultIsStatus3WithItsReport) {
  TerminalProgram program(base_, {"run", config_});
  program.ReadUntil("event ready");
  program.Type("fault kind=triple\n");
  EXPECT_EQ(program.Wait(), 3);
  EXPECT_TRUE(program.IsAsBefore());
  EXPECT_THAT(program.shown(), testing::AllOf(HasSubstr("triple fault"), HasSubstr("rip 0000"),
                                              HasSubstr("ended in a vCPU fault")));
}

TEST_F(RunGuest, ADeathOfTheProcessLeavesTheTerminalAsItWasAndTheNameFree) {
  {
    TerminalProgram program(base_, {"run", config_});
    program.ReadUntil("event ready");
    program.Signal(SIGABRT);
    EXPECT_EQ(program.Wait(), 128 + SIGABRT);
    EXPECT_TRUE(program.IsAsBefore());
  }
  TerminalProgram program(base_, {"run", config_});
  EXPECT_THAT(program.ReadUntil("event ready"), HasSubstr("event ready"));
  program.Type(std::string(kLeave) + kLeave);
  EXPECT_EQ(program.Wait(), 0);
}

TEST_F(RunGuest, TwoOfOneNameAreRefusedTwoOfOtherNamesAreNot) {
  TerminalProgram first(base_, {"run", config_}, Input::kNone);
  first.ReadUntil("event ready");
  TerminalProgram same(base_, {"run", config_}, Input::kNone);
  EXPECT_EQ(same.Wait(), 1);
  EXPECT_THAT(same.shown(), HasSubstr("a machine named 'dirt' is running (process "));
  const std::string other_config = directory_.path().string() + "/other.toml";
  std::ofstream(other_config)
      << "name = \"other\"\nmemory = \"64M\"\nboot.kernel = \"" PACSVISOR_DIRTIER "\"\n";
  TerminalProgram other(base_, {"run", other_config}, Input::kNone);
  other.ReadUntil("event ready");
  EXPECT_EQ(ListRunningMachines(base_)->size(), 2u);
}

}  // namespace
}  // namespace pacsvisor
