#include "firmware/acpi/mp_table.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "firmware/acpi/table.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr uint8_t kSpecificationRevision = 4;  // 1.4

// Offsets in the floating pointer (section 4.1).
constexpr size_t kPointerTable = 4;
constexpr size_t kPointerLength = 8;  // in units of 16 bytes
constexpr size_t kPointerRevision = 9;
constexpr size_t kPointerChecksum = 10;

// Offsets in the table's header (section 4.2).
constexpr size_t kHeaderBytes = 44;
constexpr size_t kHeaderLength = 4;
constexpr size_t kHeaderRevision = 6;
constexpr size_t kHeaderChecksum = 7;
constexpr size_t kHeaderOemId = 8;       // eight characters
constexpr size_t kHeaderProductId = 16;  // twelve characters
constexpr size_t kHeaderEntryCount = 34;
constexpr size_t kHeaderLocalApic = 36;

// Entries (section 4.3), in the ascending order of their types.
enum EntryType : uint8_t { kProcessor, kBus, kMpIoapic, kIoInterrupt, kLocalInterrupt };
enum InterruptType : uint8_t { kVectored, kNmi };
constexpr uint8_t kProcessorUsable = 1 << 0;
constexpr uint8_t kBootProcessor = 1 << 1;
constexpr uint8_t kIoapicUsable = 1 << 0;
constexpr uint8_t kLocalApicVersion = 0x14;
constexpr uint8_t kIoapicVersion = 0x11;
constexpr uint8_t kIoapicId = 0;
constexpr uint8_t kIsaBus = 0;
constexpr uint8_t kAllLocalApics = 0xff;
constexpr uint8_t kMpNmiLint = 1;
constexpr uint8_t kMpLegacyInterrupts = 16;
constexpr uint8_t kCascade = 2;  // to the second 8259; no interrupt of its own

// Collects the entries and counts them.
class Entries {
 public:
  void Add(std::initializer_list<uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes);
    ++count_;
  }
  // Signature and feature flags stay zero: a system reads them by CPUID.
  void AddProcessor(uint8_t apic_id, uint8_t flags) {
    Add({kProcessor, apic_id, kLocalApicVersion, flags});
    bytes_.resize(bytes_.size() + 16);
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  uint16_t count() const { return count_; }

 private:
  std::vector<uint8_t> bytes_;
  uint16_t count_ = 0;
};

Entries MakeEntries(const PlatformDescription& platform) {
  Entries entries;
  const size_t processors = std::min(platform.apic_ids.size(), kMaxMpProcessors);
  for (size_t i = 0; i < processors; ++i) {
    if (platform.apic_ids[i] < kAllLocalApics) {
      entries.AddProcessor(static_cast<uint8_t>(platform.apic_ids[i]),
                           static_cast<uint8_t>(kProcessorUsable | (i == 0 ? kBootProcessor : 0)));
    }
  }
  entries.Add({kBus, kIsaBus, 'I', 'S', 'A', ' ', ' ', ' '});
  const auto ioapic = static_cast<uint32_t>(platform.ioapic.raw());
  entries.Add({kMpIoapic, kIoapicId, kIoapicVersion, kIoapicUsable, static_cast<uint8_t>(ioapic),
               static_cast<uint8_t>(ioapic >> 8), static_cast<uint8_t>(ioapic >> 16),
               static_cast<uint8_t>(ioapic >> 24)});
  // Flags of zero: polarity and trigger as the bus has them.
  for (uint8_t irq = 0; irq < kMpLegacyInterrupts; ++irq) {
    if (irq != kCascade) {
      entries.Add({kIoInterrupt, kVectored, 0, 0, kIsaBus, irq, kIoapicId, irq});
    }
  }
  entries.Add({kLocalInterrupt, kNmi, 0, 0, kIsaBus, 0, kAllLocalApics, kMpNmiLint});
  return entries;
}

void StoreText(std::vector<uint8_t>& to, size_t at, std::string_view text, size_t size) {
  std::fill_n(to.begin() + static_cast<ptrdiff_t>(at), size, ' ');
  std::copy(text.begin(), text.end(), to.begin() + static_cast<ptrdiff_t>(at));
}

}  // namespace

std::vector<uint8_t> BuildMpPointer(GuestAddress table) {
  std::vector<uint8_t> pointer(kMpPointerBytes);
  StoreText(pointer, 0, "_MP_", 4);
  StoreLe(&pointer[kPointerTable], static_cast<uint32_t>(table.raw()));
  pointer[kPointerLength] = kMpPointerBytes / 16;
  pointer[kPointerRevision] = kSpecificationRevision;
  pointer[kPointerChecksum] = AcpiChecksum(pointer);
  return pointer;
}

std::vector<uint8_t> BuildMpTable(const PlatformDescription& platform) {
  const Entries entries = MakeEntries(platform);
  std::vector<uint8_t> table(kHeaderBytes);
  StoreText(table, 0, "PCMP", 4);
  StoreLe(&table[kHeaderLength], static_cast<uint16_t>(kHeaderBytes + entries.bytes().size()));
  table[kHeaderRevision] = kSpecificationRevision;
  StoreText(table, kHeaderOemId, kAcpiOemId, 8);
  StoreText(table, kHeaderProductId, kAcpiOemTableId, 12);
  StoreLe(&table[kHeaderEntryCount], entries.count());
  StoreLe(&table[kHeaderLocalApic], static_cast<uint32_t>(platform.local_apic.raw()));
  table.insert(table.end(), entries.bytes().begin(), entries.bytes().end());
  table[kHeaderChecksum] = AcpiChecksum(table);
  return table;
}

}  // namespace pacsvisor
