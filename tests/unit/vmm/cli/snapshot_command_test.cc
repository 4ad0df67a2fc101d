// pacsvisor snapshot, against a machine that takes none but says it does.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/unit/vmm/cli/program_with_machine.h"
#include "tests/unit/vmm/cli/terminal_program.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class SnapshotCommandTest : public ProgramWithMachineTest {
 protected:
  // One that copies until it is cancelled.
  void CopyForEver() {
    machine_.SetProgress({{.number = FakeMachine::kSnapshot,
                           .phase = SnapshotPhase::kCopying,
                           .bytes_done = 1ul << 30,
                           .bytes_total = 4ul << 30}});
  }
};

TEST_F(SnapshotCommandTest, TellsTheResultAndTheMakeUpOfThePause) {
  machine_.SetProgress({{.number = FakeMachine::kSnapshot}, FakeMachine::DoneSnapshot()});
  const Outcome outcome = Run({"snapshot", "pacs"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.err, IsEmpty());
  EXPECT_EQ(outcome.out,
            "aaaaaaaaaaaa  pacs  pause 0.90 ms, durable after 1.20 s; 64.0 MiB dirty, 16.0 MiB "
            "unique, 4.00 MiB stored\n"
            "  kick       0.50 ms   55 %\n"
            "  copy       0.40 ms   44 %\n");
}

TEST_F(SnapshotCommandTest, HandsOverWhatItIsTold) {
  EXPECT_EQ(Run({"snapshot", "pacs"}).status, 0);
  EXPECT_EQ(Run({"snapshot", "pacs", "--message", "before the upgrade", "--pause-budget", "500us",
                 "--quiesce", "--quiesce-timeout", "3s"})
                .status,
            0);
  EXPECT_THAT(machine_.calls(), ElementsAre("snapshot '' 5000 false 10000",
                                            "snapshot 'before the upgrade' 500 true 3000"));
}

TEST_F(SnapshotCommandTest, SaysThatTheBudgetWasNotMet) {
  SnapshotProgress late = FakeMachine::DoneSnapshot();
  late.result->budget_met = false;
  machine_.SetProgress({late});
  const Outcome outcome = Run({"snapshot", "pacs", "--pause-budget", "500us"});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.out, HasSubstr("pause 0.90 ms (over the budget of 0.50 ms)"));
}

TEST_F(SnapshotCommandTest, SaysWhetherTheGuestWasQuiescedAndWarnsIfNot) {
  SnapshotProgress progress = FakeMachine::DoneSnapshot();
  progress.result->consistency = "quiesced";
  machine_.SetProgress({progress});
  const Outcome quiesced = Run({"snapshot", "pacs", "--quiesce"});
  EXPECT_THAT(quiesced.out, HasSubstr("pacs  quiesced, pause 0.90 ms"));
  EXPECT_THAT(quiesced.err, IsEmpty());
  progress.result->consistency = "crash";
  progress.result->warnings = {"the guest agent does not answer in time"};
  machine_.SetProgress({progress});
  const Outcome crash = Run({"snapshot", "pacs", "--quiesce"});
  EXPECT_EQ(crash.status, 0);
  EXPECT_THAT(crash.out, HasSubstr("pacs  pause 0.90 ms"));
  EXPECT_EQ(crash.err, "pacsvisor: warning: the guest agent does not answer in time\n");
}

TEST_F(SnapshotCommandTest, PrintsJson) {
  const Outcome outcome = Run({"snapshot", "pacs", "--json"});
  EXPECT_EQ(outcome.status, 0);
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json.at("phase"), "done");
  EXPECT_EQ(json.at("result").at("figures").at("pause_ns"), 900'000);
}

TEST_F(SnapshotCommandTest, OneThatFailsIsTold) {
  machine_.SetProgress({{.number = FakeMachine::kSnapshot,
                         .phase = SnapshotPhase::kFailed,
                         .error = Error::Make(ErrorCode::kNoSpace, "the store's disk is full")}});
  const Outcome outcome = Run({"snapshot", "pacs"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.err, "pacsvisor: the store's disk is full\n");
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST_F(SnapshotCommandTest, OneThatIsRefusedIsTold) {
  machine_.FailWith(Error::Make(ErrorCode::kUnsupported, "this machine has no store"));
  const Outcome outcome = Run({"snapshot", "pacs"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.err, "pacsvisor: this machine has no store\n");
}

TEST_F(SnapshotCommandTest, ShowsItsProgressOnATerminalAndIsCancelledByCtrlC) {
  CopyForEver();
  TerminalProgram program(base_, {"snapshot", "pacs"});
  EXPECT_THAT(program.ReadUntil("of 4.00 GiB"),
              HasSubstr("copying  [###---------]  25%  1.00 GiB of 4.00 GiB"));
  program.Type("\x03");
  EXPECT_EQ(program.Wait(), 1);
  EXPECT_THAT(program.shown(),
              AllOf(HasSubstr("pacsvisor: cancelling snapshot 1"), HasSubstr("it was cancelled")));
  EXPECT_THAT(machine_.calls(), ElementsAre("snapshot '' 5000 false 10000", "cancel 1"));
}

TEST_F(SnapshotCommandTest, SaysThatTheMachineEnded) {
  CopyForEver();
  TerminalProgram program(base_, {"snapshot", "pacs"});
  program.ReadUntil("of 4.00 GiB");
  server_.reset();
  runtime_.reset();
  EXPECT_EQ(program.Wait(), 1);
  EXPECT_THAT(program.shown(), HasSubstr("machine 'pacs' ended while the snapshot was taken"));
}

}  // namespace
}  // namespace pacsvisor
