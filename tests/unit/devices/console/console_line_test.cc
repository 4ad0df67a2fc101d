// The process's own way to a port, beside the socket's clients.
#include <gmock/gmock.h>

#include "tests/unit/devices/console/console_fixture.h"
#include "vmm/base/clock.h"

namespace pacsvisor::console_test {
namespace {

class ConsoleLine : public ConsoleDeviceTest {
 protected:
  void StartWithLine() {
    device_ = ConsoleDevice::Create({.name = "console0",
                                     .console = Listener("console"),
                                     .ports = {{.name = kGuestAgentPortName,
                                                .listener = Listener("agent"),
                                                .line = line_}}})
                  .value();
    driver_ = std::make_unique<ConsoleDriver>(*device_, *memory_, kConsoleFeatureMultiport, true);
    driver().SetUp();
  }
  std::string Read() {
    const auto deadline = std::chrono::nanoseconds(kTestDeadline).count();
    return line_->Read(MonotonicNs() + static_cast<uint64_t>(deadline), [] { return false; });
  }

  const std::shared_ptr<LocalLine> line_ = std::make_shared<LocalLine>();
};

TEST_F(ConsoleLine, CarriesBytesBothWaysWhereNobodyElseIs) {
  StartWithLine();
  EXPECT_TRUE(line_->listened());
  line_->Open();
  ExpectOpen(1);
  driver().AddInputBuffer(1, 4096);
  ASSERT_TRUE(line_->Write("a question"));
  EXPECT_EQ(driver().Input(1), "a question");
  driver().Output(1, "an answer");
  EXPECT_TRUE(driver().WaitOutput(1));
  EXPECT_EQ(Read(), "an answer");
  line_->Close();
  ExpectOpen(0);
}

// Its conversation is not mixed with ours: it hears that it is over, and may come again.
TEST_F(ConsoleLine, ClientIsSentAwayAndTheNextWaits) {
  StartWithLine();
  SocketClient client(agent_path());
  ExpectOpen(1);
  line_->Open();
  EXPECT_EQ(client.Read(1), "") << "connected still";
  SocketClient next(agent_path());
  ASSERT_TRUE(next.connected());
  ASSERT_TRUE(next.Write("later"));
  driver().AddInputBuffer(1, 4096);
  ASSERT_TRUE(line_->Write("first"));
  EXPECT_EQ(driver().Input(1), "first");
  driver().AddInputBuffer(1, 4096);
  line_->Close();
  EXPECT_EQ(driver().Input(1), "later");
  driver().Output(1, "to the next");
  EXPECT_TRUE(driver().WaitOutput(1));
  EXPECT_EQ(next.Read(11), "to the next");
}

TEST_F(ConsoleLine, MoreThanItHoldsWaitsInTheDriversBuffers) {
  StartWithLine();
  line_->Open();
  ExpectOpen(1);
  const std::string all = Text(3 * LocalLine::kRoomBytes + 5);
  driver().Output(1, all);
  std::string come;
  while (come.size() < all.size()) {
    const std::string piece = Read();
    ASSERT_FALSE(piece.empty());
    come += piece;
  }
  EXPECT_TRUE(come == all);
  EXPECT_TRUE(driver().WaitOutput(1));
}

TEST_F(ConsoleLine, KnowsWhetherTheGuestListens) {
  StartWithLine();
  ASSERT_TRUE(driver().Say(1, ConsoleEvent::kPortOpen, 0));
  EXPECT_FALSE(line_->listened());
  ASSERT_TRUE(driver().Say(1, ConsoleEvent::kPortOpen, 1));
  EXPECT_TRUE(line_->listened());
  ASSERT_TRUE(harness().Reset());
  EXPECT_FALSE(line_->listened());
}

TEST_F(ConsoleLine, OutlivesTheDevice) {
  StartWithLine();
  line_->Open();
  driver_.reset();
  device_.reset();
  EXPECT_TRUE(line_->Write("nobody hears it"));
  line_->Close();
}

}  // namespace
}  // namespace pacsvisor::console_test
