#include "vmm/machine/image_kind.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace pacsvisor {
namespace {

std::vector<uint8_t> Head(size_t offset, std::string_view magic) {
  std::vector<uint8_t> head(kImageHeadBytes, 0);
  std::copy(magic.begin(), magic.end(), head.begin() + static_cast<ptrdiff_t>(offset));
  return head;
}

TEST(ForeignImage, IsKnownByItsMagic) {
  EXPECT_EQ(KindOfForeignImage(Head(0, "QFI\xfb"))->name, "a qcow2 image");
  EXPECT_EQ(KindOfForeignImage(Head(0, "KDMV"))->name, "a VMDK image");
  EXPECT_EQ(KindOfForeignImage(Head(64, "\x7f\x10\xda\xbe"))->name, "a VDI image");
  EXPECT_EQ(KindOfForeignImage(Head(0, "\x28\xb5\x2f\xfd"))->name, "packed by zstd");
  EXPECT_EQ(KindOfForeignImage(Head(0, std::string_view("\xfd\x37zXZ\0", 6)))->name,
            "packed by xz");
}

TEST(ForeignImage, IsNamedAsQemuImgNamesIt) {
  EXPECT_EQ(KindOfForeignImage(Head(0, "vhdxfile"))->format, "vhdx");
  EXPECT_EQ(KindOfForeignImage(Head(0, "conectix"))->format, "vpc");
  EXPECT_EQ(KindOfForeignImage(Head(0, "# Disk DescriptorFile"))->format, "vmdk");
  EXPECT_EQ(KindOfForeignImage(Head(0, "\x1f\x8b\x08"))->format, "");
}

TEST(ForeignImage, IsNoDiskOfAGuest) {
  EXPECT_FALSE(KindOfForeignImage({}));
  EXPECT_FALSE(KindOfForeignImage(Head(510, "\x55\xaa")));
  EXPECT_FALSE(KindOfForeignImage(Head(4, "QFI\xfb")));
  const std::vector<uint8_t> cut = {'Q', 'F', 'I'};
  EXPECT_FALSE(KindOfForeignImage(cut));
}

TEST(ForeignImage, ComesWithTheCommandThatHelps) {
  EXPECT_EQ(UnpackCommand(*KindOfForeignImage(Head(0, "QFI\xfb")), "a b"),
            "qemu-img convert -O raw 'a b' 'a b.raw'");
  EXPECT_EQ(UnpackCommand(*KindOfForeignImage(Head(0, "\x1f\x8b\x08")), "a.gz"),
            "gzip -dc 'a.gz' >'a.gz.raw'");
}

}  // namespace
}  // namespace pacsvisor
