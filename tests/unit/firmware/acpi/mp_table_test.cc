#include "firmware/acpi/mp_table.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "firmware/acpi/acpi_tables.h"
#include "tests/unit/firmware/acpi/platforms.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

uint8_t SumOf(const std::vector<uint8_t>& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), uint8_t{0}, [](uint8_t sum, uint8_t byte) {
    return static_cast<uint8_t>(sum + byte);
  });
}

std::string TextOf(const std::vector<uint8_t>& bytes, size_t size) {
  return {bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size)};
}

TEST(MpPointer, PointsToTheTable) {
  const std::vector<uint8_t> pointer = BuildMpPointer(GuestAddress(0xf'0010));
  ASSERT_EQ(pointer.size(), kMpPointerBytes);
  EXPECT_EQ(TextOf(pointer, 4), "_MP_");
  EXPECT_EQ(LoadLe<uint32_t>(&pointer[4]), 0xf'0010u);
  EXPECT_EQ(pointer[8], 1) << "in units of 16 bytes";
  EXPECT_EQ(SumOf(pointer), 0);
}

TEST(MpTable, EntriesAscendAndFillItsLength) {
  for (const uint32_t vcpus : {1u, 2u, 16u}) {
    const std::vector<uint8_t> table = BuildMpTable(MakePlatform(vcpus, 512 * kMiB));
    EXPECT_EQ(TextOf(table, 4), "PCMP");
    EXPECT_EQ(LoadLe<uint16_t>(&table[4]), table.size());
    EXPECT_EQ(SumOf(table), 0);
    std::set<uint8_t> apic_ids;
    uint16_t count = 0;
    uint8_t type = 0;
    for (size_t at = 44; at < table.size(); at += table[at] == 0 ? 20 : 8) {
      EXPECT_GE(table[at], type);
      type = table[at];
      ++count;
      if (type == 0) {
        EXPECT_EQ(table[at + 3], apic_ids.empty() ? 3 : 1) << "usable; the first one boots";
        apic_ids.insert(table[at + 1]);
      }
    }
    EXPECT_EQ(apic_ids.size(), vcpus);
    EXPECT_EQ(count, LoadLe<uint16_t>(&table[34]));
  }
}

TEST(MpTable, LiesInReservedMemoryBehindItsPointer) {
  const PlatformDescription platform = MakePlatform(16, 512 * kMiB);
  const AcpiPlacement placement = AcpiPlacementOf(platform);
  EXPECT_EQ(placement.reserved.start, kMpPointer);
  EXPECT_LE(kMpPointer.raw() + kMpPointerBytes + BuildMpTable(platform).size(),
            placement.vmgenid.raw());
}

}  // namespace
}  // namespace pacsvisor
