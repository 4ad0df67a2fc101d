// Bytes between the ports of a console device and their clients.
#include <thread>

#include "tests/unit/devices/console/console_fixture.h"

namespace pacsvisor::console_test {
namespace {

using ConsoleBytes = ConsoleDeviceTest;

TEST_F(ConsoleBytes, CarriesBytesBothWays) {
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

TEST_F(ConsoleBytes, CarriesMuchOutputToAClientThatIsSlow) {
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
TEST_F(ConsoleBytes, LeavesOutputInTheQueueWhenTheClientDoesNotRead) {
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

TEST_F(ConsoleBytes, DropsOutputWhenNobodyIsConnected) {
  StartSetUp();
  for (int i = 0; i < 200; ++i) {
    driver().Output(1, Text(1000));
    ASSERT_TRUE(driver().WaitOutput(1));
  }
}

TEST_F(ConsoleBytes, DropsConsoleOutputThatTheClientDoesNotRead) {
  StartSetUp();
  SocketClient client(console_path());
  EXPECT_EQ(driver().Hear(), (ControlMessage{0, ConsoleEvent::kPortOpen, 1, ""}));
  for (int i = 0; i < 100; ++i) {
    driver().Output(0, Text(50'000));
    ASSERT_TRUE(driver().WaitOutput(0)) << i;
  }
  EXPECT_TRUE(client.SomethingToRead());
}

TEST_F(ConsoleBytes, DropsTheRestWhenTheClientLeavesAndServesTheNext) {
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

TEST_F(ConsoleBytes, ServesASecondClientAfterTheFirst) {
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

TEST_F(ConsoleBytes, KeepsInputUntilTheDriverHasOpenedThePort) {
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

TEST_F(ConsoleBytes, CarriesMuchInputIntoBuffersOfEverySize) {
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

TEST_F(ConsoleBytes, DeliversWhatAClientWroteBeforeItLeft) {
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

TEST_F(ConsoleBytes, IsAConsoleForADriverWithOnePort) {
  Start(0);
  SocketClient client(console_path());
  driver().AddInputBuffer(0, 100);
  ASSERT_TRUE(client.Write("root"));
  EXPECT_EQ(driver().Input(0), "root");
  driver().Output(0, "login: ");
  EXPECT_EQ(client.Read(7), "login: ");
}

TEST_F(ConsoleBytes, TouchesNothingWhilePausedAndLosesNothing) {
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

TEST_F(ConsoleBytes, LosesNothingOverManyPauses) {
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

}  // namespace
}  // namespace pacsvisor::console_test
