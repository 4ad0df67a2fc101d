#include "vmm/kvm/interrupt_routes.h"

#include <vector>

namespace pacsvisor {
namespace {

constexpr uint32_t kPicPins = 16;

}  // namespace

Status InterruptRoutes::Initialize() {
  const MutexLock lock(mutex_);
  return Send();
}

Result<Gsi> InterruptRoutes::AllocateMsi() {
  const MutexLock lock(mutex_);
  for (uint32_t gsi = kIoapicPins; gsi < kMaxGsi - kPicPins; ++gsi) {
    if (allocated_.insert(gsi).second) {
      return Gsi(gsi);
    }
  }
  return Error::Make(ErrorCode::kNoSpace, "all {} interrupt routes are in use", kMaxGsi);
}

void InterruptRoutes::FreeMsi(Gsi gsi) {
  const MutexLock lock(mutex_);
  CHECK(allocated_.erase(gsi.raw()) == 1, "interrupt route {} freed twice", gsi);
  messages_.erase(gsi.raw());
}

Status InterruptRoutes::SetMsi(Gsi gsi, uint64_t address, uint32_t data) {
  const MutexLock lock(mutex_);
  CHECK(allocated_.contains(gsi.raw()), "interrupt route {} is not allocated", gsi);
  kvm_irq_routing_msi& message = messages_[gsi.raw()];
  const auto low = static_cast<uint32_t>(address);
  const auto high = static_cast<uint32_t>(address >> 32);
  if (message.address_lo == low && message.address_hi == high && message.data == data) {
    return {};
  }
  message.address_lo = low;
  message.address_hi = high;
  message.data = data;
  return Send();
}

Status InterruptRoutes::Send() {
  std::vector<kvm_irq_routing_entry> routes;
  const auto add_pin = [&](uint32_t gsi, uint32_t chip, uint32_t pin) {
    kvm_irq_routing_entry route{};
    route.gsi = gsi;
    route.type = KVM_IRQ_ROUTING_IRQCHIP;
    route.u.irqchip.irqchip = chip;
    route.u.irqchip.pin = pin;
    routes.push_back(route);
  };
  for (uint32_t pin = 0; pin < kIoapicPins; ++pin) {
    if (pin < kPicPins) {
      add_pin(pin, pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, pin % 8);
    }
    add_pin(pin, KVM_IRQCHIP_IOAPIC, pin);
  }
  for (const auto& [gsi, message] : messages_) {
    kvm_irq_routing_entry route{};
    route.gsi = gsi;
    route.type = KVM_IRQ_ROUTING_MSI;
    route.u.msi = message;
    routes.push_back(route);
  }
  return vm_.SetGsiRouting(routes);
}

}  // namespace pacsvisor
