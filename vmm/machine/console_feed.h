// What is typed on the serial console, on its way into a UART that takes 16 bytes at a time: kept
// until the guest has read, over pauses too. Past the limit what is typed is lost.
// Threads: Write any; the rest belong to the owner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/platform/serial_port.h"
#include "vmm/base/event_loop.h"

namespace pacsvisor {

class ConsoleFeed {
 public:
  static constexpr size_t kLimitBytes = 64 << 10;

  // `serial` must outlive this, and has no other who calls its Receive.
  static Result<std::unique_ptr<ConsoleFeed>> Start(SerialPort& serial);
  ~ConsoleFeed();

  void Write(std::span<const uint8_t> bytes);

 private:
  explicit ConsoleFeed(SerialPort& serial) : serial_(serial) {}
  void Feed();

  SerialPort& serial_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<uint8_t> waiting_;  // owned by the loop's thread
};

}  // namespace pacsvisor
