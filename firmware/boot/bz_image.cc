#include "firmware/boot/bz_image.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "firmware/boot/low_memory_map.h"
#include "firmware/boot/placement.h"

namespace pacsvisor {
namespace {

// Offsets in the file (boot.rst, "The Real-Mode Kernel Header").
constexpr uint64_t kSectorBytes = 512;
constexpr size_t kHeaderOffset = 0x1f1;
constexpr size_t kJumpOffset = 0x200;  // 0xeb, then the distance from 0x202 to the header's end
constexpr size_t kInitSizeEnd = 0x264;
constexpr uint16_t kFirst64BitProtocol = 0x020c;
constexpr uint64_t kEntry64Offset = 0x200;
constexpr uint8_t kDefaultSetupSectors = 4;

static_assert(offsetof(boot_params, hdr) == kHeaderOffset);
static_assert(offsetof(setup_header, header) == 0x202 - kHeaderOffset);
static_assert(offsetof(setup_header, xloadflags) == 0x236 - kHeaderOffset);
static_assert(offsetof(setup_header, pref_address) == 0x258 - kHeaderOffset);
static_assert(offsetof(setup_header, init_size) + 4 == kInitSizeEnd - kHeaderOffset);

Error Contradiction(const ImageSource& source, std::string_view what) {
  return Error::Make(ErrorCode::kCorrupt,
                     "{} is damaged: its boot header {}; copy it again from where it came from",
                     source.name(), what);
}

// Its length is in the header itself: newer kernels may have more fields, older ones fewer.
Result<setup_header> ReadHeader(const ImageSource& source) {
  std::array<uint8_t, kHeaderOffset + sizeof(setup_header)> bytes{};
  TRY(source.Read(0, bytes));
  const size_t end = kJumpOffset + 2 + bytes[kJumpOffset + 1];
  setup_header header{};
  std::memcpy(&header, &bytes[kHeaderOffset], std::min(end, bytes.size()) - kHeaderOffset);
  if (header.boot_flag != kSetupBootFlag || header.header != kSetupMagic) {
    return Error::Make(ErrorCode::kInvalidArgument, "{} is no bzImage", source.name());
  }
  const bool knows_64_bit = header.version >= kFirst64BitProtocol && end >= kInitSizeEnd &&
                            (header.xloadflags & XLF_KERNEL_64) != 0;
  if (!knows_64_bit || (header.loadflags & LOADED_HIGH) == 0) {
    return Error::Make(ErrorCode::kUnsupported,
                       "{} has no 64-bit entry (boot protocol {}.{}): use a 64-bit kernel, Linux "
                       "3.8 or newer",
                       source.name(), header.version >> 8, header.version & 0xff);
  }
  return header;
}

// boot.rst, "kernel_alignment" and "pref_address": a kernel runs from here on, even if loaded
// lower.
Result<GuestAddress> LoadAddress(const ImageSource& source, const setup_header& header) {
  const uint64_t alignment = header.kernel_alignment;
  const uint64_t preferred = header.pref_address;
  if (header.relocatable_kernel != 0 && !IsPowerOfTwo(alignment)) {
    return Contradiction(source, "has an alignment that is no power of two");
  }
  const uint64_t address =
      header.relocatable_kernel != 0 ? AlignUp(preferred, alignment) : preferred;
  if (preferred < kKernelFloor.raw() || address < preferred) {
    return Contradiction(source, "prefers an impossible address");
  }
  return GuestAddress(address);
}

}  // namespace

Result<BzImage> ParseBzImage(const ImageSource& source) {
  BzImage image{};
  image.header = TRY(ReadHeader(source));
  const setup_header& header = image.header;
  const uint64_t sectors =
      header.setup_sects == 0 ? uint64_t{kDefaultSetupSectors} : uint64_t{header.setup_sects};
  image.code_offset_bytes = (sectors + 1) * kSectorBytes;
  image.code_size_bytes = uint64_t{header.syssize} * 16;
  TRY(source.RequireSize(image.code_offset_bytes + image.code_size_bytes));
  if (image.code_size_bytes <= kEntry64Offset) {
    return Contradiction(source, "leaves no room for an entry");
  }
  if (uint64_t{header.payload_offset} + header.payload_length > image.code_size_bytes) {
    return Contradiction(source, "places its payload behind its end");
  }
  image.payload_offset_bytes = image.code_offset_bytes + header.payload_offset;
  image.payload_size_bytes = header.payload_length;
  image.load_address = TRY(LoadAddress(source, header));
  image.load_size_bytes = std::max<uint64_t>(header.init_size, image.code_size_bytes);
  return image;
}

LoadedKernel KernelFromHeader(const BzImage& image) {
  LoadedKernel kernel;
  kernel.header = image.header;
  kernel.range = {image.load_address, image.load_size_bytes};
  kernel.command_line_limit_bytes = image.header.cmdline_size;
  kernel.initrd_last_address = image.header.initrd_addr_max;
  kernel.initrd_above_4gib = (image.header.xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G) != 0;
  return kernel;
}

Result<LoadedKernel> LoadBzImage(GuestMemory& memory, const MemoryLayout& layout,
                                 const ImageSource& source, const BzImage& image) {
  LoadedKernel kernel = KernelFromHeader(image);
  kernel.description = "bzImage, unpacked by the guest";
  kernel.entry = GuestAddress(image.load_address.raw() + kEntry64Offset);
  TRY(RequireKernelFits(layout, source.name(), kernel.range));
  TRY(source.ReadIntoGuest(image.code_offset_bytes, memory,
                           {image.load_address, image.code_size_bytes}));
  return kernel;
}

}  // namespace pacsvisor
