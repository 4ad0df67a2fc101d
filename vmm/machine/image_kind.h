// Files that are given as a disk by mistake: images of other programs' formats, and packed ones.
// For the user's sake only; nothing is ever read by a format that a guest could have written.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace pacsvisor {

struct ForeignImage {
  std::string_view name;    // "a qcow2 image"
  std::string_view maker;   // the command that makes a raw image of it: MAKER FILE
  std::string_view format;  // by qemu-img's name; empty: a packed file, which it cannot read
};

inline constexpr size_t kImageHeadBytes = 512;

// By the first kImageHeadBytes of a file (or all of a shorter one).
std::optional<ForeignImage> KindOfForeignImage(std::span<const uint8_t> head);
// The command line that makes a raw image of `path`.
std::string UnpackCommand(const ForeignImage& image, const std::string& path);

}  // namespace pacsvisor
