#include "firmware/boot/payload.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <new>
#include <utility>

#include "firmware/boot/file_kind.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

// The kernel's build appends the unpacked size to the compressed stream (scripts/Makefile.lib).
constexpr size_t kSizeBytes = 4;
// The legacy lz4 format: a magic number, then blocks of at most this much, each behind its size.
constexpr size_t kLz4MagicBytes = 4;
constexpr size_t kLz4BlockBytes = 8 * kMiB;

// All of `to` and no more; false for anything else.
bool UnpackZstd(std::span<const uint8_t> from, std::span<uint8_t> to) {
  const size_t frame_bytes = ZSTD_findFrameCompressedSize(from.data(), from.size());
  if (ZSTD_isError(frame_bytes)) {
    return false;
  }
  return ZSTD_decompress(to.data(), to.size(), from.data(), frame_bytes) == to.size();
}

bool UnpackLz4(std::span<const uint8_t> from, std::span<uint8_t> to) {
  from = from.subspan(kLz4MagicBytes);
  while (!to.empty()) {
    if (from.size() < sizeof(uint32_t)) {
      return false;
    }
    const auto block_bytes = LoadLe<uint32_t>(from.data());
    from = from.subspan(sizeof(uint32_t));
    if (block_bytes > from.size() || block_bytes > LZ4_COMPRESSBOUND(kLz4BlockBytes)) {
      return false;
    }
    const size_t room = std::min(to.size(), kLz4BlockBytes);
    // LZ4 reads and writes plain bytes; its interface says char.
    const int count = LZ4_decompress_safe(reinterpret_cast<const char*>(from.data()),
                                          reinterpret_cast<char*>(to.data()),
                                          static_cast<int>(block_bytes), static_cast<int>(room));
    if (count <= 0) {
      return false;
    }
    to = to.subspan(static_cast<size_t>(count));
    from = from.subspan(block_bytes);
  }
  return true;
}

}  // namespace

Result<UnpackedKernel> UnpackedKernel::Allocate(size_t size_bytes) {
  std::unique_ptr<uint8_t[]> data(new (std::nothrow) uint8_t[size_bytes]);
  if (data == nullptr) {
    return Error::Make(ErrorCode::kNoSpace,
                       "the host has no {} MiB of memory to unpack the kernel in",
                       size_bytes / kMiB);
  }
  return UnpackedKernel(size_bytes, std::move(data));
}

Result<std::optional<UnpackedKernel>> UnpackPayload(const ImageSource& source, const BzImage& image,
                                                    uint64_t limit_bytes) {
  std::vector<uint8_t> magic(std::min<uint64_t>(image.payload_size_bytes, 8));
  TRY(source.Read(image.payload_offset_bytes, magic));
  const FileKind kind = KindOfFile(magic);
  if (kind != FileKind::kZstd && kind != FileKind::kLz4) {
    return std::optional<UnpackedKernel>();
  }
  UnpackedKernel payload = TRY(UnpackedKernel::Allocate(image.payload_size_bytes));
  TRY(source.Read(image.payload_offset_bytes, payload.bytes()));
  const std::span<const uint8_t> bytes = payload.bytes();
  const size_t packed_bytes = bytes.size() - std::min(bytes.size(), kSizeBytes);
  const uint32_t unpacked_bytes =
      packed_bytes > kLz4MagicBytes ? LoadLe<uint32_t>(&bytes[packed_bytes]) : 0;
  if (unpacked_bytes > limit_bytes) {
    return Error::Make(ErrorCode::kNoSpace,
                       "{} unpacks to {} MiB and the machine has {} MiB of memory: give it more",
                       source.name(), DivideRoundUp<uint64_t>(unpacked_bytes, kMiB),
                       limit_bytes / kMiB);
  }
  UnpackedKernel kernel = TRY(UnpackedKernel::Allocate(unpacked_bytes));
  const std::span<const uint8_t> packed = bytes.first(packed_bytes);
  const bool whole =
      unpacked_bytes != 0 && (kind == FileKind::kZstd ? UnpackZstd(packed, kernel.bytes())
                                                      : UnpackLz4(packed, kernel.bytes()));
  if (!whole) {
    return Error::Make(
        ErrorCode::kCorrupt,
        "{} cannot be unpacked: it is damaged; copy it again from where it came from",
        source.name());
  }
  return std::optional<UnpackedKernel>(std::move(kernel));
}

}  // namespace pacsvisor
