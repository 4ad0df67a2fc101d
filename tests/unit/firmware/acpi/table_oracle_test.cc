// Each table against ACPICA: disassembled without a complaint, compiled again without one, and then
// the same bytes as ours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "firmware/acpi/dsdt.h"
#include "firmware/acpi/fixed_tables.h"
#include "firmware/acpi/table.h"
#include "tests/unit/firmware/acpi/acpica.h"
#include "tests/unit/firmware/acpi/platforms.h"

namespace pacsvisor {
namespace {

using testing::HasSubstr;

struct OracleCase {
  std::string name;
  PlatformDescription platform;
};

std::vector<OracleCase> Cases() {
  PlatformDescription wide = MakePlatform(2, 4 * kGiB);
  wide.apic_ids = {0, 300};
  PlatformDescription moved = MakePlatform(4, 128 * kMiB);
  moved.com1_gsi = Gsi(20);
  moved.ged_gsi = Gsi(23);
  moved.ecam.size_bytes = 16 * kMiB;
  moved.vmgenid = GuestAddress(0x12'3456'7000);
  return {{"OneVcpuSmallestMemory", MakePlatform(1, 2 * kMiB)},
          {"SixteenVcpus5GiB", MakePlatform(16, 5 * kGiB)},
          {"X2Apic", wide},
          {"OtherNumbers", moved}};
}

// The compiler puts its own name and version over the creator's, which changes the checksum too.
std::string WithoutCreator(std::string table) {
  constexpr size_t kChecksum = 9;
  constexpr size_t kCreator = 28;
  table.at(kChecksum) = 0;
  std::fill(table.begin() + kCreator, table.begin() + kAcpiHeaderBytes, '\0');
  return table;
}

void ExpectOracleAgrees(const std::vector<uint8_t>& table) {
  const TableFile file(table);
  const CommandResult disassembled = file.Iasl("-d table.dat");
  EXPECT_EQ(disassembled.status, 0) << disassembled.output;
  for (const char* complaint : {"Warning", "Error", "error", "Remark", "nvalid"}) {
    EXPECT_THAT(disassembled.output, Not(HasSubstr(complaint)));
  }
  // -oa: no optimisation, the terms as they stand. 2095: that _PRT is empty is meant.
  const CommandResult compiled = file.Iasl("-oa -vw 2095 -p again table.dsl");
  EXPECT_EQ(compiled.status, 0) << compiled.output;
  EXPECT_THAT(compiled.output, HasSubstr("0 Errors, 0 Warnings, 0 Remarks"));
  EXPECT_EQ(WithoutCreator(ReadText(file.directory() / "again.aml")),
            WithoutCreator(std::string(table.begin(), table.end())));
}

class TableOracleTest : public testing::TestWithParam<OracleCase> {
 protected:
  void SetUp() override { SKIP_WITHOUT_ACPICA(); }
};

TEST_P(TableOracleTest, DsdtReadsAndCompilesToTheSameBytes) {
  ExpectOracleAgrees(BuildDsdt(GetParam().platform));
}

TEST_P(TableOracleTest, FadtReadsAndCompilesToTheSameBytes) {
  ExpectOracleAgrees(BuildFadt(GetParam().platform, GuestAddress(0xe'0040)));
}

TEST_P(TableOracleTest, MadtReadsAndCompilesToTheSameBytes) {
  ExpectOracleAgrees(BuildMadt(GetParam().platform));
}

TEST_P(TableOracleTest, McfgReadsAndCompilesToTheSameBytes) {
  ExpectOracleAgrees(BuildMcfg(GetParam().platform));
}

TEST_P(TableOracleTest, XsdtReadsAndCompilesToTheSameBytes) {
  const GuestAddress tables[] = {GuestAddress(0xe'0100), GuestAddress(0xe'0200)};
  ExpectOracleAgrees(BuildXsdt(tables));
}

INSTANTIATE_TEST_SUITE_P(Platforms, TableOracleTest, testing::ValuesIn(Cases()),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace pacsvisor
