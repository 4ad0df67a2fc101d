// The constants, limits and names of files of FORMAT.md. Threads: any.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "vmm/base/align.h"
#include "vmm/store/seal.h"
#include "vmm/store/sha256.h"
#include "vmm/store/snapshot_id.h"

namespace pacsvisor {

inline constexpr uint32_t kStoreVersion = 1;
inline constexpr uint32_t kStoreBlockBytes = 4096;

inline constexpr std::string_view kHeaderPath = "pacsvisor-store";
inline constexpr std::string_view kLockPath = "lock";
inline constexpr std::string_view kFloorPath = "floor";
inline constexpr std::string_view kWritingPath = "tmp/writing";
inline constexpr std::string_view kStoreKeyPath = "keys/store";

// Limits: of hostile input as well as of what is written.
inline constexpr uint32_t kMaxSpaces = 64;
inline constexpr uint32_t kMaxTables = 64;
inline constexpr uint32_t kMaxTexts = 256;
inline constexpr uint32_t kMaxFigures = 1024;
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxMessageBytes = 64 * kKiB;
inline constexpr size_t kMaxTextBytes = 4 * kMiB;
inline constexpr uint64_t kMaxRootBytes = 16 * kMiB;
inline constexpr uint64_t kMaxStateBytes = kGiB;
inline constexpr uint64_t kMaxSpaceBytes = uint64_t{1} << 60;
inline constexpr uint32_t kMaxChunkOffset = 1u << 31;
inline constexpr size_t kMaxPageBytes = 64 * kKiB;
inline constexpr size_t kMaxStoredPageBytes = PaddedSealBytes(kMaxPageBytes);
inline constexpr size_t kMaxStoredChunkBytes = kStoreBlockBytes + kSealBytes;
inline constexpr unsigned kMaxTableLevel = 7;

inline constexpr std::string_view kTableMagic = "PVTABLE1";  // ends a table
inline constexpr size_t kTableFooterBytes = 16;

// Where a block is in a table's order: space number and block.
inline constexpr unsigned kKeyBlockBits = 52;
inline constexpr uint64_t kKeyLimit = uint64_t{kMaxSpaces} << kKeyBlockBits;
constexpr uint64_t TableKey(uint32_t space_number, uint64_t block) {
  return (uint64_t{space_number} << kKeyBlockBits) + block;
}
constexpr uint32_t KeySpace(uint64_t key) { return static_cast<uint32_t>(key >> kKeyBlockBits); }
constexpr uint64_t KeyBlock(uint64_t key) { return key & ((uint64_t{1} << kKeyBlockBits) - 1); }

inline std::string PackPath(uint32_t number) { return fmt::format("packs/{:08x}.pack", number); }
inline std::string ObjectPath(const Hash& name) {
  const std::string hex = HexText(name);
  return fmt::format("objects/{}/{}", hex.substr(0, 2), hex);
}
inline std::string SnapshotPath(const SnapshotId& id) {
  return fmt::format("snapshots/{}.snapshot", id.Hex());
}

inline std::string SnapshotKeyPath(const SnapshotId& id) { return "keys/" + id.Hex(); }

// The number of a file of packs/; nothing for other names.
std::optional<uint32_t> PackNumber(std::string_view file_name);
// The id of a file of snapshots/; nothing for other names.
std::optional<SnapshotId> SnapshotOfFile(std::string_view file_name);

}  // namespace pacsvisor
