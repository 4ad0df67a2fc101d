// Save and load of a console device.
#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "tests/unit/devices/console/console_fixture.h"

namespace pacsvisor::console_test {
namespace {

using testing::HasSubstr;

class ConsoleRestore : public ConsoleDeviceTest {
 protected:
  void Restore() {
    harness().Pause();
    harness().Save(saved_);
    LoadTwin().value();
  }
  Status LoadTwin() {
    twin_ = Build("-twin");
    twin_harness_ = std::make_unique<VirtioDeviceHarness>(*twin_, *memory_);
    return twin_harness_->Load(saved_, harness());
  }
  void TearDown() override {
    twin_harness_.reset();
    twin_.reset();
    driver_.reset();
  }
  StateNode& SavedPort(size_t port) {
    auto& device =
        std::get<StateNode::Field::Sub>(saved_.mutable_fields().at("device").value).nodes[0];
    return std::get<StateNode::Field::Sub>(device.mutable_fields().at("ports").value).nodes[port];
  }

  StateNode saved_;
  std::unique_ptr<ConsoleDevice> twin_;
  std::unique_ptr<VirtioDeviceHarness> twin_harness_;
};

TEST_F(ConsoleRestore, OutputGoesOnAtTheRecordedByte) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  const std::string all = Text(2'000'000);
  driver().Output(1, all);
  // The client's socket is full when the device has stopped in the middle.
  std::string received = client.Read(1);
  Restore();
  SocketClient next(folder_.path() / "agent-twin");
  while (client.SomethingToRead()) {
    received += client.Read(1);
  }
  ASSERT_LT(received.size(), all.size());
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  received += next.Read(all.size() - received.size());
  EXPECT_EQ(received, all);
  EXPECT_TRUE(twin_harness_->WaitUsed(ConsoleTransmitQueue(1)).has_value());
}

TEST_F(ConsoleRestore, OutputKeepsItsOrderWhenDoorbellsRingFirst) {
  for (unsigned round = 0; round < 10 && !HasFailure(); ++round) {
    StartSetUp();
    SocketClient client(agent_path());
    ExpectOpen(1);
    const std::string all = Text(400'000, round) + Text(400'000, round + 1000);
    driver().Output(1, all.substr(0, 400'000));
    driver().Output(1, all.substr(400'000));
    std::string received = client.Read(1);
    Restore();
    SocketClient next(folder_.path() / "agent-twin");
    while (client.SomethingToRead()) {
      received += client.Read(1);
    }
    std::atomic<bool> done = false;
    std::thread guest([&] {
      while (!done) {
        twin_harness_->doorbell(ConsoleTransmitQueue(1)).Signal();
      }
    });
    twin_harness_->Resume();
    received += next.Read(all.size() - received.size());
    done = true;
    guest.join();
    EXPECT_TRUE(received == all) << "round " << round;
    TearDown();
    device_.reset();
    saved_ = StateNode();
  }
}

TEST_F(ConsoleRestore, TheDriverHearsThatTheClientIsGone) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  Restore();
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  VirtqueueDriver& control = twin_harness_->driver(kConsoleControlReceiveQueue);
  EXPECT_TRUE(twin_->GuestOpen(1));
  ASSERT_TRUE(twin_harness_->WaitUsed(kConsoleControlReceiveQueue).has_value());
  EXPECT_FALSE(control.TakeUsed().has_value());
  // And nothing about the console, whose state did not change.
}

TEST_F(ConsoleRestore, TheNextClientIsServed) {
  StartSetUp();
  driver().AddInputBuffer(1, 100);
  Restore();
  twin_harness_->Resume();
  twin_harness_->SignalAllQueues();
  SocketClient client(folder_.path() / "agent-twin");
  ASSERT_TRUE(client.Write("again"));
  const auto used = twin_harness_->WaitUsed(ConsoleReceiveQueue(1));
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->written_bytes, 5u);
}

TEST_F(ConsoleRestore, CanBeSavedAgainBeforeItRuns) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  driver().Output(1, Text(2'000'000));
  ASSERT_EQ(client.Read(1).size(), 1u);
  Restore();
  StateNode again;
  twin_harness_->Save(again);
  EXPECT_EQ(SavedPort(1).U64("has_output").value(), 1u);
  const uint64_t offset = SavedPort(1).U64("output_offset").value();
  saved_ = std::move(again);
  EXPECT_EQ(SavedPort(1).U64("output_offset").value(), offset);
}

TEST_F(ConsoleRestore, RefusesAStateOfOtherPorts) {
  StartSetUp();
  harness().Pause();
  StateNode node;
  device_->Save(node);
  const auto other = ConsoleDevice::Create(
                         {.name = "console0", .ports = {{.name = "x", .listener = Listener("x")}}})
                         .value();
  EXPECT_THAT(other->Load(node).error().message(), HasSubstr(kGuestAgentPortName));
  const auto fewer = ConsoleDevice::Create({.name = "console0"}).value();
  EXPECT_FALSE(fewer->Load(node).ok());
}

// A saved state is input from outside: head, offset or count that the rings do not hold.
TEST_F(ConsoleRestore, AsksForResetWhenTheSavedOutputDoesNotFit) {
  const auto spoil = [this](const char* field, uint64_t value) {
    StartSetUp();
    SocketClient client(agent_path());
    ExpectOpen(1);
    driver().Output(1, Text(2'000'000));
    ASSERT_EQ(client.Read(1).size(), 1u);
    harness().Pause();
    saved_ = StateNode();
    harness().Save(saved_);
    SavedPort(1).mutable_fields().at(field).value = value;
    ASSERT_TRUE(LoadTwin().ok());
    twin_harness_->Resume();
    EXPECT_TRUE(twin_harness_->transport().WaitForNeedsReset()) << field;
    TearDown();
    device_.reset();
  };
  spoil("output_offset", 2'000'001);
  spoil("output_offset", UINT64_MAX);
  spoil("output_head", 65535);
  spoil("has_output", 0);
}

}  // namespace
}  // namespace pacsvisor::console_test
