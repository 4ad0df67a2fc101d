// COM1, polled: a 16550 (National Semiconductor PC16550D data sheet) at port 0x3f8, 115200 8n1.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pacsvisor {

// Processor 0 only, except for exception reports, which come last anyway.
class Serial {
 public:
  void Start();

  // From then on it is called while the port is waited for, and after each character.
  void SetHeartbeat(void (*beat)()) { beat_ = beat; }

  // Characters are dropped when the transmitter stays busy for long: nobody may be listening.
  void Put(char c);
  std::optional<char> Get();

 private:
  bool WaitForRoom();

  void (*beat_)() = nullptr;
  uint32_t room_ = 0;  // characters that the transmit FIFO still takes
};

// One line of the protocol: KIND NAME key=value …, ended by the destructor.
class Line {
 public:
  Line(Serial& serial, std::string_view kind, std::string_view name);
  ~Line();
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  Line& Word(std::string_view word);
  Line& Text(std::string_view key, std::string_view value);
  Line& Number(std::string_view key, uint64_t value);
  Line& Hex(std::string_view key, uint64_t value);
  // Goes on with the last field's value: a number behind `before`.
  Line& Item(std::string_view before, uint64_t value, uint64_t base);

 private:
  void Put(std::string_view text);
  void PutDigits(uint64_t value, uint64_t base);

  Serial& serial_;
};

}  // namespace pacsvisor
