// Configuration space, BARs and MSI-X.
#include "devices/pci/pci_registers.h"
#include "guests/freestanding/ring0.h"
#include "guests/hostile/battle.h"

namespace pacsvisor::hostile {
namespace {

constexpr uint32_t kMsixEntryBytes = 16;
constexpr uint16_t kMsixEnable = 1u << 15;

// A 64-bit BAR: two registers. Decoding goes on meanwhile, as no driver would let it.
void PlaceBar(const Function& function, unsigned bar, uint64_t address) {
  Write32(function.config + kPciBar0 + 4 * bar, static_cast<uint32_t>(address));
  Write32(function.config + kPciBar0 + 4 * bar + 4, static_cast<uint32_t>(address >> 32));
}

// Both of the function's BARs lie there for a moment, and are touched; then they go home.
void Visit(const Function& function, uint64_t address) {
  for (const unsigned bar : {0u, 2u}) {
    PlaceBar(function, bar, address);
    Read32(function.common);
    PlaceBar(function, bar, function.Bar(bar));
  }
}

void BarsOverOneAnother(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    for (unsigned i = 0; i < battle.functions.count; ++i) {
      const Function& other = battle.functions.all[i];
      if (!other.is_virtio || &other == &function) continue;
      Visit(function, other.Bar(0));
      Visit(function, other.Bar(2));
    }
    Visit(function, kEcam);
    Visit(function, kEcam + kEcamBytes - 0x2000);
  });
}

void BarsOverMemory(Battle& battle) {
  const uint64_t places[] = {0x1'0000,
                             0x20'0000,
                             battle.arena.begin(),
                             battle.memory.low - 0x4000,
                             battle.memory.high != 0 ? battle.memory.high - 0x4000 : 0x10'0000,
                             0xfec0'0000,
                             0xfee0'0000,
                             0xfeff'c000};
  battle.OnDevices([&](const Function& function) {
    for (const uint64_t place : places) Visit(function, place);
  });
}

void BarsOutside(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    for (unsigned bit = 57; bit < 64; ++bit) Visit(function, uint64_t{1} << bit);
    Visit(function, ~uint64_t{0} << 20);
  });
}

void ConfigOfOnes(Battle& battle) {
  battle.OnDevices([&](const Function& function) {
    for (uint64_t offset = 0; offset < kConfigBytes; offset += 4) {
      Write32(function.config + offset, 0xffff'ffff);
    }
    for (unsigned i = 0; i < 200; ++i) {
      Write32(function.config + battle.random.Below(64) * 4, battle.random.Next32());
    }
  });
  if (!battle.in_crowd) RestoreFunctions(battle.functions);
}

// Across the borders of functions, registers and ECAM itself, in every width.
void ConfigEdges(Battle& battle) {
  for (unsigned i = 0; i < 200; ++i) {
    const uint64_t function = battle.random.Below(256) * kConfigBytes;
    const uint64_t address = kEcam + function + kConfigBytes - 1 - battle.random.Below(8);
    Read64(address);
    Write64(address, battle.random.Next());
    Write16(address, battle.random.Next16());
  }
  // Behind the only bus that there is.
  for (uint64_t bus = 1; bus < 256; bus += 17) {
    Read32(kEcam + (bus << 20));
    Write32(kEcam + (bus << 20) + kPciBar0, battle.random.Next32());
  }
}

void ConfigBeyondBus(Battle& battle) {
  constexpr uint16_t kAddressPort = 0xcf8;
  constexpr uint16_t kDataPort = 0xcfc;
  AllowPorts(kAddressPort, 8);
  for (uint32_t bus = 1; bus < 256; bus += 13) {
    const auto where = static_cast<uint32_t>(battle.random.Below(0x10000));
    WritePort32(kAddressPort, 0x8000'0000 | bus << 16 | (where & 0xfffc));
    WritePort32(kDataPort, battle.random.Next32());
    WritePort8(static_cast<uint16_t>(kDataPort + battle.random.Below(4)), 0xff);
    if (ReadPort8(kDataPort) == 0xff) ++battle.arrived;
  }
  WritePort32(kAddressPort, 0);
}

// Messages to memory, to BARs, to nowhere; each is sent by an interrupt of the device. Messages to
// local APICs are of the fixed kind: another may legally end this guest.
void MsixAnywhere(Battle& battle) {
  const uint64_t places[] = {0,
                             0x20'0004,
                             battle.arena.begin(),
                             battle.memory.low,
                             kEcam,
                             0xfed0'0000,
                             0xfef0'0000,
                             0x1'fee0'0000,
                             ~uint64_t{0},
                             0xfee0'0003,
                             0xfee0'0000 | (battle.random.Next() & 0xf'fffc)};
  battle.OnDevices([&](const Function& function) {
    Victim victim(battle, function, 0);
    if (!victim.ready) return;
    Write16(function.config + function.msix + 2, kMsixEnable);
    for (const uint64_t place : places) {
      for (uint16_t vector = 0; vector < function.vectors && vector < 4; ++vector) {
        const uint64_t entry = function.msix_table + kMsixEntryBytes * vector;
        Write32(entry + 12, 1);
        Write64(entry, place);
        Write32(entry + 8, static_cast<uint32_t>(0x20 + battle.random.Below(0xd0)));
        Write32(entry + 12, 0);
        Write16(victim.driver.Register(offsetof(VirtioPciCommonConfig, config_msix_vector)),
                vector);
      }
      // A configuration interrupt: the queue breaks.
      victim.Offer(0xffff);
      victim.driver.WaitNeedsReset(battle.in_crowd ? 0 : kCyclesPerSecond / 1000);
    }
    // Behind the table, and the pending bits.
    Write64(function.msix_table + kMsixEntryBytes * function.vectors, ~uint64_t{0});
    Write64(function.msix_table + 0x1000, ~uint64_t{0});
    Write64(function.msix_table + 0x1ff8, ~uint64_t{0});
    for (uint16_t vector = 0; vector < function.vectors; ++vector) {
      Write32(function.msix_table + kMsixEntryBytes * vector + 12, 1);
    }
    Write16(function.config + function.msix + 2, 0);
  });
}

constexpr Attack kAttacks[] = {{"bars_over_one_another", BarsOverOneAnother},
                               {"bars_over_memory", BarsOverMemory},
                               {"bars_outside", BarsOutside},
                               {"config_of_ones", ConfigOfOnes},
                               {"config_edges", ConfigEdges},
                               {"config_beyond_bus", ConfigBeyondBus, true},
                               {"msix_anywhere", MsixAnywhere}};

}  // namespace

std::span<const Attack> PciAttacks() { return kAttacks; }

}  // namespace pacsvisor::hostile
