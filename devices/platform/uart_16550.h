// The registers and FIFOs of a 16550 UART, without a wire: what the guest sends is collected until
// somebody takes it, what the host sends waits until the guest reads it. Sending takes no time;
// when nobody takes the output the transmitter stays full, which is the flow control the guest
// sees. Threads: one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "devices/platform/uart_registers.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class Uart16550 : public Stateful {
 public:
  static constexpr size_t kFifoBytes = 16;
  static constexpr size_t kOutputLimitBytes = 64 * 1024;
  static constexpr size_t kInputLimitBytes = 4 * 1024;

  uint8_t Read(UartRegister reg);
  void Write(UartRegister reg, uint8_t value);

  // From the host; returns how many bytes there was room for.
  size_t Receive(std::span<const uint8_t> bytes);
  bool HasInputRoom() const { return input_.size() < kInputLimitBytes; }

  // What the guest sent: up to `limit` bytes, which stay until they are dropped.
  std::vector<uint8_t> PeekOutput(size_t limit) const;
  void DropOutput(size_t count);
  bool HasOutput() const { return !output_.empty(); }

  // The level of the interrupt output, and whether it rose since the last call.
  bool InterruptLevel() const { return interrupt_level_; }
  bool TakeInterruptEdge();

  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  bool DivisorLatchOpen() const { return (line_control_ & kUartDivisorLatch) != 0; }
  bool Loop() const { return (modem_control_ & kUartModemLoop) != 0; }
  size_t FifoDepth() const { return (fifo_control_ & kUartFifoEnable) != 0 ? kFifoBytes : 1; }
  size_t FifoLevel() const;  // what the guest may read before the host refills
  size_t TriggerLevel() const;
  uint8_t Identity() const;  // without the FIFO bits
  uint8_t LineStatus() const;
  uint8_t ModemLines() const;
  uint8_t ReadData();
  void WriteData(uint8_t value);
  void WriteInterruptEnable(uint8_t value);
  void WriteFifoControl(uint8_t value);
  void WriteModemControl(uint8_t value);
  void UpdateInterrupt();

  uint8_t interrupt_enable_ = 0;
  uint8_t fifo_control_ = 0;
  uint8_t line_control_ = 0;
  uint8_t modem_control_ = 0;
  uint8_t line_errors_ = 0;
  uint8_t modem_changes_ = 0;
  uint8_t scratch_ = 0;
  uint16_t divisor_ = 12;  // 9600 baud
  bool transmit_empty_pending_ = false;
  bool output_full_ = false;  // since the limit was reached, until half was taken
  std::deque<uint8_t> input_;
  std::deque<uint8_t> output_;
  bool interrupt_level_ = false;
  bool interrupt_edge_ = false;
};

}  // namespace pacsvisor
