// The platform's ports: any accesses to serial port, clock, power registers and reset ports, input
// from the host in between, and save and restore.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/bus/bus.h"
#include "devices/platform/acpi_registers.h"
#include "devices/platform/reset_port.h"
#include "devices/platform/rtc.h"
#include "devices/platform/uart_16550.h"
#include "tests/support/counting_line.h"
#include "tests/support/fuzz_input.h"
#include "vmm/state/state_codec.h"

namespace pacsvisor {
namespace {

// The UART without its worker.
class UartPorts : public BusDevice {
 public:
  void Read(uint64_t offset, std::span<uint8_t> data) override {
    data[0] = uart.Read(static_cast<UartRegister>(offset));
  }
  void Write(uint64_t offset, std::span<const uint8_t> data) override {
    uart.Write(static_cast<UartRegister>(offset), data[0]);
  }

  Uart16550 uart;
};

struct Machine {
  explicit Machine(const uint64_t& clock) : rtc([&clock] { return clock; }) {
    ports.Insert(0x00, 8, serial).value();
    ports.Insert(0x10, Rtc::kSizeBytes, rtc).value();
    ports.Insert(0x18, AcpiRegisters::kSizeBytes, acpi).value();
    ports.Insert(0x20, 1, keyboard).value();
    ports.Insert(0x21, 1, reset_control).value();
  }

  CountingLine line;
  UartPorts serial;
  Rtc rtc;
  AcpiRegisters acpi{{[] {}, [] {}}, line};
  ResetPort keyboard{ResetPort::Kind::kKeyboardCommand, [] {}};
  ResetPort reset_control{ResetPort::Kind::kResetControl, [] {}};
  Bus ports{"I/O port", 0x100};
};

template <typename Device>
void Move(Device& from, Device& to) {
  StateNode node;
  from.Save(node);
  const Status loaded = to.Load(DecodeState(EncodeState(node)).value());
  CHECK(loaded.ok(), "{}", loaded.error().message());
}

void Run(FuzzInput input) {
  uint64_t clock = 1'700'000'000'000'000'000;
  auto machine = std::make_unique<Machine>(clock);
  while (!input.empty()) {
    const auto step = input.Take<uint8_t>();
    const auto operand = input.Take<uint8_t>();
    uint8_t bytes[8] = {};
    const std::span<uint8_t> data(bytes, size_t{1} << (step >> 6));
    switch (step & 7) {
      case 0:
        machine->ports.Read(operand, data);
        break;
      case 1:
        machine->serial.uart.Receive(input.TakeBytes(operand));
        break;
      case 2:
        machine->serial.uart.DropOutput(machine->serial.uart.PeekOutput(operand).size());
        break;
      case 3:
        machine->acpi.RaiseEvent(operand & 3);
        break;
      case 4:
        clock += uint64_t{operand} * operand * 1'000'000'000 + operand;
        break;
      case 5: {
        auto twin = std::make_unique<Machine>(clock);
        Move(machine->serial.uart, twin->serial.uart);
        Move(machine->rtc, twin->rtc);
        Move(machine->acpi, twin->acpi);
        twin->rtc.Resume();
        twin->acpi.Resume();
        machine = std::move(twin);
        break;
      }
      default: {
        const std::span<const uint8_t> value = input.TakeBytes(data.size());
        std::copy(value.begin(), value.end(), data.begin());
        machine->ports.Write(operand, data);
        break;
      }
    }
  }
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::Run(pacsvisor::FuzzInput({data, size}));
  return 0;
}
