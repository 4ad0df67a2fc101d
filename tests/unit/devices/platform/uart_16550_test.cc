// The 16550's registers as Linux's 8250 driver uses and probes them.
#include "devices/platform/uart_16550.h"

#include <gtest/gtest.h>

#include <string>

namespace pacsvisor {
namespace {

using enum UartRegister;

class Uart16550Test : public testing::Test {
 protected:
  std::string Output() {
    const std::vector<uint8_t> bytes = uart_.PeekOutput(SIZE_MAX);
    uart_.DropOutput(bytes.size());
    return {bytes.begin(), bytes.end()};
  }
  void Receive(std::string_view text) {
    uart_.Receive(std::vector<uint8_t>(text.begin(), text.end()));
  }
  uint8_t Identity() { return uart_.Read(kInterruptIdentity); }

  Uart16550 uart_;
};

TEST_F(Uart16550Test, SendsWhatIsWritten) {
  for (const char c : std::string("hello")) {
    EXPECT_EQ(uart_.Read(kLineStatus), 0x60);
    uart_.Write(kData, static_cast<uint8_t>(c));
  }
  EXPECT_EQ(Output(), "hello");
}

TEST_F(Uart16550Test, ReceivesInOrder) {
  Receive("abc");
  for (const char c : std::string("abc")) {
    EXPECT_EQ(uart_.Read(kLineStatus) & 1, 1);
    EXPECT_EQ(uart_.Read(kData), c);
  }
  EXPECT_EQ(uart_.Read(kLineStatus) & 1, 0);
  EXPECT_EQ(uart_.Read(kData), 0);
}

TEST_F(Uart16550Test, LooksLikeA16550ToLinux) {
  // Scratch register, then FIFOs: autoconfig of drivers/tty/serial/8250.
  uart_.Write(kScratch, 0xa5);
  EXPECT_EQ(uart_.Read(kScratch), 0xa5);
  uart_.Write(kInterruptEnable, 0xff);
  EXPECT_EQ(uart_.Read(kInterruptEnable), 0x0f) << "no XScale, no sleep mode";
  uart_.Write(kInterruptEnable, 0);
  uart_.Write(kModemControl, 0x10 | 0x0a);
  EXPECT_EQ(uart_.Read(kModemStatus) & 0xf0, 0x90) << "loop test";
  uart_.Write(kModemControl, 0);
  uart_.Write(kInterruptIdentity, 1);
  EXPECT_EQ(Identity() >> 6, 3) << "a 16550A";
  uart_.Write(kInterruptIdentity, 0x21);
  EXPECT_EQ(Identity() & 0x20, 0) << "not a 16750";
}

TEST_F(Uart16550Test, TheDivisorLatchHidesDataAndInterruptEnable) {
  uart_.Write(kLineControl, 0x83);
  uart_.Write(kData, 0x34);
  uart_.Write(kInterruptEnable, 0x12);
  EXPECT_EQ(uart_.Read(kData), 0x34);
  EXPECT_EQ(uart_.Read(kInterruptEnable), 0x12);
  uart_.Write(kLineControl, 0x03);
  EXPECT_EQ(uart_.Read(kInterruptEnable), 0);
  EXPECT_EQ(Output(), "");
}

TEST_F(Uart16550Test, TransmitEmptyInterruptsWhenEnabledAndAfterEachByte) {
  uart_.Write(kInterruptEnable, kUartEnableTransmitEmpty);
  EXPECT_TRUE(uart_.TakeInterruptEdge());
  EXPECT_EQ(Identity(), kUartIdentityTransmitEmpty);
  EXPECT_EQ(Identity(), kUartIdentityNone) << "reading it resets it";
  uart_.Write(kInterruptEnable, 0);
  uart_.Write(kInterruptEnable, kUartEnableTransmitEmpty);
  EXPECT_TRUE(uart_.TakeInterruptEdge()) << "Linux's THRE test";
  for (int i = 0; i < 3; ++i) {
    uart_.Write(kData, 'x');
    EXPECT_TRUE(uart_.TakeInterruptEdge()) << i;
  }
  EXPECT_EQ(Identity(), kUartIdentityTransmitEmpty);
}

TEST_F(Uart16550Test, ReceivedDataInterruptsByLevelAndTimeout) {
  uart_.Write(kInterruptEnable, kUartEnableReceived);
  uart_.Write(kInterruptIdentity, 0x81);  // trigger at 8
  Receive("1234567");
  EXPECT_TRUE(uart_.TakeInterruptEdge());
  EXPECT_EQ(Identity(), kUartIdentityFifos | kUartIdentityTimeout);
  Receive("8");
  EXPECT_EQ(Identity(), kUartIdentityFifos | kUartIdentityReceived);
  EXPECT_FALSE(uart_.TakeInterruptEdge()) << "the line is high already";
  for (int i = 0; i < 8; ++i) {
    uart_.Read(kData);
  }
  EXPECT_EQ(Identity(), kUartIdentityFifos | kUartIdentityNone);
  EXPECT_FALSE(uart_.InterruptLevel());
  Receive("9");
  EXPECT_TRUE(uart_.TakeInterruptEdge());
}

TEST_F(Uart16550Test, SourcesComeByPriority) {
  uart_.Write(kInterruptEnable, 0x0f);
  uart_.Write(kModemControl, kUartModemLoop);
  uart_.Write(kData, 'a');
  uart_.Write(kData, 'b');  // overrun: no FIFO
  EXPECT_EQ(Identity(), kUartIdentityLineStatus);
  EXPECT_EQ(uart_.Read(kLineStatus) & kUartLineOverrun, kUartLineOverrun);
  EXPECT_EQ(Identity(), kUartIdentityReceived);
  EXPECT_EQ(uart_.Read(kData), 'a');
  EXPECT_EQ(Identity(), kUartIdentityTransmitEmpty);
  EXPECT_EQ(Identity(), kUartIdentityModemStatus);
  uart_.Read(kModemStatus);
  EXPECT_EQ(Identity(), kUartIdentityNone);
}

TEST_F(Uart16550Test, LoopedBytesComeBackAndDoNotLeave) {
  uart_.Write(kInterruptIdentity, 1);
  uart_.Write(kModemControl, kUartModemLoop);
  for (const char c : std::string("loop")) {
    uart_.Write(kData, static_cast<uint8_t>(c));
  }
  EXPECT_EQ(Output(), "");
  std::string back;
  while ((uart_.Read(kLineStatus) & 1) != 0) {
    back += static_cast<char>(uart_.Read(kData));
  }
  EXPECT_EQ(back, "loop");
}

TEST_F(Uart16550Test, ClearingTheFifoDropsWhatIsInIt) {
  uart_.Write(kInterruptIdentity, 1);
  Receive("0123456789abcdefREST");
  uart_.Write(kInterruptIdentity, 3);
  EXPECT_EQ(uart_.Read(kData), 'R');
}

TEST_F(Uart16550Test, InputIsBoundedAndTheHostIsTold) {
  const std::vector<uint8_t> much(Uart16550::kInputLimitBytes + 10, 'x');
  EXPECT_EQ(uart_.Receive(much), Uart16550::kInputLimitBytes);
  EXPECT_FALSE(uart_.HasInputRoom());
  uart_.Read(kData);
  EXPECT_TRUE(uart_.HasInputRoom());
  EXPECT_EQ(uart_.Receive(much), 1u);
}

TEST_F(Uart16550Test, AFullTransmitterHoldsTheGuestBack) {
  uart_.Write(kInterruptEnable, kUartEnableTransmitEmpty);
  for (size_t i = 0; i < Uart16550::kOutputLimitBytes; ++i) {
    ASSERT_NE(uart_.Read(kLineStatus) & kUartLineHoldingEmpty, 0);
    uart_.Write(kData, 'x');
  }
  EXPECT_EQ(uart_.Read(kLineStatus) & 0x60, 0);
  uart_.Write(kData, 'y');  // a guest that does not look loses it
  uart_.TakeInterruptEdge();
  EXPECT_FALSE(uart_.InterruptLevel());
  uart_.DropOutput(100);
  EXPECT_EQ(uart_.Read(kLineStatus) & 0x60, 0);
  uart_.DropOutput(Uart16550::kOutputLimitBytes / 2);
  EXPECT_EQ(uart_.Read(kLineStatus) & 0x60, 0x60);
  EXPECT_TRUE(uart_.TakeInterruptEdge());
  EXPECT_EQ(Output().find('y'), std::string::npos);
}

TEST_F(Uart16550Test, ASavedUartGoesOnWithTheSameRegisters) {
  uart_.Write(kInterruptIdentity, 0xc1);
  uart_.Write(kInterruptEnable, 0x07);
  uart_.Write(kLineControl, 0x1b);
  uart_.Write(kModemControl, 0x0b);
  uart_.Write(kScratch, 0x77);
  uart_.Write(kData, 'o');
  Receive("in");
  StateNode node;
  uart_.Save(node);
  Uart16550 twin;
  ASSERT_TRUE(twin.Load(node).ok());
  EXPECT_EQ(twin.InterruptLevel(), uart_.InterruptLevel());
  for (uint8_t i = 0; i < 8; ++i) {
    EXPECT_EQ(twin.Read(static_cast<UartRegister>(i)), uart_.Read(static_cast<UartRegister>(i)))
        << int{i};
  }
  EXPECT_EQ(twin.PeekOutput(10), std::vector<uint8_t>{'o'});
  EXPECT_EQ(twin.Read(kData), 'n');
}

TEST_F(Uart16550Test, StateThatIsImpossibleIsRefused) {
  StateNode node;
  uart_.Save(node);
  node.mutable_fields().at("output").value = StateNode::Bytes(Uart16550::kOutputLimitBytes + 1);
  EXPECT_FALSE(uart_.Load(node).ok());
}

}  // namespace
}  // namespace pacsvisor
