// What a file seems to be, by its first bytes: to choose a loader, and to tell the user who named
// the wrong one.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace pacsvisor {

enum class FileKind {
  kEmpty,
  kBzImage,
  kElf,
  kGzip,
  kBzip2,
  kLzma,
  kXz,
  kLzo,
  kLz4,
  kZstd,
  kCpio,
  kOther,  // DescribeFile may still have a name for it
};

// As many bytes as are looked at; a shorter file gives fewer.
inline constexpr size_t kFileHeadBytes = 2048;

FileKind KindOfFile(std::span<const uint8_t> head);
// Completes "this is ...": "an ELF for aarch64", "gzip-compressed data".
std::string DescribeFile(std::span<const uint8_t> head);
// "aarch64" for 183; a number for what has no name here.
std::string ElfMachineName(uint16_t machine);

}  // namespace pacsvisor
