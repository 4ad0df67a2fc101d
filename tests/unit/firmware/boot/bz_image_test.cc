#include "firmware/boot/bz_image.h"

#include <gtest/gtest.h>

#include "tests/unit/firmware/boot/boot_fixture.h"

namespace pacsvisor {
namespace {

class BzImageTest : public BootFixture {};

TEST_F(BzImageTest, IsEnteredInLongModeBehindTheFirstHalfKilobyte) {
  const BootState state = Load(MakeBzImage({})).value();
  EXPECT_EQ(state.mode, CpuMode::kLong64);
  EXPECT_EQ(state.entry, GuestAddress(0x100'0200));
  EXPECT_EQ(state.rsi, 0x8000u);
  EXPECT_EQ(state.kernel_range, (GuestRange{GuestAddress(0x100'0000), 0x40'0000}));
}

TEST_F(BzImageTest, CodeLiesWholeAtItsAddress) {
  const ImageBytes image = MakeBzImage({});
  ASSERT_TRUE(Load(image).ok());
  const ImageBytes code(image.begin() + kBzCodeOffset, image.end());
  EXPECT_EQ(Read(GuestAddress(0x100'0000), code.size()), code);
}

TEST_F(BzImageTest, BootParamsCarryHeaderTablesAndMap) {
  source_.command_line = "console=ttyS0 quiet";
  ASSERT_TRUE(Load(MakeBzImage({})).ok());
  const boot_params params = Params();
  EXPECT_EQ(params.hdr.version, 0x020f);
  EXPECT_EQ(params.hdr.init_size, 0x40'0000u);
  EXPECT_EQ(params.hdr.type_of_loader, 0xff);
  EXPECT_EQ(params.acpi_rsdp_addr, acpi_.rsdp.raw());
  EXPECT_EQ(params.sentinel, 0);
  EXPECT_EQ(TextAt(GuestAddress(params.hdr.cmd_line_ptr)), "console=ttyS0 quiet");
  const std::vector<E820Entry> map = BuildE820(platform_.memory, acpi_);
  ASSERT_EQ(params.e820_entries, map.size());
  for (size_t i = 0; i < map.size(); ++i) {
    EXPECT_EQ(params.e820_table[i].addr, map[i].start.raw());
    EXPECT_EQ(params.e820_table[i].size, map[i].size_bytes);
    EXPECT_EQ(params.e820_table[i].type, static_cast<uint32_t>(map[i].type));
  }
}

TEST_F(BzImageTest, AHeaderShorterThanOursIsCopiedOnlyToItsEnd) {
  BzImageSpec spec;
  spec.header.jump = 0x62eb;  // up to 0x264: no handover_offset
  spec.header.handover_offset = 0x1234'5678;
  ASSERT_TRUE(Load(MakeBzImage(spec)).ok());
  EXPECT_EQ(Params().hdr.handover_offset, 0u);
}

TEST_F(BzImageTest, ARelocatableKernelRunsAtAnAlignedAddress) {
  BzImageSpec spec;
  spec.header.pref_address = 0x100'1000;
  EXPECT_EQ(Load(MakeBzImage(spec)).value().entry, GuestAddress(0x120'0200));
}

TEST_F(BzImageTest, AFixedKernelRunsAtItsPreferredAddress) {
  BzImageSpec spec;
  spec.header.relocatable_kernel = 0;
  spec.header.kernel_alignment = 3;
  spec.header.pref_address = 0x100'1000;
  EXPECT_EQ(Load(MakeBzImage(spec)).value().entry, GuestAddress(0x100'1200));
}

TEST_F(BzImageTest, FourSetupSectorsAreMeantByZero) {
  BzImageSpec spec;
  spec.header.setup_sects = 0;
  ImageBytes image = MakeBzImage(spec);
  image.insert(image.begin() + kBzCodeOffset, 3 * 512, 0xaa);
  ASSERT_TRUE(Load(image).ok());
  EXPECT_EQ(Read(GuestAddress(0x100'0000), 1)[0], static_cast<uint8_t>(kBzCodeOffset * 7));
}

TEST_F(BzImageTest, CutAnywhereIsRefusedWithAWord) {
  const ImageBytes image = MakeBzImage({});
  for (size_t size = 0; size < image.size(); ++size) {
    const Result<BootState> result = Load(ImageBytes(image.begin(), image.begin() + size));
    ASSERT_FALSE(result.ok()) << size;
    ASSERT_NE(result.error().message().find("kernel"), std::string::npos);
  }
}

TEST_F(BzImageTest, ACutOneSaysHowMuchIsThere) {
  ImageBytes image = MakeBzImage({});
  const std::string all = std::to_string(image.size());
  image.resize(1500);
  ExpectError(Load(image), ErrorCode::kCorrupt, "ends after 1500 of " + all + " bytes");
}

TEST_F(BzImageTest, AnEntryFor32BitsOnlyIsRefused) {
  BzImageSpec spec;
  spec.header.xloadflags = 0;
  ExpectError(Load(MakeBzImage(spec)), ErrorCode::kUnsupported, "no 64-bit entry");
}

TEST_F(BzImageTest, AnOldProtocolIsRefused) {
  BzImageSpec spec;
  spec.header.version = 0x020b;
  ExpectError(Load(MakeBzImage(spec)), ErrorCode::kUnsupported, "boot protocol 2.11");
}

TEST_F(BzImageTest, ContradictingHeadersAreRefused) {
  BzImageSpec alignment;
  alignment.header.kernel_alignment = 0x30'0000;
  ExpectError(Load(MakeBzImage(alignment)), ErrorCode::kCorrupt, "alignment");
  BzImageSpec low;
  low.header.pref_address = 0x1000;
  ExpectError(Load(MakeBzImage(low)), ErrorCode::kCorrupt, "address");
  BzImageSpec high;
  high.header.pref_address = ~uint64_t{0};
  ExpectError(Load(MakeBzImage(high)), ErrorCode::kCorrupt, "address");
  BzImageSpec payload;
  payload.header.payload_offset = 0xffff'fff0;
  payload.header.payload_length = 0xffff'fff0;
  ExpectError(Load(MakeBzImage(payload)), ErrorCode::kCorrupt, "payload");
}

TEST_F(BzImageTest, ASmallMachineIsToldHowMuchIsNeeded) {
  Resize(18 * kMiB);  // from 16 MiB on the kernel wants 4
  ExpectError(Load(MakeBzImage({})), ErrorCode::kNoSpace, "20 MiB");
}

TEST_F(BzImageTest, AKernelThatNoMachineHoldsIsRefused) {
  BzImageSpec spec;
  spec.header.init_size = 0xffff'ffff;
  ExpectError(Load(MakeBzImage(spec)), ErrorCode::kUnsupported, "wants");
}

TEST_F(BzImageTest, ACommandLineMayFillTheKernelsLimitAndNoMore) {
  BzImageSpec spec;
  spec.header.cmdline_size = 10;
  source_.command_line = "0123456789";
  EXPECT_TRUE(Load(MakeBzImage(spec)).ok());
  source_.command_line += "x";
  ExpectError(Load(MakeBzImage(spec)), ErrorCode::kInvalidArgument, "takes 10");
}

TEST_F(BzImageTest, ALimitWithoutEndDoesNotLeadOutOfItsArea) {
  BzImageSpec spec;
  spec.header.cmdline_size = 0xffff'ffff;
  source_.command_line.assign(0x1'0000 - 1, 'x');
  EXPECT_TRUE(Load(MakeBzImage(spec)).ok());
  source_.command_line += "x";
  EXPECT_FALSE(Load(MakeBzImage(spec)).ok());
}

}  // namespace
}  // namespace pacsvisor
