#include "firmware/acpi/aml_resources.h"

#include "vmm/base/byte_order.h"
#include "vmm/base/check.h"

namespace pacsvisor::aml {
namespace {

// Descriptor names (ACPI 6.4, tables 6.36 and 6.43).
constexpr uint8_t kIoPortTag = 0x47;
constexpr uint8_t kEndTag = 0x79;
constexpr uint8_t kMemory32FixedTag = 0x86;
constexpr uint8_t kDwordAddressSpaceTag = 0x87;
constexpr uint8_t kWordAddressSpaceTag = 0x88;
constexpr uint8_t kExtendedInterruptTag = 0x89;
constexpr uint8_t kQwordAddressSpaceTag = 0x8a;

constexpr uint8_t kDecode16 = 1;
constexpr uint8_t kReadWrite = 1;
constexpr uint8_t kInterruptConsumerEdge = 0x03;  // active high, exclusive: zero bits

// Address space descriptors, general flags: produced for the devices behind, both ends fixed.
constexpr uint8_t kProducerFixed = 0x0c;
enum class SpaceType : uint8_t { kMemory = 0, kBusNumber = 2 };
// Not cacheable and not prefetchable: a prefetchable window would refuse BARs that are not.
constexpr uint8_t kMemoryWindowFlags = kReadWrite;

// One of the three widths of the address space descriptor (6.4.3.5.1 to 6.4.3.5.3).
template <typename T>
Bytes AddressSpace(uint8_t tag, SpaceType type, uint8_t type_flags, T first, T last) {
  constexpr size_t kHeadBytes = 6;
  Bytes bytes(kHeadBytes + 5 * sizeof(T));
  bytes[0] = tag;
  StoreLe(&bytes[1], static_cast<uint16_t>(bytes.size() - 3));
  bytes[3] = static_cast<uint8_t>(type);
  bytes[4] = kProducerFixed;
  bytes[5] = type_flags;
  uint8_t* numbers = &bytes[kHeadBytes];
  StoreLe(numbers, T{0});                                                 // granularity
  StoreLe(numbers + sizeof(T), first);                                    // minimum
  StoreLe(numbers + 2 * sizeof(T), last);                                 // maximum
  StoreLe(numbers + 3 * sizeof(T), T{0});                                 // translation
  StoreLe(numbers + 4 * sizeof(T), static_cast<T>(last - first + T{1}));  // length
  return bytes;
}

}  // namespace

Bytes ResourceTemplate(std::initializer_list<Bytes> descriptors) {
  // A checksum of zero stands for "not checked" (6.4.2.9).
  return Buffer(Join({Join(descriptors), {kEndTag, 0}}));
}

Bytes IoPorts(uint16_t first, uint8_t count) {
  Bytes bytes(8);
  bytes[0] = kIoPortTag;
  bytes[1] = kDecode16;
  StoreLe(&bytes[2], first);  // minimum
  StoreLe(&bytes[4], first);  // maximum
  bytes[6] = 1;               // alignment
  bytes[7] = count;
  return bytes;
}

Bytes Memory32Fixed(const MemoryRegion& region) {
  CHECK(region.start.raw() + region.size_bytes <= uint64_t{1} << 32, "{}", region.start);
  Bytes bytes(12);
  bytes[0] = kMemory32FixedTag;
  StoreLe(&bytes[1], uint16_t{9});
  bytes[3] = kReadWrite;
  StoreLe(&bytes[4], static_cast<uint32_t>(region.start.raw()));
  StoreLe(&bytes[8], static_cast<uint32_t>(region.size_bytes));
  return bytes;
}

Bytes EdgeInterrupt(Gsi gsi) {
  Bytes bytes(9);
  bytes[0] = kExtendedInterruptTag;
  StoreLe(&bytes[1], uint16_t{6});
  bytes[3] = kInterruptConsumerEdge;
  bytes[4] = 1;  // one number follows
  StoreLe(&bytes[5], gsi.raw());
  return bytes;
}

Bytes WordBusNumbers(uint16_t first, uint16_t last) {
  return AddressSpace<uint16_t>(kWordAddressSpaceTag, SpaceType::kBusNumber, 0, first, last);
}

Bytes DwordMemoryWindow(const MemoryRegion& region) {
  const uint64_t last = region.start.raw() + region.size_bytes - 1;
  CHECK(region.size_bytes > 0 && last < uint64_t{1} << 32, "{}", region.start);
  return AddressSpace<uint32_t>(kDwordAddressSpaceTag, SpaceType::kMemory, kMemoryWindowFlags,
                                static_cast<uint32_t>(region.start.raw()),
                                static_cast<uint32_t>(last));
}

Bytes QwordMemoryWindow(const MemoryRegion& region) {
  CHECK(region.size_bytes > 0, "{}", region.start);
  return AddressSpace<uint64_t>(kQwordAddressSpaceTag, SpaceType::kMemory, kMemoryWindowFlags,
                                region.start.raw(), region.start.raw() + region.size_bytes - 1);
}

}  // namespace pacsvisor::aml
