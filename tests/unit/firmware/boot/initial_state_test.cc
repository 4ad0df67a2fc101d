// Page tables and descriptors read back as a CPU reads them.
#include "firmware/boot/initial_state.h"

#include <gtest/gtest.h>

#include "tests/unit/firmware/boot/boot_fixture.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

class InitialStateTest : public BootFixture {
 protected:
  uint64_t Entry(uint64_t table, uint64_t index) const {
    return LoadLe<uint64_t>(Read(GuestAddress(table + 8 * index), 8).data());
  }
  // Intel SDM 3A, figure 4-9: where a linear address leads through 2 MiB pages.
  std::optional<uint64_t> Translate(const BootState& state, uint64_t linear) const {
    uint64_t table = state.cr3;
    for (const int shift : {39, 30, 21}) {
      const uint64_t entry = Entry(table, linear >> shift & 511);
      if ((entry & 1) == 0) {
        return std::nullopt;
      }
      if (shift == 21) {
        EXPECT_NE(entry & 0x80, 0u);
        EXPECT_NE(entry & 2, 0u);
        return (entry & 0x000f'ffff'ffe0'0000) | (linear & 0x1f'ffff);
      }
      table = entry & 0x000f'ffff'ffff'f000;
    }
    return std::nullopt;
  }
  void ExpectDescriptors(const BootState& state) const {
    for (const SegmentState& segment : {state.code, state.data, state.task}) {
      ExpectDescriptor(state, segment);
    }
  }
  // Intel SDM 3A, figure 3-8.
  void ExpectDescriptor(const BootState& state, const SegmentState& segment) const {
    const uint64_t raw = Entry(state.gdt.raw(), segment.selector / 8);
    EXPECT_LE(segment.selector + 7, state.gdt_limit_bytes);
    const uint64_t base = (raw >> 16 & 0xff'ffff) | (raw >> 56) << 24;
    const uint64_t limit = (raw & 0xffff) | (raw >> 48 & 0xf) << 16;
    EXPECT_EQ(base, segment.base);
    EXPECT_EQ((raw >> 55 & 1) != 0 ? limit << 12 | 0xfff : limit, segment.limit_bytes);
    EXPECT_EQ(raw >> 40 & 0xf, segment.type);
    EXPECT_EQ((raw >> 44 & 1) != 0, segment.code_or_data);
    EXPECT_EQ(raw >> 45 & 3, 0u);  // privilege level
    EXPECT_EQ((raw >> 47 & 1) != 0, segment.present);
    EXPECT_EQ((raw >> 53 & 1) != 0, segment.long_mode);
    EXPECT_EQ((raw >> 54 & 1) != 0, segment.default_32);
  }
};

TEST_F(InitialStateTest, LongModeMapsFourGibibytesToThemselves) {
  const BootState state = WriteLongModeState(*memory_);
  for (uint64_t linear = 0; linear < 4 * kGiB; linear += 2 * kMiB) {
    ASSERT_EQ(Translate(state, linear + 0x12345), linear + 0x12345);
  }
  EXPECT_EQ(Translate(state, 4 * kGiB), std::nullopt);
  EXPECT_EQ(Translate(state, uint64_t{1} << 39), std::nullopt);
}

TEST_F(InitialStateTest, LongModeIsOnWithPaging) {
  const BootState state = WriteLongModeState(*memory_);
  EXPECT_EQ(state.cr0 & 0x8000'0001, 0x8000'0001u);
  EXPECT_EQ(state.cr4, 0x20u);
  EXPECT_EQ(state.efer, 0x500u);
  EXPECT_EQ(state.code.selector, 0x10);  // __BOOT_CS
  EXPECT_EQ(state.data.selector, 0x18);  // __BOOT_DS
  EXPECT_TRUE(state.code.long_mode);
  EXPECT_FALSE(state.code.default_32);
}

TEST_F(InitialStateTest, ProtectedModeIsFlatWithoutPaging) {
  const BootState state = WriteProtectedModeState(*memory_);
  EXPECT_EQ(state.cr0, 0x11u);
  EXPECT_EQ(state.cr4, 0u);
  EXPECT_EQ(state.efer, 0u);
  EXPECT_FALSE(state.code.long_mode);
  EXPECT_TRUE(state.code.default_32);
  EXPECT_EQ(state.code.base, 0u);
  EXPECT_EQ(state.code.limit_bytes, 0xffff'ffffu);
  EXPECT_EQ(state.task.limit_bytes, 0x67u);
  EXPECT_EQ(state.task.type, 0xb);  // busy
}

TEST_F(InitialStateTest, DescriptorsOfLongModeAreThoseInTheRegisters) {
  ExpectDescriptors(WriteLongModeState(*memory_));
}

TEST_F(InitialStateTest, DescriptorsOfProtectedModeAreThoseInTheRegisters) {
  ExpectDescriptors(WriteProtectedModeState(*memory_));
}

}  // namespace
}  // namespace pacsvisor
