// The platform's ports: any accesses to serial port, clock, power registers and reset ports, input
// from the host in between, the generation identifier renewed, and save and restore, also from
// state that somebody changed.
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "devices/bus/bus.h"
#include "devices/platform/acpi_registers.h"
#include "devices/platform/reset_port.h"
#include "devices/platform/rtc.h"
#include "devices/platform/uart_16550.h"
#include "devices/platform/vm_generation_id.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/fuzz/state_mutation.h"
#include "tests/support/counting_line.h"
#include "tests/support/fuzz_input.h"
#include "vmm/state/state_node.h"

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

// True when the state, changed by the input, was taken.
template <typename Device>
bool Move(Device& from, Device& to, FuzzInput& input) {
  StateNode node;
  from.Save(node);
  const unsigned changes = StateMutation::Apply(node, input);
  const Status loaded = to.Load(node);
  CHECK(loaded.ok() || changes > 0, "{}", loaded.error().message());
  return loaded.ok();
}

// A guest that was restored gets another identifier, wherever in memory it is.
void RenewIdentifier(GuestMemory& memory, GuestAddress address) {
  using Identifier = std::array<uint8_t, VmGenerationId::kSizeBytes>;
  const std::optional<Identifier> before = memory.ReadObject<Identifier>(address);
  const Status renewed = VmGenerationId(memory, address).Renew();
  CHECK(renewed.ok() == before.has_value());
  CHECK(!renewed.ok() || memory.ReadObject<Identifier>(address) != before);
}

void Run(FuzzInput input) {
  static FuzzMemory fuzz_memory;
  GuestMemory& memory = fuzz_memory.Clean();
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
        if (Move(machine->serial.uart, twin->serial.uart, input) &&
            Move(machine->rtc, twin->rtc, input) && Move(machine->acpi, twin->acpi, input)) {
          twin->rtc.Resume();
          twin->acpi.Resume();
          machine = std::move(twin);
        }
        break;
      }
      case 6: {
        const uint64_t end = memory.size_bytes() - VmGenerationId::kSizeBytes;
        RenewIdentifier(memory, GuestAddress(end - 64 + operand % 128));
        machine->acpi.VmGenerationChanged();
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
