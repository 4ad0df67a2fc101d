#include "vmm/cli/child_process.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <string>

namespace pacsvisor {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

class ChildProcessTest : public testing::Test {
 protected:
  Result<ChildOutcome> Sh(const std::string& script) {
    return RunChild({"sh", "-c", script}, interrupts_,
                    [this](std::string_view text) { output_ += text; });
  }

  Interrupts interrupts_ = Interrupts::Catch().value();
  std::string output_;
};

TEST_F(ChildProcessTest, HandsOverOutputErrorsAndStatus) {
  const Result<ChildOutcome> outcome = Sh("echo out; echo err >&2; exit 3");
  ASSERT_TRUE(outcome.ok()) << outcome.error().message();
  EXPECT_EQ(outcome->status, 3);
  EXPECT_EQ(outcome->errors, "err");
  EXPECT_EQ(output_, "out\n");
}

TEST_F(ChildProcessTest, SpeaksEnglishAndHearsNothing) {
  EXPECT_TRUE(Sh("echo $LC_ALL; cat").ok());
  EXPECT_EQ(output_, "C\n");
}

TEST_F(ChildProcessTest, KeepsTheLastWords) {
  const Result<ChildOutcome> outcome =
      Sh("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i + 1)); done");
  ASSERT_TRUE(outcome.ok());
  EXPECT_LE(outcome->errors.size(), 4096u);
  EXPECT_THAT(outcome->errors, EndsWith("line 2999"));
}

TEST_F(ChildProcessTest, ASignalIsAStatus) {
  EXPECT_EQ(Sh("kill -KILL $$")->status, 128 + SIGKILL);
}

TEST_F(ChildProcessTest, AProgramThatIsNotThereIsNotFound) {
  const Result<ChildOutcome> outcome =
      RunChild({"pacsvisor-no-such-program"}, interrupts_, [](std::string_view) {});
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(outcome.error().message(), HasSubstr("pacsvisor-no-such-program"));
}

TEST_F(ChildProcessTest, AnInterruptEndsIt) {
  const Result<ChildOutcome> outcome =
      RunChild({"sh", "-c", "echo $$; exec sleep 600"}, interrupts_, [this](std::string_view text) {
        output_ += text;
        raise(SIGINT);
      });
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().code(), ErrorCode::kCancelled);
  EXPECT_NE(kill(std::stoi(output_), 0), 0);  // gone, and waited for
  EXPECT_FALSE(interrupts_.Take());
}

TEST_F(ChildProcessTest, ItsSignalsAreAsTheyWere) {
  EXPECT_EQ(Sh("kill -INT $$; echo alive")->status, 128 + SIGINT);
}

TEST_F(ChildProcessTest, AnInterruptIsTakenOnce) {
  EXPECT_FALSE(interrupts_.Take());
  raise(SIGTERM);
  EXPECT_TRUE(interrupts_.Take());
  EXPECT_FALSE(interrupts_.Take());
}

}  // namespace
}  // namespace pacsvisor
