// The frame of an export (FORMAT.md, 13). Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/sha256.h"
#include "vmm/store/snapshot_id.h"
#include "vmm/store/store_header.h"

namespace pacsvisor {

inline constexpr size_t kExportHeaderBytes = 64;
inline constexpr size_t kExportTrailerBytes = 48;
inline constexpr uint32_t kMostExportHolds = 4096;

// Behind the header of an encrypted store's export: the store's key check, the files keys/store and
// keys/ID.
inline constexpr size_t kExportKeyBytes =
    kKeyCheckBytes + kStoreKeyFileBytes + kSnapshotKeyFileBytes;

struct ExportHeader {
  SnapshotId id;
  uint32_t root_bytes = 0;
  StoreCipher cipher = StoreCipher::kNone;
};

std::vector<uint8_t> EncodeExportHeader(const ExportHeader& header);
// Of any bytes. kUnsupported: of a newer version, or another block size or cipher.
Result<ExportHeader> DecodeExportHeader(std::span<const uint8_t> bytes);

struct ExportTrailer {
  uint64_t chunks = 0;
  Hash hash = {};  // of everything before the trailer
};

std::vector<uint8_t> EncodeExportTrailer(const ExportTrailer& trailer);
Result<ExportTrailer> DecodeExportTrailer(std::span<const uint8_t> bytes);

}  // namespace pacsvisor
