// The registers of a virtio PCI function (virtio 1.2, 4.1.4).
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

using Registers = VirtioPciCommonConfig;

void FeaturesNotOffered(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    const Driver driver(function);
    // All that are not offered; none at all; one beyond the 64th.
    for (unsigned kind = 0; kind < 3; ++kind) {
      if (!driver.Reset(battle.patience_cycles())) return;
      driver.SetStatus(kSetUp);
      const uint64_t offered = driver.OfferedFeatures();
      driver.WriteFeatures(kind == 0 ? ~offered : kind == 1 ? 0 : offered);
      Write32(driver.Register(offsetof(Registers, driver_feature_select)), kind == 2 ? 2 : 0);
      if (kind == 2) Write32(driver.Register(offsetof(Registers, driver_feature)), 1);
      driver.SetStatus(kSetUp | kVirtioStatusFeaturesOk);
      if ((driver.status() & kVirtioStatusFeaturesOk) == 0) ++battle.arrived;
    }
  });
}

void FeaturesAfterNegotiation(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    Victim victim(battle, function, 0);
    if (!victim.ready) return;
    victim.driver.WriteFeatures(~uint64_t{0});
  });
}

void DriverOkTooEarly(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    const Driver driver(function);
    if (!driver.Reset(battle.patience_cycles())) return;
    driver.SetStatus(kSetUp | kVirtioStatusDriverOk);
    if ((driver.status() & kVirtioStatusDriverOk) == 0) ++battle.arrived;
  });
}

void NoSuchQueue(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    const Driver driver(function);
    if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(0)) return;
    const Ring ring(battle.arena, Victim::kRingSize);
    for (const uint32_t queue : {100u, 0x1000u, 0x8000u, 0xffffu}) {
      driver.Enable(static_cast<uint16_t>(queue), ring.layout());
      Write16(driver.Register(offsetof(Registers, queue_msix_vector)), 0);
    }
  });
}

void NoSuchVector(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    const Driver driver(function);
    if (!driver.Reset(battle.patience_cycles()) || !driver.Negotiate(0)) return;
    driver.SelectQueue(0);
    for (const uint32_t vector : {uint32_t{function.vectors}, 0x800u, 0xfffeu}) {
      Write16(driver.Register(offsetof(Registers, config_msix_vector)),
              static_cast<uint16_t>(vector));
      Write16(driver.Register(offsetof(Registers, queue_msix_vector)),
              static_cast<uint16_t>(vector));
      if (Read16(driver.Register(offsetof(Registers, queue_msix_vector))) == kVirtioNoVector) {
        ++battle.arrived;
      }
    }
  });
}

void ReadOnlyRegisters(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    const Driver driver(function);
    if (!driver.Reset(battle.patience_cycles())) return;
    Write32(driver.Register(offsetof(Registers, device_feature)), ~0u);
    Write16(driver.Register(offsetof(Registers, num_queues)), 0xffff);
    Write8(driver.Register(offsetof(Registers, config_generation)), 0xff);
    Write16(driver.Register(offsetof(Registers, queue_notify_off)), 0xffff);
    for (uint64_t offset = 0; offset < 256; offset += 8) {
      Write64(function.device + offset, battle.random.Next());
    }
  });
}

// Every offset of the BAR's first page and some of the rest, in every width.
void WrongAccesses(Battle& battle) {
  const unsigned accesses = battle.in_crowd ? 100 : 1000;
  battle.OnDevices([&](const Function& function) {
    Victim victim(battle, function, 0);
    for (unsigned i = 0; i < accesses; ++i) {
      const bool common = battle.random.Below(2) == 0;
      // Not the status: a status written at random is a reset now and then.
      // Nor behind the BAR.
      const uint64_t offset = battle.random.Below(common ? 0x14 : 0x3fc0);
      const uint64_t address = function.common + (common ? offset : offset + 0x15);
      const uint64_t value = battle.random.Next();
      switch (battle.random.Below(4)) {
        case 0:
          Write8(address, static_cast<uint8_t>(value));
          break;
        case 1:
          Write16(address, static_cast<uint16_t>(value));
          break;
        case 2:
          Write32(address, static_cast<uint32_t>(value));
          break;
        default:
          Read64(address & ~uint64_t{7});
          break;
      }
    }
  });
}

// The window of the configuration access capability, opened anywhere (4.1.4.9).
void ConfigWindow(Battle& battle) {
  const unsigned windows = battle.in_crowd ? 20 : 200;
  battle.OnDevices([&](const Function& function) {
    const uint64_t capability = function.config + function.config_access;
    for (unsigned i = 0; i < windows; ++i) {
      Write8(capability + offsetof(VirtioPciCapability, bar),
             static_cast<uint8_t>(battle.random.Below(8)));
      Write32(capability + offsetof(VirtioPciCapability, offset),
              battle.random.Next32() >> battle.random.Below(32));
      Write32(capability + offsetof(VirtioPciCapability, length_bytes),
              static_cast<uint32_t>(battle.random.Below(9)));
      Read32(capability + kVirtioPciCapabilityExtra);
      // Through the window a register may change, but not to a value that starts a device.
      Write32(capability + kVirtioPciCapabilityExtra, 0);
    }
  });
}

constexpr Attack kAttacks[] = {{"features_not_offered", FeaturesNotOffered},
                               {"features_after_negotiation", FeaturesAfterNegotiation},
                               {"driver_ok_too_early", DriverOkTooEarly},
                               {"no_such_queue", NoSuchQueue},
                               {"no_such_vector", NoSuchVector},
                               {"read_only_registers", ReadOnlyRegisters},
                               {"wrong_accesses", WrongAccesses},
                               {"config_window", ConfigWindow}};

}  // namespace

std::span<const Attack> TransportAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
