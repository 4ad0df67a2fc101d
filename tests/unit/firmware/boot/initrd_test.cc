#include "firmware/boot/initrd.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include "tests/unit/firmware/boot/boot_fixture.h"

namespace pacsvisor {
namespace {

ImageBytes Zstd(const ImageBytes& content, bool checksum) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum ? 1 : 0);
  ImageBytes packed(ZSTD_compressBound(content.size()));
  packed.resize(
      ZSTD_compress2(context, packed.data(), packed.size(), content.data(), content.size()));
  ZSTD_freeCCtx(context);
  return packed;
}

// Several blocks, some of one repeated byte, some that do not compress.
ImageBytes MixedContent() {
  ImageBytes content(300'000, 'a');
  uint32_t random = 1;
  for (size_t i = 0; i < 200'000; ++i) {
    random = random * 1664525 + 1013904223;
    content.push_back(static_cast<uint8_t>(random >> 24));
  }
  return content;
}

ImageBytes operator+(ImageBytes left, const ImageBytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

class InitrdTest : public BootFixture {
 protected:
  Result<BootState> LoadWith(const ImageBytes& initrd) { return Load(kernel_, &initrd); }
  // Whether an initrd that lies in memory passes.
  bool Passes(const ImageBytes& initrd) {
    const GuestAddress at(0x80'0000);
    EXPECT_TRUE(memory_->Write(at, initrd));
    return CheckInitrdWhole(*memory_, {at, initrd.size()}, "initrd").ok();
  }

  const ImageBytes kernel_ = MakeBzImage({});
};

TEST_F(InitrdTest, LiesOnAPageAtTheTopOfMemory) {
  const ImageBytes initrd = MakeCpio();
  const BootState state = LoadWith(initrd).value();
  EXPECT_EQ(state.initrd_range.start, GuestAddress(64 * kMiB - 4096));
  EXPECT_EQ(state.initrd_range.size_bytes, initrd.size());
  EXPECT_EQ(Read(state.initrd_range.start, initrd.size()), initrd);
  EXPECT_EQ(Params().hdr.ramdisk_image, 64 * kMiB - 4096);
  EXPECT_EQ(Params().hdr.ramdisk_size, initrd.size());
}

TEST_F(InitrdTest, StaysBelowTheKernelsLimit) {
  BzImageSpec spec;
  spec.header.initrd_addr_max = 0x17f'ffff;
  const ImageBytes initrd = MakeCpio();
  const BootState state = Load(MakeBzImage(spec), &initrd).value();
  EXPECT_EQ(state.initrd_range.start, GuestAddress(0x180'0000 - 4096));
}

TEST_F(InitrdTest, GoesAbove4GiBWhereTheKernelAllowsItAndThereIsNoRoomBelow) {
  Resize(4 * kGiB);
  BzImageSpec spec;
  spec.header.initrd_addr_max = 0x13f'ffff;  // the kernel's own end
  const ImageBytes initrd = MakeCpio();
  const BootState state = Load(MakeBzImage(spec), &initrd).value();
  EXPECT_EQ(state.initrd_range.start, GuestAddress(5 * kGiB - 4096));
  EXPECT_EQ(Params().ext_ramdisk_image, 1u);
  EXPECT_EQ(Params().hdr.ramdisk_image, 0x3fff'f000u);
  EXPECT_EQ(Read(state.initrd_range.start, initrd.size()), initrd);
}

TEST_F(InitrdTest, AKernelThatTakesNoneThereIsRefused) {
  BzImageSpec spec;
  spec.header.xloadflags = XLF_KERNEL_64;
  spec.header.initrd_addr_max = 0x13f'ffff;
  const ImageBytes initrd = MakeCpio();
  ExpectError(Load(MakeBzImage(spec), &initrd), ErrorCode::kUnsupported, "only below 20 MiB");
}

TEST_F(InitrdTest, OneThatDoesNotFitSaysHowMuchMemoryWould) {
  Resize(24 * kMiB);  // the kernel reaches up to 20
  ImageBytes initrd = MakeCpio();
  initrd.resize(5 * kMiB);
  ExpectError(LoadWith(initrd), ErrorCode::kNoSpace, "25 MiB");
}

TEST_F(InitrdTest, OneThatJustFitsIsTaken) {
  Resize(24 * kMiB);
  ImageBytes initrd = MakeCpio();
  initrd.resize(4 * kMiB);
  EXPECT_EQ(LoadWith(initrd).value().initrd_range.start, GuestAddress(20 * kMiB));
}

TEST_F(InitrdTest, WhatIsNoInitrdIsNamed) {
  ExpectError(LoadWith({}), ErrorCode::kInvalidArgument, "empty");
  ExpectError(LoadWith(MakeElf({})), ErrorCode::kInvalidArgument, "an ELF for x86-64");
  ExpectError(LoadWith(kernel_), ErrorCode::kInvalidArgument, "a Linux bzImage");
  ExpectError(LoadWith(TextBytes("QFI\xfb....")), ErrorCode::kInvalidArgument, "qcow2");
}

TEST_F(InitrdTest, ACpioArchiveCutAnywhereIsRefused) {
  const ImageBytes archive = MakeCpio();
  ASSERT_TRUE(Passes(archive));
  // The trailer's padding may be missing.
  for (size_t size = 1; size < archive.size() - 3; ++size) {
    const ImageBytes cut(archive.begin(), archive.begin() + static_cast<ptrdiff_t>(size));
    // Less than a magic number is no archive any more: the kernel ignores it.
    EXPECT_EQ(Passes(cut), size < 6) << size;
  }
}

TEST_F(InitrdTest, AZstdStreamCutAnywhereIsRefused) {
  for (const bool checksum : {false, true}) {
    const ImageBytes stream = Zstd(MixedContent(), checksum);
    ASSERT_TRUE(Passes(stream));
    for (size_t size = 4; size < stream.size(); size += size < 100 ? 1 : 997) {
      EXPECT_FALSE(Passes({stream.begin(), stream.begin() + static_cast<ptrdiff_t>(size)})) << size;
    }
    EXPECT_FALSE(Passes({stream.begin(), stream.end() - 1}));
  }
}

TEST_F(InitrdTest, ArchivesOneBehindTheOtherAreAllLookedAt) {
  ImageBytes early = MakeCpio();
  early.resize(2048);  // as early microcode is padded
  const ImageBytes main = Zstd(MixedContent(), true);
  EXPECT_TRUE(Passes(early + main));
  EXPECT_FALSE(Passes(early + ImageBytes(main.begin(), main.end() - 1)));
}

TEST_F(InitrdTest, ACutLz4StreamIsRefused) {
  ImageBytes stream = {0x02, 0x21, 0x4c, 0x18, 100, 0, 0, 0};
  stream.resize(8 + 100, 0x55);
  EXPECT_TRUE(Passes(stream));
  stream.pop_back();
  EXPECT_FALSE(Passes(stream));
}

TEST_F(InitrdTest, StreamsThatCannotBeWalkedArePassedOn) {
  EXPECT_TRUE(Passes({0x1f, 0x8b, 8, 0}));
  EXPECT_TRUE(Passes({0xfd, '7', 'z', 'X', 'Z', 0, 0, 0}));
}

TEST_F(InitrdTest, SizesThatRunOffAreRefused) {
  ImageBytes archive = MakeCpio();
  std::fill(archive.begin() + 54, archive.begin() + 62, 'F');
  EXPECT_FALSE(Passes(archive));
  archive[54] = 'x';
  EXPECT_FALSE(Passes(archive));
}

}  // namespace
}  // namespace pacsvisor
