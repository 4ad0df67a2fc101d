#include "firmware/boot/file_kind.h"

#include <elf.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

using std::string_view_literals::operator""sv;

struct Magic {
  FileKind kind;
  size_t offset;
  std::string_view bytes;
  std::string_view description;
};

// In this order: a bzImage also begins like a Windows program, and carries a boot sector's mark.
constexpr std::array kMagics = {
    Magic{FileKind::kBzImage, 0x202, "HdrS"sv, "a Linux bzImage"sv},
    Magic{FileKind::kGzip, 0, "\x1f\x8b"sv, "gzip-compressed data"sv},
    Magic{FileKind::kBzip2, 0, "BZh"sv, "bzip2-compressed data"sv},
    Magic{FileKind::kXz, 0, "\xfd\x37zXZ\0"sv, "xz-compressed data"sv},
    Magic{FileKind::kLzma, 0, "\x5d\0\0"sv, "lzma-compressed data"sv},
    Magic{FileKind::kLzo, 0, "\x89LZO"sv, "lzo-compressed data"sv},
    Magic{FileKind::kLz4, 0, "\x02\x21\x4c\x18"sv, "lz4-compressed data"sv},
    Magic{FileKind::kZstd, 0, "\x28\xb5\x2f\xfd"sv, "zstd-compressed data"sv},
    Magic{FileKind::kCpio, 0, "070701"sv, "a cpio archive"sv},
    Magic{FileKind::kCpio, 0, "070702"sv, "a cpio archive"sv},
    Magic{FileKind::kOther, 0, "\x04\x22\x4d\x18"sv,
          "lz4-compressed data in the frame format (Linux takes the legacy one: lz4 -l)"sv},
    Magic{FileKind::kOther, 56, "ARM\x64"sv, "a Linux kernel for aarch64"sv},
    Magic{FileKind::kOther, 0, "MZ"sv, "a Windows or EFI program"sv},
    Magic{FileKind::kOther, 0, "QFI\xfb"sv, "a qcow2 disk image"sv},
    Magic{FileKind::kOther, 0, "vhdxfile"sv, "a VHDX disk image"sv},
    Magic{FileKind::kOther, 0, "!<arch>\n"sv, "a Debian package or a library archive"sv},
    Magic{FileKind::kOther, 257, "ustar"sv, "a tar archive"sv},
    Magic{FileKind::kOther, 1080, "\x53\xef"sv, "an ext2/3/4 file system"sv},
    Magic{FileKind::kOther, 510, "\x55\xaa"sv, "a disk image or boot sector"sv},
    Magic{FileKind::kOther, 0, "#!"sv, "a script"sv},
    Magic{FileKind::kOther, 0, "<"sv, "an HTML or XML text"sv},
};

bool Matches(std::span<const uint8_t> head, const Magic& magic) {
  return head.size() >= magic.offset + magic.bytes.size() &&
         std::equal(magic.bytes.begin(), magic.bytes.end(), head.begin() + magic.offset,
                    [](char c, uint8_t byte) { return static_cast<uint8_t>(c) == byte; });
}

const Magic* FindMagic(std::span<const uint8_t> head) {
  const auto* found = std::find_if(kMagics.begin(), kMagics.end(),
                                   [&](const Magic& magic) { return Matches(head, magic); });
  return found == kMagics.end() ? nullptr : found;
}

bool IsElf(std::span<const uint8_t> head) {
  constexpr std::string_view kElfMagic{ELFMAG, SELFMAG};
  return head.size() >= SELFMAG && std::equal(kElfMagic.begin(), kElfMagic.end(), head.begin());
}

std::string DescribeElf(std::span<const uint8_t> head) {
  constexpr size_t kMachineOffset = offsetof(Elf64_Ehdr, e_machine);  // the same in both classes
  static_assert(kMachineOffset == offsetof(Elf32_Ehdr, e_machine));
  if (head.size() < kMachineOffset + 2) {
    return "the beginning of an ELF";
  }
  const std::string_view bits = head[EI_CLASS] == ELFCLASS32 ? " 32-bit" : "";
  return fmt::format("a{} ELF for {}", bits.empty() ? "n" : bits,
                     ElfMachineName(LoadLe<uint16_t>(&head[kMachineOffset])));
}

}  // namespace

std::string ElfMachineName(uint16_t machine) {
  switch (machine) {
    case EM_X86_64:
      return "x86-64";
    case EM_386:
      return "i386";
    case EM_AARCH64:
      return "aarch64";
    case EM_ARM:
      return "arm";
    case EM_RISCV:
      return "riscv";
    case EM_PPC64:
      return "ppc64";
    case EM_S390:
      return "s390x";
    default:
      return fmt::format("machine number {}", machine);
  }
}

FileKind KindOfFile(std::span<const uint8_t> head) {
  if (head.empty()) {
    return FileKind::kEmpty;
  }
  if (IsElf(head)) {
    return FileKind::kElf;
  }
  const Magic* magic = FindMagic(head);
  return magic == nullptr ? FileKind::kOther : magic->kind;
}

std::string DescribeFile(std::span<const uint8_t> head) {
  if (head.empty()) {
    return "empty";
  }
  if (IsElf(head)) {
    return DescribeElf(head);
  }
  const Magic* magic = FindMagic(head);
  if (magic != nullptr) {
    return std::string(magic->description);
  }
  const bool zeroes = std::all_of(head.begin(), head.end(), [](uint8_t byte) { return byte == 0; });
  return zeroes ? "full of zeroes" : "of an unknown kind";
}

}  // namespace pacsvisor
