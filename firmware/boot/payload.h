// Unpacking the kernel proper out of a bzImage on the host: natively, where a guest would do it
// with its page tables still cold (or, nested, in an emulated CPU).
//
// The price: the guest's own unpacker is also what moves the kernel to a random address (KASLR). A
// kernel unpacked here runs at the address it was linked for.
#pragma once

#include <memory>
#include <optional>

#include "firmware/boot/bz_image.h"
#include "firmware/boot/image_source.h"

namespace pacsvisor {

// Bytes of the host's, given back as soon as the kernel lies in guest memory.
class UnpackedKernel {
 public:
  static Result<UnpackedKernel> Allocate(size_t size_bytes);

  std::span<uint8_t> bytes() { return {data_.get(), size_bytes_}; }
  std::span<const uint8_t> bytes() const { return {data_.get(), size_bytes_}; }

 private:
  UnpackedKernel(size_t size_bytes, std::unique_ptr<uint8_t[]> data)
      : size_bytes_(size_bytes), data_(std::move(data)) {}

  size_t size_bytes_;
  std::unique_ptr<uint8_t[]> data_;
};

// The ELF inside. None when it is compressed in another way than zstd or lz4, the ones that Debian
// uses: then the guest unpacks it. Refuses to unpack more than `limit_bytes`.
Result<std::optional<UnpackedKernel>> UnpackPayload(const ImageSource& source, const BzImage& image,
                                                    uint64_t limit_bytes);

}  // namespace pacsvisor
