#include "vmm/machine/console_feed.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/counting_line.h"
#include "vmm/base/clock.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kLineStatus = 5;  // offset; bit 0: there is a byte
constexpr uint64_t kDeadlineNs = 20'000'000'000;

// Reads as a driver does that polls, until `count` bytes have come or nothing comes any more.
std::string ReadBytes(SerialPort& serial, size_t count) {
  std::string bytes;
  const uint64_t deadline_ns = MonotonicNs() + kDeadlineNs;
  while (bytes.size() < count && MonotonicNs() < deadline_ns) {
    uint8_t status = 0;
    serial.Read(kLineStatus, {&status, 1});
    if ((status & 1) != 0) {
      uint8_t byte = 0;
      serial.Read(0, {&byte, 1});
      bytes.push_back(static_cast<char>(byte));
    }
  }
  return bytes;
}

std::span<const uint8_t> AsBytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};  // characters as bytes
}

TEST(ConsoleFeed, AGuestGetsWhatWasTypedHoweverSlowlyItReads) {
  CountingLine line;
  const auto serial = SerialPort::Create(line, [](std::span<const uint8_t>) {}).value();
  const auto feed = ConsoleFeed::Start(*serial).value();
  std::string typed;
  for (int i = 0; i < 2000; ++i) {
    typed += std::to_string(i) + "\n";
  }
  feed->Write(AsBytes(typed));
  EXPECT_EQ(ReadBytes(*serial, typed.size()), typed);
}

}  // namespace
}  // namespace pacsvisor
