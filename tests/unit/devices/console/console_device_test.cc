// What the console device tells its driver, and what it makes of a bad one.
#include <thread>

#include "tests/unit/devices/console/console_fixture.h"

namespace pacsvisor::console_test {
namespace {

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
                                   .ports = {{.name = "a", .listener = Listener("a")},
                                             {.name = "b", .listener = Listener("b")}}})
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

TEST(ConsoleOptions, RefusesNamesThatCannotBe) {
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a/b"), std::string(65, 'x')}) {
    const auto device =
        ConsoleDevice::Create({.name = "console0", .ports = {{.name = name, .listener = nullptr}}});
    ASSERT_FALSE(device.ok()) << name;
    EXPECT_EQ(device.error().code(), ErrorCode::kInvalidArgument);
  }
  const std::vector<ConsoleDeviceOptions::NamedPort> many(ConsoleDevice::kMaxNamedPorts + 1,
                                                          {.name = "x", .listener = nullptr});
  EXPECT_FALSE(ConsoleDevice::Create({.name = "console0", .ports = many}).ok());
}

}  // namespace
}  // namespace pacsvisor::console_test
