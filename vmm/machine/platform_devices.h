// The platform of a machine at the ports that its ACPI tables name: serial console, clock, power
// registers, reset ports, generation identifier.
// Threads: PressPowerButton and ConsoleInput any; the rest control thread.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "devices/bus/pausable.h"
#include "devices/pci/pci_bus.h"
#include "devices/platform/acpi_registers.h"
#include "devices/platform/reset_port.h"
#include "devices/platform/rtc.h"
#include "devices/platform/serial_port.h"
#include "devices/platform/vm_generation_id.h"
#include "firmware/acpi/platform_description.h"
#include "vmm/machine/console_feed.h"
#include "vmm/machine/kvm_interrupts.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

class PlatformDevices : public Pausable, public Stateful {
 public:
  struct Host {
    KvmVm& vm;
    GuestMemory& memory;
    Bus& ports;
    PciBus& pci;
  };
  struct Actions {
    std::function<void(std::span<const uint8_t>)> console_output;
    std::function<void()> power_off;
    std::function<void()> reset;
  };

  static Result<std::unique_ptr<PlatformDevices>> Create(const PlatformDescription& platform,
                                                         Host host, Actions actions);

  // A new machine's first identifier, after the tables were written.
  Status RenewGenerationId() { return generation_id_->Renew(); }
  // Tells a guest that runs already, or will from where it was saved.
  void AnnounceGeneration() { acpi_->VmGenerationChanged(); }
  void PressPowerButton() { acpi_->PressPowerButton(); }
  void ConsoleInput(std::span<const uint8_t> bytes) { console_feed_->Write(bytes); }

  void Pause() override;
  void Resume() override;
  void Save(StateNode& node) const override;
  Status Load(const StateNode& node) override;

 private:
  PlatformDevices() = default;
  Status Build(const PlatformDescription& platform, Host host, Actions actions);

  // Constant after Create.
  std::unique_ptr<IrqfdLine> serial_line_;
  std::unique_ptr<IrqfdLine> event_line_;
  std::unique_ptr<SerialPort> serial_;
  std::unique_ptr<ConsoleFeed> console_feed_;
  std::unique_ptr<AcpiRegisters> acpi_;
  std::unique_ptr<Rtc> rtc_;
  std::unique_ptr<ResetPort> keyboard_reset_;
  std::unique_ptr<ResetPort> reset_control_;
  std::unique_ptr<VmGenerationId> generation_id_;
};

}  // namespace pacsvisor
