#include "devices/console/console_device.h"

#include <gmock/gmock.h>

#include <thread>

#include "tests/support/temporary_directory.h"
#include "tests/unit/devices/console/console_driver.h"
#include "tests/unit/devices/console/socket_client.h"

namespace pacsvisor::console_test {
namespace {

using testing::HasSubstr;

// Text that differs from place to place.
std::string Text(size_t size, unsigned seed = 0) {
  std::string text(size, '\0');
  unsigned state = seed * 2654435761u + 99;
  for (char& c : text) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

class ConsoleDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<ConsoleDevice> Build(const std::string& suffix = "") {
    return ConsoleDevice::Create({.name = "console0",
                                  .console_socket = folder_.path() / ("console" + suffix),
                                  .ports = {{.name = kGuestAgentPortName,
                                             .socket_path = folder_.path() / ("agent" + suffix)}}})
        .value();
  }
  void Start(uint64_t features = kConsoleFeatureMultiport, bool control_buffers = true) {
    device_ = Build();
    driver_ = std::make_unique<ConsoleDriver>(*device_, *memory_, features, control_buffers);
  }
  void StartSetUp() {
    Start();
    driver().SetUp();
  }

  ConsoleDriver& driver() { return *driver_; }
  VirtioDeviceHarness& harness() { return driver_->harness(); }
  FakeVirtioTransport& transport() { return harness().transport(); }
  std::string agent_path() const { return folder_.path() / "agent"; }
  std::string console_path() const { return folder_.path() / "console"; }
  void ExpectOpen(uint16_t value) {
    EXPECT_EQ(driver().Hear(), (ControlMessage{1, ConsoleEvent::kPortOpen, value, ""}));
  }

  const TemporaryDirectory folder_;
  std::unique_ptr<GuestMemory> memory_ = MakeTestMemory(64 * kMiB);
  std::unique_ptr<ConsoleDevice> device_;
  std::unique_ptr<ConsoleDriver> driver_;
};

TEST_F(ConsoleDeviceTest, HasAPairOfQueuesAPortAndThoseForControl) {
  Start();
  EXPECT_EQ(device_->queue_sizes().size(), 6u);
  EXPECT_EQ(device_->device_features(), kConsoleFeatureMultiport);
  std::vector<uint8_t> data(16, 0xee);
  device_->ReadConfig(0, data);
  EXPECT_EQ(data, (std::vector<uint8_t>{0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  device_->ReadConfig(UINT64_MAX - 2, data);
  EXPECT_EQ(data, std::vector<uint8_t>(16));
}

TEST_F(ConsoleDeviceTest, IntroducesItsPortsInOrder) {
  Start();
  ASSERT_TRUE(driver().Say(0, ConsoleEvent::kDeviceReady, 1));
  EXPECT_EQ(driver().Hear(), (ControlMessage{0, ConsoleEvent::kDeviceAdd, 1, ""}));
  EXPECT_EQ(driver().Hear(), (ControlMessage{1, ConsoleEvent::kDeviceAdd, 1, ""}));
  ASSERT_TRUE(driver().Say(0, ConsoleEvent::kPortReady, 1));
  EXPECT_EQ(driver().Hear(), (ControlMessage{0, ConsoleEvent::kConsolePort, 1, ""}));
  ASSERT_TRUE(driver().Say(1, ConsoleEvent::kPortReady, 1));
  EXPECT_EQ(driver().Hear(), (ControlMessage{1, ConsoleEvent::kPortName, 1, kGuestAgentPortName}));
}

TEST_F(ConsoleDeviceTest, DoesNotAnnounceAConsoleWithoutSocket) {
  device_ = ConsoleDevice::Create({.name = "console0",
                                   .ports = {{.name = "a", .socket_path = folder_.path() / "a"},
                                             {.name = "b", .socket_path = folder_.path() / "b"}}})
                .value();
  driver_ = std::make_unique<ConsoleDriver>(*device_, *memory_, kConsoleFeatureMultiport, true);
  ASSERT_TRUE(driver().Say(0, ConsoleEvent::kDeviceReady, 1));
  EXPECT_EQ(driver().Hear(), (ControlMessage{1, ConsoleEvent::kDeviceAdd, 1, ""}));
  EXPECT_EQ(driver().Hear(), (ControlMessage{2, ConsoleEvent::kDeviceAdd, 1, ""}));
  driver().Output(0, "to nobody");
  EXPECT_TRUE(driver().WaitOutput(0));
}

TEST_F(ConsoleDeviceTest, TellsTheDriverOfClients) {
  StartSetUp();
  for (int i = 0; i < 5; ++i) {
    {
      const SocketClient client(agent_path());
      ASSERT_TRUE(client.connected());
      ExpectOpen(1);
    }
    ExpectOpen(0);
  }
}

TEST_F(ConsoleDeviceTest, TellsOfAClientThatWasThereBeforeTheDriver) {
  device_ = Build();
  SocketClient client(agent_path());
  ASSERT_TRUE(client.Write("early"));
  driver_ = std::make_unique<ConsoleDriver>(*device_, *memory_, kConsoleFeatureMultiport, true);
  driver().SetUp();
  ExpectOpen(1);
  driver().AddInputBuffer(1, 100);
  EXPECT_EQ(driver().Input(1), "early");
}

// A client that comes and goes while the driver gives no buffer costs nothing but the last word.
TEST_F(ConsoleDeviceTest, OwesTheDriverOneWordAboutClientsHoweverManyCome) {
  Start(kConsoleFeatureMultiport, false);
  for (int i = 0; i < 8; ++i) {
    driver().AddControlBuffer();
  }
  ASSERT_TRUE(driver().Say(0, ConsoleEvent::kDeviceReady, 1));
  ASSERT_TRUE(driver().Say(1, ConsoleEvent::kPortReady, 1));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(driver().Hear().has_value());  // two ports, one name
  }
  std::optional<SocketClient> client;
  for (int i = 0; i < 5; ++i) {  // the rest of the buffers
    if (client.has_value()) {
      client.reset();
    } else {
      client.emplace(agent_path());
    }
    ASSERT_TRUE(driver().Hear().has_value());
  }
  for (int i = 0; i < 100; ++i) {
    client.reset();
    client.emplace(agent_path());
    ASSERT_TRUE(client->connected());
  }
  client.reset();
  driver().AddControlBuffer();
  const auto last = driver().Hear();
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->event, ConsoleEvent::kPortOpen);
}

TEST_F(ConsoleDeviceTest, CarriesBytesBothWays) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  driver().Output(1, "{\"return\": 1}\n");
  EXPECT_TRUE(driver().WaitOutput(1));
  EXPECT_EQ(client.Read(14), "{\"return\": 1}\n");
  driver().AddInputBuffer(1, 4096);
  ASSERT_TRUE(client.Write("{\"execute\": \"guest-ping\"}"));
  EXPECT_EQ(driver().Input(1), "{\"execute\": \"guest-ping\"}");
  EXPECT_TRUE(device_->GuestOpen(1));
  EXPECT_FALSE(device_->GuestOpen(2));
}

TEST_F(ConsoleDeviceTest, CarriesMuchOutputToAClientThatIsSlow) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  const std::string all = Text(3'000'000);
  size_t sent = 0;
  std::string received;
  VirtqueueDriver& queue = driver().queue(ConsoleTransmitQueue(1));
  while (received.size() < all.size()) {
    while (queue.free_descriptors() > 0 && sent < all.size()) {
      const size_t size = std::min<size_t>(1 + sent % 9000, all.size() - sent);
      driver().Output(1, std::string_view(all).substr(sent, size));
      sent += size;
    }
    received += client.Read(std::min<size_t>(70'000, sent - received.size()));
    while (queue.TakeUsed().has_value()) {
    }
  }
  EXPECT_EQ(received, all);
}

// The client does not read: the queue is not taken any further, and nothing else stands still.
TEST_F(ConsoleDeviceTest, LeavesOutputInTheQueueWhenTheClientDoesNotRead) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  const std::string piece = Text(100'000);
  for (int i = 0; i < 60; ++i) {
    driver().Output(1, piece);
  }
  driver().Output(0, "the console goes on");
  EXPECT_TRUE(driver().WaitOutput(0));
  driver().AddInputBuffer(1, 100);
  ASSERT_TRUE(client.Write("and so does input"));
  EXPECT_EQ(driver().Input(1), "and so does input");
  EXPECT_GT(driver().queue(ConsoleTransmitQueue(1)).in_flight(), 40u);
  for (int i = 0; i < 60; ++i) {
    ASSERT_EQ(client.Read(piece.size()), piece) << i;
  }
}

TEST_F(ConsoleDeviceTest, DropsOutputWhenNobodyIsConnected) {
  StartSetUp();
  for (int i = 0; i < 200; ++i) {
    driver().Output(1, Text(1000));
    ASSERT_TRUE(driver().WaitOutput(1));
  }
}

TEST_F(ConsoleDeviceTest, DropsConsoleOutputThatTheClientDoesNotRead) {
  StartSetUp();
  SocketClient client(console_path());
  EXPECT_EQ(driver().Hear(), (ControlMessage{0, ConsoleEvent::kPortOpen, 1, ""}));
  for (int i = 0; i < 100; ++i) {
    driver().Output(0, Text(50'000));
    ASSERT_TRUE(driver().WaitOutput(0)) << i;
  }
  EXPECT_TRUE(client.SomethingToRead());
}

TEST_F(ConsoleDeviceTest, DropsTheRestWhenTheClientLeavesAndServesTheNext) {
  StartSetUp();
  {
    SocketClient client(agent_path());
    ExpectOpen(1);
    for (int i = 0; i < 30; ++i) {
      driver().Output(1, Text(100'000));
    }
    EXPECT_EQ(client.Read(1000).size(), 1000u);
  }
  ExpectOpen(0);
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(driver().WaitOutput(1)) << i;
  }
  SocketClient next(agent_path());
  ExpectOpen(1);
  driver().Output(1, "fresh");
  EXPECT_EQ(next.Read(5), "fresh");
}

TEST_F(ConsoleDeviceTest, ServesASecondClientAfterTheFirst) {
  StartSetUp();
  auto first = std::make_unique<SocketClient>(agent_path());
  ExpectOpen(1);
  SocketClient second(agent_path());
  ASSERT_TRUE(second.Write("second"));
  driver().AddInputBuffer(1, 100);
  ASSERT_TRUE(first->Write("first"));
  EXPECT_EQ(driver().Input(1), "first");
  driver().AddInputBuffer(1, 100);
  first.reset();
  EXPECT_EQ(driver().Input(1), "second");
}

TEST_F(ConsoleDeviceTest, KeepsInputUntilTheDriverHasOpenedThePort) {
  Start();
  SocketClient client(agent_path());
  ASSERT_TRUE(client.Write("wait"));
  driver().AddInputBuffer(1, 100);
  ASSERT_TRUE(driver().Say(0, ConsoleEvent::kDeviceReady, 1));
  ASSERT_TRUE(driver().Say(1, ConsoleEvent::kPortReady, 1));
  EXPECT_FALSE(driver().queue(ConsoleReceiveQueue(1)).TakeUsed().has_value());
  ASSERT_TRUE(driver().Say(1, ConsoleEvent::kPortOpen, 1));
  EXPECT_EQ(driver().Input(1), "wait");
}

TEST_F(ConsoleDeviceTest, CarriesMuchInputIntoBuffersOfEverySize) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  const std::string all = Text(400'000);
  std::thread writer([&] { EXPECT_TRUE(client.Write(all)); });
  std::string received;
  for (size_t i = 0; received.size() < all.size(); ++i) {
    driver().AddInputBuffer(1, 1 + i * 37 % 6000);
    const auto input = driver().Input(1);
    ASSERT_TRUE(input.has_value());
    received += *input;
  }
  writer.join();
  EXPECT_EQ(received, all);
}

TEST_F(ConsoleDeviceTest, DeliversWhatAClientWroteBeforeItLeft) {
  StartSetUp();
  for (int i = 0; i < 10; ++i) {
    driver().AddInputBuffer(1, 10'000);
  }
  {
    SocketClient client(agent_path());
    ASSERT_TRUE(client.Write(Text(9000)));
  }
  std::string received;
  while (received.size() < 9000) {
    const auto input = driver().Input(1);
    ASSERT_TRUE(input.has_value());
    received += *input;
  }
  EXPECT_EQ(received, Text(9000));
}

TEST_F(ConsoleDeviceTest, IsAConsoleForADriverWithOnePort) {
  Start(0);
  SocketClient client(console_path());
  driver().AddInputBuffer(0, 100);
  ASSERT_TRUE(client.Write("root"));
  EXPECT_EQ(driver().Input(0), "root");
  driver().Output(0, "login: ");
  EXPECT_EQ(client.Read(7), "login: ");
}

// Every event, of every port that is and some that are not, with several values: no answer is due.
TEST_F(ConsoleDeviceTest, SurvivesEveryControlMessage) {
  StartSetUp();
  for (const uint32_t port : {0u, 1u, 2u, 3u, 0x8000'0000u, 0xffff'ffffu}) {
    for (uint16_t event = 0; event < 20; ++event) {
      for (const uint16_t value : {uint16_t{0}, uint16_t{1}, uint16_t{2}, uint16_t{UINT16_MAX}}) {
        ASSERT_TRUE(driver().Say(port, static_cast<ConsoleEvent>(event), value));
        while (driver().Hear(std::chrono::milliseconds(0)).has_value()) {
        }
      }
    }
  }
  EXPECT_TRUE(transport().reset_reasons().empty());
  ASSERT_TRUE(driver().Say(std::vector<uint8_t>(100'000, 0x01)));
}

TEST_F(ConsoleDeviceTest, AsksForResetOnAControlMessageThatIsTooShort) {
  Start();
  driver().queue(kConsoleControlTransmitQueue).Add({Readable(harness().heap().Allocate(7))});
  harness().Kick(kConsoleControlTransmitQueue);
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(ConsoleDeviceTest, AsksForResetOnAControlBufferThatIsTooSmall) {
  Start(kConsoleFeatureMultiport, false);
  driver().AddControlBuffer(7);
  ASSERT_TRUE(driver().Say(0, ConsoleEvent::kDeviceReady, 1));
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(ConsoleDeviceTest, AsksForResetOnAnInputBufferThatItMayNotWriteAndWorksAfterIt) {
  StartSetUp();
  SocketClient client(agent_path());
  ASSERT_TRUE(client.Write("x"));
  driver()
      .queue(ConsoleReceiveQueue(1))
      .Add({Readable(harness().heap().Allocate(8)), Writable(harness().heap().Allocate(8))});
  harness().Kick(ConsoleReceiveQueue(1));
  EXPECT_TRUE(transport().WaitForNeedsReset());
  ASSERT_TRUE(harness().Reset());
  driver().Activate();
  driver().SetUp();
  driver().AddInputBuffer(1, 8);
  EXPECT_EQ(driver().Input(1), "x");
}

TEST_F(ConsoleDeviceTest, AsksForResetOnOutputThatItMayNotRead) {
  StartSetUp();
  driver().queue(ConsoleTransmitQueue(1)).Add({Writable(harness().heap().Allocate(8))});
  harness().Kick(ConsoleTransmitQueue(1));
  EXPECT_TRUE(transport().WaitForNeedsReset());
}

TEST_F(ConsoleDeviceTest, AsksForResetOnBrokenRings) {
  for (const uint16_t queue : {uint16_t{0}, uint16_t{1}, kConsoleControlTransmitQueue}) {
    Start(queue < 2 ? 0 : kConsoleFeatureMultiport);
    SocketClient client(console_path());
    ASSERT_TRUE(client.Write("x"));
    driver().queue(queue).SetAvailableIndex(30000);
    harness().doorbell(queue).Signal();
    EXPECT_TRUE(transport().WaitForNeedsReset());
    driver_.reset();
    device_.reset();
  }
}

TEST_F(ConsoleDeviceTest, TouchesNothingWhilePausedAndLosesNothing) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  driver().AddInputBuffer(1, 100);
  harness().Pause();
  driver().Output(1, "output");
  harness().doorbell(ConsoleTransmitQueue(1)).Signal();
  ASSERT_TRUE(client.Write("input"));
  SocketClient other(console_path());
  StateNode before;
  harness().Save(before);
  EXPECT_EQ(driver().queue(ConsoleTransmitQueue(1)).used_index(), 0);
  EXPECT_EQ(driver().queue(ConsoleReceiveQueue(1)).used_index(), 0);
  EXPECT_FALSE(client.SomethingToRead());
  harness().Resume();
  EXPECT_EQ(client.Read(6), "output");
  EXPECT_EQ(driver().Input(1), "input");
  EXPECT_EQ(driver().Hear(), (ControlMessage{0, ConsoleEvent::kPortOpen, 1, ""}));
}

TEST_F(ConsoleDeviceTest, LosesNothingOverManyPauses) {
  StartSetUp();
  SocketClient client(agent_path());
  ExpectOpen(1);
  std::atomic<bool> stop = false;
  std::thread pauser([&] {
    while (!stop) {
      device_->Pause();
      StateNode node;
      device_->Save(node);
      device_->Resume();
      std::this_thread::yield();
    }
  });
  for (unsigned i = 0; i < 300; ++i) {
    driver().Output(1, Text(500, i));
    ASSERT_EQ(client.Read(500), Text(500, i));
    ASSERT_TRUE(driver().WaitOutput(1));
    driver().AddInputBuffer(1, 4000);
    ASSERT_TRUE(client.Write(Text(300, i)));
    std::string input;
    while (input.size() < 300) {
      const auto part = driver().Input(1);
      ASSERT_TRUE(part.has_value());
      input += *part;
      if (input.size() < 300) {
        driver().AddInputBuffer(1, 4000);
      }
    }
    ASSERT_EQ(input, Text(300, i));
  }
  stop = true;
  pauser.join();
}

TEST_F(ConsoleDeviceTest, IsResetAtAnyTimeWithItsClientThere) {
  StartSetUp();
  SocketClient client(agent_path());
  std::atomic<bool> stop = false;
  std::thread reader([&] {
    while (!stop) {
      if (client.SomethingToRead()) {
        (void)client.Read(1);
      }
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 50; ++i) {
    for (int k = 0; k < i % 10; ++k) {
      driver().Output(1, Text(5000));
    }
    driver().AddInputBuffer(1, 10);
    ASSERT_TRUE(harness().Reset());
    EXPECT_FALSE(device_->GuestOpen(1));
    driver().Activate();
    driver().SetUp();
    ExpectOpen(1);
  }
  stop = true;
  reader.join();
}

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
  const auto other =
      ConsoleDevice::Create(
          {.name = "console0", .ports = {{.name = "x", .socket_path = folder_.path() / "x"}}})
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

TEST(ConsoleOptions, RefusesNamesThatCannotBe) {
  const TemporaryDirectory folder;
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a/b"), std::string(65, 'x')}) {
    const auto device = ConsoleDevice::Create(
        {.name = "console0", .ports = {{.name = name, .socket_path = folder.path() / "s"}}});
    ASSERT_FALSE(device.ok()) << name;
    EXPECT_EQ(device.error().code(), ErrorCode::kInvalidArgument);
  }
  const std::vector<ConsoleDeviceOptions::NamedPort> many(
      ConsoleDevice::kMaxNamedPorts + 1, {.name = "x", .socket_path = folder.path() / "s"});
  EXPECT_FALSE(ConsoleDevice::Create({.name = "console0", .ports = many}).ok());
}

}  // namespace
}  // namespace pacsvisor::console_test
