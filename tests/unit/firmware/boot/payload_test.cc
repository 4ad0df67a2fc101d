#include "firmware/boot/payload.h"

#include <gtest/gtest.h>
#include <lz4hc.h>
#include <zstd.h>

#include "tests/unit/firmware/boot/boot_fixture.h"

namespace pacsvisor {
namespace {

void AppendSize(ImageBytes& packed, size_t size) {
  const auto size32 = static_cast<uint32_t>(size);
  PutObject(packed, packed.size(), size32);
}

// As the kernel's build makes them.
ImageBytes ZstdWithSize(const ImageBytes& content) {
  ImageBytes packed(ZSTD_compressBound(content.size()));
  packed.resize(ZSTD_compress(packed.data(), packed.size(), content.data(), content.size(), 3));
  AppendSize(packed, content.size());
  return packed;
}

ImageBytes Lz4WithSize(const ImageBytes& content) {
  ImageBytes packed = {0x02, 0x21, 0x4c, 0x18};
  for (size_t at = 0; at < content.size(); at += 8 * kMiB) {
    const size_t size = std::min<size_t>(8 * kMiB, content.size() - at);
    std::vector<char> block(static_cast<size_t>(LZ4_compressBound(static_cast<int>(size))));
    const int block_size =
        LZ4_compress_HC(reinterpret_cast<const char*>(&content[at]), block.data(),
                        static_cast<int>(size), static_cast<int>(block.size()), LZ4HC_CLEVEL_MIN);
    PutObject(packed, packed.size(), static_cast<uint32_t>(block_size));
    Put(packed, packed.size(), block.data(), static_cast<size_t>(block_size));
  }
  AppendSize(packed, content.size());
  return packed;
}

// A kernel proper at the address that the bzImage prefers, larger than one lz4 block.
ImageBytes MakeInnerKernel() {
  ElfSpec spec;
  spec.header.e_entry = 0x100'0040;
  ImageBytes text(9 * kMiB, 0x90);
  for (size_t i = 0; i < text.size(); i += 61) {
    text[i] = static_cast<uint8_t>(i);
  }
  spec.segments = {{0x100'0000, text, text.size()}, {0x200'0000, ImageBytes(100, 0xd4), 20'000}};
  spec.notes = MakePvhNotes(0x100'0100);
  return MakeElf(spec);
}

class PayloadTest : public BootFixture {
 protected:
  PayloadTest() { source_.unpacking = KernelUnpacking::kByHost; }

  Result<BootState> LoadPacked(ImageBytes payload) {
    BzImageSpec spec;
    spec.payload = std::move(payload);
    spec.header.init_size = 0x200'0000;
    return Load(MakeBzImage(spec));
  }
  void ExpectUnpacked(const Result<BootState>& result) {
    ASSERT_TRUE(result.ok()) << result.error().message();
    EXPECT_EQ(result->kernel, "bzImage, unpacked by the host");
    EXPECT_EQ(result->entry, GuestAddress(0x100'0040));
    EXPECT_EQ(result->mode, CpuMode::kLong64);
    EXPECT_EQ(Params().hdr.init_size, 0x200'0000u);  // the bzImage's header comes along
    const ImageBytes elf = MakeInnerKernel();
    const size_t text_offset = sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr);
    EXPECT_TRUE(std::equal(elf.begin() + text_offset, elf.begin() + text_offset + 9 * kMiB,
                           Read(GuestAddress(0x100'0000), 9 * kMiB).begin()));
    EXPECT_EQ(Read(GuestAddress(0x200'0000), 100), ImageBytes(100, 0xd4));
  }
};

TEST_F(PayloadTest, ZstdIsUnpackedAndEnteredByLinuxsOwnEntry) {
  ExpectUnpacked(LoadPacked(ZstdWithSize(MakeInnerKernel())));
}

TEST_F(PayloadTest, Lz4OfSeveralBlocksIsUnpacked) {
  ExpectUnpacked(LoadPacked(Lz4WithSize(MakeInnerKernel())));
}

TEST_F(PayloadTest, OtherCompressionsAreLeftToTheGuest) {
  for (const char* magic : {"\x1f\x8b......", "BZh.....",
                            "\xfd"
                            "7zXZ...",
                            "plain..."}) {
    const BootState state = LoadPacked(TextBytes(magic)).value();
    EXPECT_EQ(state.kernel, "bzImage, unpacked by the guest");
  }
}

TEST_F(PayloadTest, UnpackingIsTheGuestsUnlessAskedFor) {
  source_.unpacking = KernelUnpacking::kByGuest;
  EXPECT_EQ(LoadPacked(ZstdWithSize(MakeInnerKernel())).value().kernel,
            "bzImage, unpacked by the guest");
}

TEST_F(PayloadTest, ADamagedStreamIsRefused) {
  for (ImageBytes packed : {ZstdWithSize(MakeInnerKernel()), Lz4WithSize(MakeInnerKernel())}) {
    for (size_t i = 0; i < 64; ++i) {
      packed[8 + i] ^= 0x5a;
    }
    ExpectError(LoadPacked(packed), ErrorCode::kCorrupt, "damaged");
  }
}

TEST_F(PayloadTest, AWrongSizeIsRefused) {
  const ImageBytes inner = MakeInnerKernel();
  for (const ImageBytes& good : {ZstdWithSize(inner), Lz4WithSize(inner)}) {
    for (const size_t size : {size_t{0}, inner.size() - 1, inner.size() + 1}) {
      ImageBytes packed(good.begin(), good.end() - 4);
      AppendSize(packed, size);
      EXPECT_FALSE(LoadPacked(packed).ok()) << size;
    }
  }
}

TEST_F(PayloadTest, MoreThanTheMachinesMemoryIsNotUnpacked) {
  ImageBytes packed = ZstdWithSize(MakeInnerKernel());
  packed.resize(packed.size() - 4);
  AppendSize(packed, 0xffff'ffff);
  ExpectError(LoadPacked(packed), ErrorCode::kNoSpace, "4096 MiB");
}

TEST_F(PayloadTest, AShortStreamIsRefused) {
  for (const ImageBytes& good : {ZstdWithSize({1, 2, 3}), Lz4WithSize({1, 2, 3})}) {
    for (size_t size = 4; size < good.size(); ++size) {
      ImageBytes cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
      EXPECT_FALSE(LoadPacked(cut).ok()) << size;
    }
  }
}

TEST_F(PayloadTest, APayloadThatIsNoKernelIsNamed) {
  ExpectError(LoadPacked(ZstdWithSize(TextBytes("#!/bin/sh\necho no kernel at all\n"))),
              ErrorCode::kInvalidArgument, "a script");
}

}  // namespace
}  // namespace pacsvisor
