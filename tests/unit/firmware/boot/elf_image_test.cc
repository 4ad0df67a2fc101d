#include "firmware/boot/elf_image.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/firmware/boot/boot_fixture.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

class ElfImageTest : public BootFixture {};

TEST_F(ElfImageTest, WithoutANoteIsEnteredInLongModeWithBootParams) {
  source_.command_line = "quiet";
  const BootState state = Load(MakeElf({})).value();
  EXPECT_EQ(state.mode, CpuMode::kLong64);
  EXPECT_EQ(state.entry, GuestAddress(0x20'0010));
  EXPECT_EQ(state.rsi, 0x8000u);
  const boot_params params = Params();
  EXPECT_EQ(params.hdr.header, 0x5372'6448u);
  EXPECT_EQ(params.hdr.boot_flag, 0xaa55);
  EXPECT_EQ(params.hdr.type_of_loader, 0xff);
  EXPECT_EQ(TextAt(GuestAddress(params.hdr.cmd_line_ptr)), "quiet");
}

TEST_F(ElfImageTest, WithXensNoteIsEnteredByPvh) {
  ElfSpec spec;
  spec.notes = MakePvhNotes(0x20'0100);
  const BootState state = Load(MakeElf(spec)).value();
  EXPECT_EQ(state.mode, CpuMode::kProtected32);
  EXPECT_EQ(state.entry, GuestAddress(0x20'0100));
  EXPECT_EQ(state.rbx, 0x9000u);
}

TEST_F(ElfImageTest, PvhStartInfoLeadsToCommandLineMapModuleAndTables) {
  ElfSpec spec;
  spec.notes = MakePvhNotes(0x20'0100);
  source_.command_line = "console=hvc0";
  const ImageBytes initrd = MakeCpio();
  const BootState state = Load(MakeElf(spec), &initrd).value();
  // xen/include/public/arch-x86/hvm/start_info.h
  const ImageBytes info = Read(GuestAddress(state.rbx), 56);
  EXPECT_EQ(LoadLe<uint32_t>(&info[0]), 0x336e'c578u);
  EXPECT_EQ(LoadLe<uint32_t>(&info[4]), 1u);
  EXPECT_EQ(TextAt(GuestAddress(LoadLe<uint64_t>(&info[24]))), "console=hvc0");
  EXPECT_EQ(LoadLe<uint64_t>(&info[32]), acpi_.rsdp.raw());
  ASSERT_EQ(LoadLe<uint32_t>(&info[12]), 1u);
  const ImageBytes module = Read(GuestAddress(LoadLe<uint64_t>(&info[16])), 32);
  EXPECT_EQ(LoadLe<uint64_t>(&module[8]), initrd.size());
  EXPECT_EQ(Read(GuestAddress(LoadLe<uint64_t>(&module[0])), initrd.size()), initrd);
  const std::vector<E820Entry> map = BuildE820(platform_.memory, acpi_);
  ASSERT_EQ(LoadLe<uint32_t>(&info[48]), map.size());
  for (size_t i = 0; i < map.size(); ++i) {
    const ImageBytes entry = Read(GuestAddress(LoadLe<uint64_t>(&info[40]) + 24 * i), 24);
    EXPECT_EQ(LoadLe<uint64_t>(&entry[0]), map[i].start.raw());
    EXPECT_EQ(LoadLe<uint64_t>(&entry[8]), map[i].size_bytes);
    EXPECT_EQ(LoadLe<uint32_t>(&entry[16]), static_cast<uint32_t>(map[i].type));
  }
}

TEST_F(ElfImageTest, SegmentsLieWhereTheyAskToAndTheirRestIsZero) {
  ASSERT_TRUE(memory_->Fill({GuestAddress(0x20'0000), 4 * kMiB}, 0xff));
  const BootState state = Load(MakeElf({})).value();
  EXPECT_EQ(Read(GuestAddress(0x20'0000), 5000), ImageBytes(5000, 0xc3));
  EXPECT_EQ(Read(GuestAddress(0x20'0000 + 5000), 1)[0], 0xff);
  EXPECT_EQ(Read(GuestAddress(0x30'0000), 100), ImageBytes(100, 0xd4));
  EXPECT_EQ(Read(GuestAddress(0x30'0000 + 100), 19'900), ImageBytes(19'900, 0));
  EXPECT_EQ(Read(GuestAddress(0x30'0000 + 20'000), 1)[0], 0xff);
  EXPECT_EQ(state.kernel_range, (GuestRange{GuestAddress(0x20'0000), 0x10'0000 + 20'000}));
}

TEST_F(ElfImageTest, CutAnywhereIsRefused) {
  ElfSpec spec;
  spec.notes = MakePvhNotes(0x20'0100);
  const ImageBytes image = MakeElf(spec);
  for (size_t size = 0; size < image.size(); ++size) {
    EXPECT_FALSE(Load(ImageBytes(image.begin(), image.begin() + size)).ok()) << size;
  }
}

TEST_F(ElfImageTest, AForeignMachineIsNamed) {
  ElfSpec spec;
  spec.header.e_machine = EM_AARCH64;
  ExpectError(Load(MakeElf(spec)), ErrorCode::kUnsupported, "an ELF for aarch64");
}

TEST_F(ElfImageTest, A32BitElfIsNamed) {
  ElfSpec spec;
  spec.header.e_ident[EI_CLASS] = ELFCLASS32;
  spec.header.e_machine = EM_386;
  ExpectError(Load(MakeElf(spec)), ErrorCode::kUnsupported, "a 32-bit ELF for i386");
}

TEST_F(ElfImageTest, AnObjectFileIsRefused) {
  ElfSpec spec;
  spec.header.e_type = ET_REL;
  ExpectError(Load(MakeElf(spec)), ErrorCode::kInvalidArgument, "object file");
}

TEST_F(ElfImageTest, AnOrdinaryProgramIsRefused) {
  ElfSpec spec;
  spec.header.e_entry = 0x40'1000;
  ExpectError(Load(MakeElf(spec)), ErrorCode::kInvalidArgument, "ordinary program");
}

TEST_F(ElfImageTest, AnEntryInTheZeroedPartIsNone) {
  ElfSpec spec;
  spec.header.e_entry = 0x30'0000 + 100;
  EXPECT_FALSE(Load(MakeElf(spec)).ok());
}

TEST_F(ElfImageTest, SegmentsOverTheFirstMegabyteOrBehindAllMemoryAreRefused) {
  ElfSpec low;
  low.segments.push_back({0x9000, ImageBytes(10, 1), 10});
  ExpectError(Load(MakeElf(low)), ErrorCode::kUnsupported, "0x9000");
  ElfSpec high;
  high.segments.push_back({~uint64_t{0} - 4, ImageBytes(10, 1), 10});
  EXPECT_FALSE(Load(MakeElf(high)).ok());
  ElfSpec large;
  large.segments.push_back({0x40'0000, ImageBytes(10, 1), ~uint64_t{0} - 0x30'0000});
  EXPECT_FALSE(Load(MakeElf(large)).ok());
}

TEST_F(ElfImageTest, ARefusedKernelLeavesMemoryAlone) {
  ElfSpec spec;
  spec.segments.push_back({0x40'0000, ImageBytes(10, 1), kGiB});
  ExpectError(Load(MakeElf(spec)), ErrorCode::kNoSpace, "1028 MiB");
  EXPECT_EQ(Read(GuestAddress(0x20'0000), 1)[0], 0);
}

TEST_F(ElfImageTest, DamagedHeadersAreRefused) {
  ElfSpec entry_size;
  entry_size.header.e_phentsize = 32;
  ExpectError(Load(MakeElf(entry_size)), ErrorCode::kCorrupt, "program headers");
  ElfSpec offset;
  offset.header.e_phoff = ~uint64_t{0} - 8;
  EXPECT_FALSE(Load(MakeElf(offset)).ok());
  ElfSpec inverted;
  inverted.segments[0].memory_bytes = 10;
  ExpectError(Load(MakeElf(inverted)), ErrorCode::kCorrupt, "larger in the file");
  ElfSpec nothing;
  nothing.segments.clear();
  ExpectError(Load(MakeElf(nothing)), ErrorCode::kCorrupt, "nothing to load");
}

TEST_F(ElfImageTest, NotesThatRunOverTheirEndAreIgnored) {
  ElfSpec spec;
  spec.notes = MakePvhNotes(0x20'0100);
  const uint32_t huge = 0xffff'fffd;
  std::memcpy(&spec.notes[4], &huge, sizeof(huge));  // the first note's value
  const BootState state = Load(MakeElf(spec)).value();
  EXPECT_EQ(state.mode, CpuMode::kLong64);
}

TEST_F(ElfImageTest, ANoteOfXensTypeWithAnotherNameIsIgnored) {
  ElfSpec spec;
  spec.notes = MakeNote(std::string_view("Foo\0", 4), 18, ImageBytes(4, 0));
  EXPECT_EQ(Load(MakeElf(spec)).value().mode, CpuMode::kLong64);
}

}  // namespace
}  // namespace pacsvisor
