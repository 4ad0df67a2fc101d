// The tables as a guest finds them: from the RSDP on, through guest memory.
#include "firmware/acpi/acpi_tables.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "firmware/acpi/table.h"
#include "tests/unit/firmware/acpi/platforms.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

using Bytes = std::vector<uint8_t>;

uint8_t Sum(std::span<const uint8_t> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), uint8_t{0}, [](uint8_t sum, uint8_t byte) {
    return static_cast<uint8_t>(sum + byte);
  });
}

class AcpiTablesTest : public testing::Test {
 protected:
  void Place(const PlatformDescription& platform) {
    memory_ = GuestMemory::Create(platform.memory, MemoryBacking::kAnonymous).value();
    placement_ = WriteAcpiTables(*memory_, platform).value();
    const GuestAddress xsdt_address(LoadLe<uint64_t>(&Read(placement_.rsdp, 36)[24]));
    const Bytes xsdt = Table(xsdt_address);
    for (size_t at = kAcpiHeaderBytes; at < xsdt.size(); at += 8) {
      const Bytes table = Table(GuestAddress(LoadLe<uint64_t>(&xsdt[at])));
      tables_[std::string(table.begin(), table.begin() + 4)] = table;
    }
    tables_["DSDT"] = Table(GuestAddress(LoadLe<uint64_t>(&tables_["FACP"][140])));
  }

  Bytes Read(GuestAddress from, size_t size) const {
    Bytes bytes(size);
    EXPECT_TRUE(memory_->Read(from, bytes));
    return bytes;
  }
  // Checks where it lies and its checksum.
  Bytes Table(GuestAddress at) const {
    const auto size = LoadLe<uint32_t>(&Read(at, kAcpiHeaderBytes)[4]);
    EXPECT_GE(at, placement_.tables.start);
    EXPECT_LE(at.raw() + size, placement_.tables.start.raw() + placement_.tables.size_bytes);
    const Bytes table = Read(at, size);
    EXPECT_EQ(Sum(table), 0) << at.raw();
    return table;
  }
  // The MADT's entries of one type, whole.
  std::vector<Bytes> MadtEntries(uint8_t type) {
    const Bytes& madt = tables_["APIC"];
    std::vector<Bytes> entries;
    for (size_t at = kAcpiHeaderBytes + 8; at < madt.size(); at += madt[at + 1]) {
      if (madt[at] == type) {
        entries.emplace_back(madt.begin() + static_cast<ptrdiff_t>(at),
                             madt.begin() + static_cast<ptrdiff_t>(at + madt[at + 1]));
      }
    }
    return entries;
  }

  std::unique_ptr<GuestMemory> memory_;
  AcpiPlacement placement_;
  std::map<std::string, Bytes> tables_;
};

TEST_F(AcpiTablesTest, RsdpLiesWhereSystemsLookAndBothItsChecksumsHold) {
  Place(MakePlatform(1, 64 * kMiB));
  EXPECT_EQ(placement_.rsdp, GuestAddress(0xe'0000));
  const Bytes rsdp = Read(placement_.rsdp, 36);
  EXPECT_EQ(std::string(rsdp.begin(), rsdp.begin() + 8), "RSD PTR ");
  EXPECT_EQ(Sum(std::span(rsdp).first(20)), 0);
  EXPECT_EQ(Sum(rsdp), 0);
}

TEST_F(AcpiTablesTest, LeadsToAllTables) {
  Place(MakePlatform(1, 64 * kMiB));
  for (const char* signature : {"FACP", "APIC", "MCFG", "DSDT"}) {
    EXPECT_TRUE(tables_.contains(signature)) << signature;
  }
}

TEST_F(AcpiTablesTest, FadtIsHardwareReducedWithItsRegistersInPortSpace) {
  Place(MakePlatform(1, 64 * kMiB));
  const Bytes& fadt = tables_["FACP"];
  const auto flags = LoadLe<uint32_t>(&fadt[112]);
  EXPECT_NE(flags & (1u << 20), 0u);  // HW_REDUCED_ACPI
  EXPECT_NE(flags & (1u << 10), 0u);  // RESET_REG_SUP
  const auto boot = LoadLe<uint16_t>(&fadt[109]);
  EXPECT_EQ(boot & (1u << 1), 0u);  // no 8042
  EXPECT_NE(boot & (1u << 2), 0u);  // no VGA
  EXPECT_EQ(boot & (1u << 3), 0u);  // MSI as usual
  EXPECT_EQ(boot & (1u << 5), 0u);  // a CMOS RTC
  for (const auto& [offset, port] : {std::pair{116, 0x601}, {244, 0x600}, {256, 0x602}}) {
    EXPECT_EQ(fadt[static_cast<size_t>(offset)], 1) << offset;  // System I/O
    EXPECT_EQ(LoadLe<uint64_t>(&fadt[static_cast<size_t>(offset) + 4]), port) << offset;
  }
  EXPECT_EQ(fadt[128], 1);  // reset value
}

TEST_F(AcpiTablesTest, MadtHasNo8259Pair) {
  Place(MakePlatform(1, 64 * kMiB));
  EXPECT_EQ(LoadLe<uint32_t>(&tables_["APIC"][40]), 0u);
}

TEST_F(AcpiTablesTest, MadtListsEachLocalApicEnabled) {
  Place(MakePlatform(16, 64 * kMiB));
  const std::vector<Bytes> entries = MadtEntries(0);
  ASSERT_EQ(entries.size(), 16u);
  for (size_t i = 0; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i],
              (Bytes{0, 8, static_cast<uint8_t>(i), static_cast<uint8_t>(i), 1, 0, 0, 0}));
  }
  EXPECT_EQ(MadtEntries(4).size(), 1u);  // the NMI of all of them
}

TEST_F(AcpiTablesTest, MadtTakesX2ApicEntriesForWideIdentifiers) {
  PlatformDescription platform = MakePlatform(2, 64 * kMiB);
  platform.apic_ids = {254, 255};
  Place(platform);
  EXPECT_EQ(MadtEntries(0).size(), 1u);
  const std::vector<Bytes> wide = MadtEntries(9);
  ASSERT_EQ(wide.size(), 1u);
  EXPECT_EQ(LoadLe<uint32_t>(&wide[0][4]), 255u);
  EXPECT_EQ(LoadLe<uint32_t>(&wide[0][12]), 1u);  // its processor
  EXPECT_EQ(MadtEntries(10).size(), 1u);
}

TEST_F(AcpiTablesTest, MadtSaysThatLegacyNumbersAreEdges) {
  Place(MakePlatform(1, 64 * kMiB));
  EXPECT_EQ(MadtEntries(2),
            (std::vector<Bytes>{{2, 10, 0, 4, 4, 0, 0, 0, 5, 0}, {2, 10, 0, 9, 9, 0, 0, 0, 5, 0}}));
}

TEST_F(AcpiTablesTest, McfgNamesTheEcamWindow) {
  Place(MakePlatform(1, 64 * kMiB));
  const Bytes& mcfg = tables_["MCFG"];
  EXPECT_EQ(LoadLe<uint64_t>(&mcfg[44]), kEcamStart.raw());
  EXPECT_EQ(mcfg[54], 0);
  EXPECT_EQ(mcfg[55], kEcamSizeBytes / kMiB - 1);  // 1 MiB a bus
}

TEST_F(AcpiTablesTest, GenerationIdentifierHasAPageOfItsOwn) {
  Place(MakePlatform(1, 64 * kMiB));
  EXPECT_EQ(placement_.vmgenid, GuestAddress(0xf'f000));
  EXPECT_GE(placement_.vmgenid, placement_.reserved.start);
  EXPECT_GE(placement_.reserved.start.raw(),
            placement_.tables.start.raw() + placement_.tables.size_bytes);
}

TEST_F(AcpiTablesTest, MarksExactlyThePagesThatItWrote) {
  Place(MakePlatform(1, 64 * kMiB));
  // The tables of one vCPU take less than a page.
  EXPECT_EQ(memory_->dirty().CountMarked(), 3u);
  EXPECT_TRUE(memory_->dirty().IsMarked(BlockIndex(0xe0)));
  EXPECT_TRUE(memory_->dirty().IsMarked(BlockIndex(0xf0)));  // MP table
  EXPECT_TRUE(memory_->dirty().IsMarked(BlockIndex(0xff)));
}

TEST_F(AcpiTablesTest, MoreVcpusThanFitAreRefused) {
  PlatformDescription platform = MakePlatform(4000, 64 * kMiB);
  const auto memory = GuestMemory::Create(platform.memory, MemoryBacking::kAnonymous).value();
  const Result<AcpiPlacement> result = WriteAcpiTables(*memory, platform);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), ErrorCode::kNoSpace);
}

}  // namespace
}  // namespace pacsvisor
