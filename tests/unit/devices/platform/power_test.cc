// Power-off, reset, events and the generation identifier.
#include <gtest/gtest.h>

#include "devices/platform/acpi_registers.h"
#include "devices/platform/reset_port.h"
#include "devices/platform/vm_generation_id.h"
#include "tests/support/counting_line.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

class AcpiRegistersTest : public testing::Test {
 protected:
  AcpiRegisters::Actions Actions() {
    return {[this] { ++power_offs_; }, [this] { ++resets_; }};
  }
  void Write(uint64_t offset, uint8_t value) {
    const uint8_t data[] = {value};
    acpi_.Write(offset, data);
  }
  static uint32_t Events(AcpiRegisters& acpi) {
    uint8_t data[4];
    acpi.Read(AcpiRegisters::kEventOffset, data);
    return LoadLe<uint32_t>(data);
  }

  int power_offs_ = 0;
  int resets_ = 0;
  CountingLine line_;
  AcpiRegisters acpi_{Actions(), line_};
};

TEST_F(AcpiRegistersTest, OnlySleepTypeFiveWithTheEnableBitPowersOff) {
  for (int value = 0; value < 256; ++value) {
    power_offs_ = 0;
    Write(0, static_cast<uint8_t>(value));
    EXPECT_EQ(power_offs_, (value & 0x3c) == 0x34 ? 1 : 0) << value;
  }
  EXPECT_EQ(resets_, 0);
}

TEST_F(AcpiRegistersTest, OnlyTheResetValueResets) {
  for (int value = 0; value < 256; ++value) {
    resets_ = 0;
    Write(1, static_cast<uint8_t>(value));
    EXPECT_EQ(resets_, value == 1 ? 1 : 0) << value;
  }
  EXPECT_EQ(power_offs_, 0);
}

TEST_F(AcpiRegistersTest, EventsInterruptAndAReadClearsThem) {
  acpi_.PressPowerButton();
  acpi_.VmGenerationChanged();
  EXPECT_EQ(line_.count(), 2u);
  EXPECT_EQ(Events(acpi_), 3u);
  EXPECT_EQ(Events(acpi_), 0u);
}

TEST_F(AcpiRegistersTest, ANarrowReadClearsWhatItReads) {
  acpi_.PressPowerButton();
  uint8_t byte[1];
  acpi_.Read(5, byte);
  EXPECT_EQ(Events(acpi_), 1u);
  acpi_.PressPowerButton();
  acpi_.Read(4, byte);
  EXPECT_EQ(byte[0], 1);
  EXPECT_EQ(Events(acpi_), 0u);
}

TEST_F(AcpiRegistersTest, AButtonPressedWhilePausedInterruptsAtResume) {
  acpi_.Pause();
  acpi_.PressPowerButton();
  EXPECT_EQ(line_.count(), 0u);
  acpi_.Resume();
  EXPECT_EQ(line_.count(), 1u);
}

TEST_F(AcpiRegistersTest, PendingEventsSurviveARestore) {
  acpi_.PressPowerButton();
  StateNode node;
  acpi_.Save(node);
  CountingLine line;
  AcpiRegisters twin(Actions(), line);
  ASSERT_TRUE(twin.Load(node).ok());
  EXPECT_EQ(line.count(), 0u);
  twin.Resume();
  EXPECT_EQ(line.count(), 1u);
  EXPECT_EQ(Events(twin), 1u);
}

TEST_F(AcpiRegistersTest, EveryAccessIsHarmless) {
  for (const size_t size : {1u, 2u, 4u, 8u}) {
    for (uint64_t offset = 0; offset + size <= AcpiRegisters::kSizeBytes; ++offset) {
      std::vector<uint8_t> data(size, 0xff);
      acpi_.Write(offset, data);
      acpi_.Read(offset, data);
    }
  }
  EXPECT_EQ(power_offs_ + resets_, 0);
}

class ResetPortTest : public testing::Test {
 protected:
  static void Write(ResetPort& port, uint8_t value) {
    const uint8_t data[] = {value};
    port.Write(0, data);
  }
  static uint8_t Read(ResetPort& port) {
    uint8_t data[1];
    port.Read(0, data);
    return data[0];
  }

  int resets_ = 0;
  ResetPort keyboard_{ResetPort::Kind::kKeyboardCommand, [this] { ++resets_; }};
  ResetPort control_{ResetPort::Kind::kResetControl, [this] { ++resets_; }};
};

TEST_F(ResetPortTest, OnlyThePulseCommandResets) {
  for (int value = 0; value < 256; ++value) {
    Write(keyboard_, static_cast<uint8_t>(value));
  }
  EXPECT_EQ(resets_, 1);
}

TEST_F(ResetPortTest, ADriverThatLooksForAControllerFindsNone) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Read(keyboard_), 0xff);
  }
}

TEST_F(ResetPortTest, AKernelAboutToResetDoesNotWaitLong) {
  int reads = 1;
  while ((Read(keyboard_) & 2) != 0) {
    ASSERT_LT(++reads, 200);
  }
  Write(keyboard_, 0xfe);
  EXPECT_EQ(resets_, 1);
}

TEST_F(ResetPortTest, TheResetControlRegisterKeepsItsKindAndResetsByBitTwo) {
  Write(control_, 0x02);
  EXPECT_EQ(Read(control_), 0x02);
  EXPECT_EQ(resets_, 0);
  Write(control_, 0x06);
  EXPECT_EQ(resets_, 1);
}

TEST(VmGenerationIdTest, EachValueIsNewAndMarkedDirty) {
  const auto layout = MemoryLayout::Create(2 * kMiB, 40).value();
  const auto memory = GuestMemory::Create(layout, MemoryBacking::kAnonymous).value();
  const GuestAddress address(0xff000);
  VmGenerationId id(*memory, address);
  std::array<uint8_t, 16> first{};
  std::array<uint8_t, 16> second{};
  ASSERT_TRUE(id.Renew().ok());
  ASSERT_TRUE(memory->Read(address, first));
  ASSERT_TRUE(id.Renew().ok());
  ASSERT_TRUE(memory->Read(address, second));
  EXPECT_NE(first, second);
  EXPECT_TRUE(memory->dirty().IsMarked(*memory->BlockOf(address)));
  EXPECT_FALSE(VmGenerationId(*memory, GuestAddress(4 * kMiB)).Renew().ok());
}

}  // namespace
}  // namespace pacsvisor
