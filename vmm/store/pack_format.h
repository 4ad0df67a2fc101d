// The frame of a pack (FORMAT.md, 4): header, directory and trailer. Threads: any.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/sha256.h"
#include "vmm/store/store_format.h"
#include "vmm/store/store_header.h"

namespace pacsvisor {

inline constexpr size_t kPackHeaderBytes = 64;
inline constexpr size_t kPackTrailerBytes = 96;
inline constexpr size_t kPackNameBytes = 20;  // of a chunk's name
inline constexpr size_t kPackRecordBytes = kPackNameBytes + 2;

struct PackTrailer {
  uint64_t directory_offset = 0;
  uint32_t count = 0;
  uint32_t number = 0;
  Hash directory_hash = {};
  uint64_t body_checksum = 0;  // XXH3 of what is before the directory

  uint64_t directory_bytes() const { return uint64_t{count} * kPackRecordBytes; }
};

std::vector<uint8_t> EncodePackHeader(uint32_t number, const StoreUid& uid);
Status CheckPackHeader(std::span<const uint8_t> bytes, uint32_t number);

std::vector<uint8_t> EncodePackTrailer(const PackTrailer& trailer);
// Of any bytes, of a file of `file_bytes`; its directory is inside the file.
Result<PackTrailer> DecodePackTrailer(std::span<const uint8_t> bytes, uint64_t file_bytes);

// Where each chunk of a directory begins, and where the last one ends: count + 1 offsets. Of any
// bytes; `trailer` is of the same pack. `most_chunk_bytes`: of a chunk as the store has them.
Result<std::vector<uint32_t>> DecodePackDirectory(std::span<const uint8_t> bytes,
                                                  const PackTrailer& trailer,
                                                  size_t most_chunk_bytes = kStoreBlockBytes);

}  // namespace pacsvisor
