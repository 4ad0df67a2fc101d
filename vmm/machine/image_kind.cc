#include "vmm/machine/image_kind.h"

#include <fmt/format.h>

#include <algorithm>

namespace pacsvisor {
namespace {

constexpr std::string_view kConvert = "qemu-img convert -O raw";

struct Magic {
  size_t offset = 0;
  std::string_view bytes;
  ForeignImage image;
};

constexpr Magic kMagics[] = {
    {0, "QFI\xfb", {"a qcow2 image", kConvert, "qcow2"}},
    {0, "KDMV", {"a VMDK image", kConvert, "vmdk"}},
    {0, "# Disk DescriptorFile", {"a VMDK description", kConvert, "vmdk"}},
    {0, "vhdxfile", {"a VHDX image", kConvert, "vhdx"}},
    {0, "conectix", {"a VHD image", kConvert, "vpc"}},
    {64, "\x7f\x10\xda\xbe", {"a VDI image", kConvert, "vdi"}},
    {0, "\x1f\x8b\x08", {"packed by gzip", "gzip -dc", ""}},
    {0, std::string_view("\xfd\x37zXZ\0", 6), {"packed by xz", "xz -dc", ""}},
    {0, "\x28\xb5\x2f\xfd", {"packed by zstd", "zstd -dc", ""}},
};

}  // namespace

std::optional<ForeignImage> KindOfForeignImage(std::span<const uint8_t> head) {
  for (const Magic& magic : kMagics) {
    if (head.size() < magic.offset + magic.bytes.size()) {
      continue;
    }
    const auto same = [](char character, uint8_t byte) {
      return static_cast<uint8_t>(character) == byte;
    };
    if (std::equal(magic.bytes.begin(), magic.bytes.end(),
                   head.begin() + static_cast<ptrdiff_t>(magic.offset), same)) {
      return magic.image;
    }
  }
  return std::nullopt;
}

std::string UnpackCommand(const ForeignImage& image, const std::string& path) {
  return image.maker == kConvert ? fmt::format("{} '{}' '{}.raw'", kConvert, path, path)
                                 : fmt::format("{} '{}' >'{}.raw'", image.maker, path, path);
}

}  // namespace pacsvisor
