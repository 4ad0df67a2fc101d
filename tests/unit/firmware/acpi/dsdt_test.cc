// The name space run by ACPICA's interpreter.
#include "firmware/acpi/dsdt.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/firmware/acpi/acpica.h"
#include "tests/unit/firmware/acpi/platforms.h"

namespace pacsvisor {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class DsdtTest : public testing::Test {
 protected:
  void SetUp() override { SKIP_WITHOUT_ACPICA(); }

  // What _EVT notifies when the event register reads as `pending` in each of its bytes.
  std::string NotificationsFor(int pending) const {
    return dsdt_.Execute("execute \\_SB.GED0._EVT 9", "-fv " + std::to_string(pending)).output;
  }
  // _OSC's answer for PCI's UUID.
  std::string OscFor(const std::string& revision, const std::string& control) const {
    return dsdt_
        .Execute(
            "execute \\_SB.PCI0._OSC "
            "(5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66) " +
            revision + " 3 (00 00 00 00 00 00 00 00 " + control + " 00 00 00)")
        .output;
  }

  const TableFile dsdt_{BuildDsdt(MakePlatform(3, 5 * kGiB))};
};

constexpr char kPowerButtonNotified[] = "Device Notify on [PWRB]";
constexpr char kGenerationNotified[] = "Device Notify on [VGEN]";

TEST_F(DsdtTest, EventMethodNotifiesNothingWhenNothingIsPending) {
  EXPECT_THAT(NotificationsFor(0), AllOf(HasSubstr("Evaluat"), Not(HasSubstr(kPowerButtonNotified)),
                                         Not(HasSubstr(kGenerationNotified))));
}

TEST_F(DsdtTest, EventMethodNotifiesThePowerButton) {
  EXPECT_THAT(NotificationsFor(1),
              AllOf(HasSubstr(kPowerButtonNotified), Not(HasSubstr(kGenerationNotified))));
}

TEST_F(DsdtTest, EventMethodNotifiesTheGenerationCounter) {
  EXPECT_THAT(NotificationsFor(2),
              AllOf(Not(HasSubstr(kPowerButtonNotified)), HasSubstr(kGenerationNotified)));
}

TEST_F(DsdtTest, EventMethodNotifiesBothWhenBothArePending) {
  EXPECT_THAT(NotificationsFor(3),
              AllOf(HasSubstr(kPowerButtonNotified), HasSubstr(kGenerationNotified)));
}

TEST_F(DsdtTest, OscGrantsTheCapabilityStructureAndMasksTheRest) {
  EXPECT_THAT(OscFor("1", "1F"), HasSubstr("10 00 00 00 00 00 00 00 10 00 00 00"));
}

TEST_F(DsdtTest, OscGrantsWithoutMaskWhatItOffers) {
  EXPECT_THAT(OscFor("1", "10"), HasSubstr("00 00 00 00 00 00 00 00 10 00 00 00"));
}

TEST_F(DsdtTest, OscReportsAnUnknownRevision) {
  EXPECT_THAT(OscFor("7", "10"), HasSubstr("08 00 00 00 00 00 00 00 10 00 00 00"));
}

TEST_F(DsdtTest, OscReportsAnUnknownUuid) {
  const CommandResult result = dsdt_.Execute(
      "execute \\_SB.PCI0._OSC (00 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66) 1 3 "
      "(00 00 00 00 00 00 00 00 1F 00 00 00)");
  EXPECT_THAT(result.output, HasSubstr("04 00 00 00 00 00 00 00 1F 00 00 00"));
}

TEST_F(DsdtTest, NamesThePlatform) {
  ASSERT_EQ(dsdt_.Iasl("-d table.dat").status, 0);
  const std::string text = ReadText(dsdt_.directory() / "table.dsl");
  for (const char* expected :
       {"EisaId (\"PNP0A08\")", "EisaId (\"PNP0C02\")", "EisaId (\"PNP0501\")",
        "EisaId (\"PNP0B00\")", "EisaId (\"PNP0C0C\")", "\"ACPI0013\"", "\"VM_Gen_Counter\"",
        "Name (\\_S5, Package (0x04)", "Name (_PRT, Package (0x00) {})",
        "OperationRegion (EVTR, SystemIO, 0x0604, 0x04)"}) {
    EXPECT_THAT(text, HasSubstr(expected));
  }
}

TEST_F(DsdtTest, ReservesTheWholeEcamWindow) {
  const std::string resources = dsdt_.Execute("resources \\_SB.MBRD").output;
  EXPECT_THAT(resources, AllOf(HasSubstr(fmt::format("Address : {:08X}", kEcamStart.raw())),
                               HasSubstr(fmt::format("Length : {:08X}", kEcamSizeBytes))))
      << resources;
}

TEST_F(DsdtTest, HandsTheWindowsToTheRootBridge) {
  const std::string resources = dsdt_.Execute("resources \\_SB.PCI0").output;
  for (const char* bound : {"C0000000", "DFFFFFFF", "0000000180000000", "000000117FFFFFFF"}) {
    EXPECT_THAT(resources, HasSubstr(bound));
  }
}

TEST_F(DsdtTest, HasOneProcessorForEachVcpu) {
  ASSERT_EQ(dsdt_.Iasl("-d table.dat").status, 0);
  const std::string text = ReadText(dsdt_.directory() / "table.dsl");
  for (const char* device : {"Device (C000)", "Device (C001)", "Device (C002)"}) {
    EXPECT_THAT(text, HasSubstr(device));
  }
  EXPECT_THAT(text, Not(HasSubstr("Device (C003)")));
}

}  // namespace
}  // namespace pacsvisor
