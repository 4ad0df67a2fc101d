#include "devices/platform/serial_port.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <string>

#include "tests/support/counting_line.h"

namespace pacsvisor {
namespace {

// A console that can be stopped from reading.
class Console {
 public:
  SerialPort::Sink sink() {
    return [this](std::span<const uint8_t> bytes) {
      std::unique_lock lock(mutex_);
      ++calls_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !blocked_; });
      text_.append(bytes.begin(), bytes.end());
      changed_.notify_all();
    };
  }
  void Block(bool blocked) {
    const std::lock_guard lock(mutex_);
    blocked_ = blocked;
    changed_.notify_all();
  }
  bool WaitForCall() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [this] { return calls_ > 0; });
  }
  bool WaitForText(const std::string& text) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return text_ == text; });
  }
  std::string text() {
    const std::lock_guard lock(mutex_);
    return text_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool blocked_ = false;
  int calls_ = 0;
  std::string text_;
};

class SerialPortTest : public testing::Test {
 protected:
  void Put(SerialPort& port, std::string_view text) {
    for (const char c : text) {
      const uint8_t byte[] = {static_cast<uint8_t>(c)};
      port.Write(0, byte);
    }
  }
  uint8_t Get(SerialPort& port, uint64_t offset) {
    uint8_t byte[1];
    port.Read(offset, byte);
    return byte[0];
  }
  void Set(SerialPort& port, uint64_t offset, uint8_t value) {
    const uint8_t byte[] = {value};
    port.Write(offset, byte);
  }

  Console console_;
  CountingLine line_;
  std::unique_ptr<SerialPort> port_ = SerialPort::Create(line_, console_.sink()).value();
};

TEST_F(SerialPortTest, OutputReachesTheSinkInOrder) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += std::to_string(i) + "\r\n";
  }
  Put(*port_, text);
  EXPECT_TRUE(console_.WaitForText(text));
}

TEST_F(SerialPortTest, ASinkThatDoesNotReadNeverBlocksTheGuest) {
  console_.Block(true);
  const std::string text(Uart16550::kOutputLimitBytes, 'x');
  Put(*port_, text);
  EXPECT_EQ(Get(*port_, 5) & 0x20, 0) << "the guest sees a full transmitter";
  Put(*port_, "lost");
  Set(*port_, 1, 2);
  const uint64_t seen = line_.count();
  console_.Block(false);
  EXPECT_TRUE(line_.WaitFor(seen)) << "and is told when there is room";
  EXPECT_TRUE(console_.WaitForText(text));
}

TEST_F(SerialPortTest, EverythingIsSentBeforeTheEnd) {
  const std::string text(10000, 'z');
  Put(*port_, text);
  port_.reset();
  EXPECT_EQ(console_.text(), text);
}

TEST_F(SerialPortTest, InputInterruptsAndIsRead) {
  Set(*port_, 1, 1);
  const uint8_t input[] = {'h', 'i'};
  EXPECT_EQ(port_->Receive(input), 2u);
  EXPECT_EQ(line_.count(), 1u);
  EXPECT_EQ(Get(*port_, 0), 'h');
  EXPECT_EQ(Get(*port_, 0), 'i');
}

TEST_F(SerialPortTest, RoomForInputIsSignalledAfterARefusal) {
  const std::vector<uint8_t> much(Uart16550::kInputLimitBytes + 1, 'x');
  EXPECT_EQ(port_->Receive(much), Uart16550::kInputLimitBytes);
  EXPECT_EQ(port_->input_room().Consume(), 0u);
  Get(*port_, 0);
  EXPECT_EQ(port_->input_room().Consume(), 1u);
}

TEST_F(SerialPortTest, EveryAccessIsHarmless) {
  for (const size_t size : {1u, 2u, 4u, 8u}) {
    for (uint64_t offset = 0; offset + size <= SerialPort::kSizeBytes; ++offset) {
      for (int value = 0; value < 256; ++value) {
        std::vector<uint8_t> data(size, static_cast<uint8_t>(value));
        port_->Write(offset, data);
        port_->Read(offset, data);
      }
    }
  }
}

TEST_F(SerialPortTest, NothingInterruptsWhilePaused) {
  Set(*port_, 1, 1);
  port_->Pause();
  const uint8_t input[] = {'a'};
  EXPECT_EQ(port_->Receive(input), 0u);
  EXPECT_EQ(line_.count(), 0u);
  port_->Resume();
  EXPECT_EQ(port_->input_room().Consume(), 1u);
  EXPECT_EQ(port_->Receive(input), 1u);
}

TEST_F(SerialPortTest, ARestoredPortResumesItsOutputAtTheRecordedByte) {
  console_.Block(true);
  Put(*port_, "1");
  ASSERT_TRUE(console_.WaitForCall());
  Put(*port_, "23");
  port_->Pause();
  StateNode node;
  port_->Save(node);
  console_.Block(false);
  ASSERT_TRUE(console_.WaitForText("1")) << "the worker waits at the gate";

  Console twin_console;
  CountingLine twin_line;
  auto twin = SerialPort::Create(twin_line, twin_console.sink()).value();
  ASSERT_TRUE(twin->Load(node).ok());
  twin->Resume();
  EXPECT_TRUE(twin_console.WaitForText("123"));
  port_->Resume();
  EXPECT_TRUE(console_.WaitForText("123"));
}

TEST_F(SerialPortTest, ARestoredPortRaisesItsPendingInterruptAgain) {
  Set(*port_, 1, 1);
  const uint8_t input[] = {'a'};
  port_->Receive(input);
  port_->Pause();
  StateNode node;
  port_->Save(node);
  CountingLine twin_line;
  auto twin = SerialPort::Create(twin_line, console_.sink()).value();
  ASSERT_TRUE(twin->Load(node).ok());
  EXPECT_EQ(twin_line.count(), 0u);
  twin->Resume();
  EXPECT_EQ(twin_line.count(), 1u);
  EXPECT_EQ(Get(*twin, 0), 'a');
}

}  // namespace
}  // namespace pacsvisor
