#include "guests/freestanding/serial.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/ring0.h"

namespace pacsvisor {
namespace {

constexpr uint16_t kBase = 0x3f8;
constexpr uint16_t kData = kBase;                 // divisor latch low while DLAB is set
constexpr uint16_t kInterruptEnable = kBase + 1;  // divisor latch high while DLAB is set
constexpr uint16_t kFifoControl = kBase + 2;
constexpr uint16_t kLineControl = kBase + 3;
constexpr uint16_t kModemControl = kBase + 4;
constexpr uint16_t kLineStatus = kBase + 5;
constexpr uint16_t kRegisters = 8;

constexpr uint8_t kDivisorLatch = 0x80;
constexpr uint8_t kEightBitsOneStop = 0x03;
constexpr uint8_t kEnableAndClearFifos = 0x07;
constexpr uint8_t kReadyAndRequestToSend = 0x03;
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kTransmitterEmpty = 0x20;
constexpr uint8_t kNoSuchPort = 0xff;
constexpr uint32_t kFifoCharacters = 16;
// Each look is an exit to the hypervisor: some seconds in all.
constexpr uint32_t kLooksBeforeDropping = 200'000;

}  // namespace

void Serial::Start() {
  AllowPorts(kBase, kRegisters);
  WritePort8(kInterruptEnable, 0);
  WritePort8(kLineControl, kDivisorLatch);
  WritePort8(kData, 1);
  WritePort8(kInterruptEnable, 0);
  WritePort8(kLineControl, kEightBitsOneStop);
  WritePort8(kFifoControl, kEnableAndClearFifos);
  WritePort8(kModemControl, kReadyAndRequestToSend);
}

bool Serial::WaitForRoom() {
  for (uint32_t look = 0; look < kLooksBeforeDropping; ++look) {
    if ((ReadPort8(kLineStatus) & kTransmitterEmpty) != 0) {
      room_ = kFifoCharacters;  // the bit means that the whole FIFO is empty
      return true;
    }
    if (beat_ != nullptr) beat_();
  }
  return false;
}

void Serial::Put(char c) {
  if (room_ == 0 && !WaitForRoom()) return;
  --room_;
  WritePort8(kData, static_cast<uint8_t>(c));
  if (beat_ != nullptr) beat_();
}

std::optional<char> Serial::Get() {
  const uint8_t status = ReadPort8(kLineStatus);
  if (status == kNoSuchPort || (status & kDataReady) == 0) return std::nullopt;
  return static_cast<char>(ReadPort8(kData));
}

Line::Line(Serial& serial, std::string_view kind, std::string_view name) : serial_(serial) {
  Put(kind);
  Word(name);
}

Line::~Line() { Put("\r\n"); }

Line& Line::Word(std::string_view word) {
  Put(" ");
  Put(word);
  return *this;
}

Line& Line::Text(std::string_view key, std::string_view value) {
  Word(key);
  Put("=");
  Put(value);
  return *this;
}

Line& Line::Number(std::string_view key, uint64_t value) {
  Text(key, "");
  PutDigits(value, 10);
  return *this;
}

Line& Line::Hex(std::string_view key, uint64_t value) {
  Text(key, "0x");
  PutDigits(value, 16);
  return *this;
}

Line& Line::Item(std::string_view before, uint64_t value, uint64_t base) {
  Put(before);
  PutDigits(value, base);
  return *this;
}

void Line::Put(std::string_view text) {
  for (const char c : text) serial_.Put(c);
}

void Line::PutDigits(uint64_t value, uint64_t base) {
  char digits[20];
  size_t begin = sizeof(digits);
  do {
    digits[--begin] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  Put({digits + begin, sizeof(digits) - begin});
}

}  // namespace pacsvisor
