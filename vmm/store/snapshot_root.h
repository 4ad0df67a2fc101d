// A snapshot's root (FORMAT.md, 7): what it is, and the names of everything below it.
// Threads: any.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/seal.h"
#include "vmm/store/sha256.h"
#include "vmm/store/snapshot_info.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

struct TableRef {
  Hash name = {};  // of its root page
  uint64_t file_bytes = 0;
  uint64_t entries = 0;
  std::optional<SealKey> key;  // of an encrypted store's
  friend bool operator==(const TableRef&, const TableRef&) = default;
};

struct StateRef {
  Hash name = {};  // of the object
  uint64_t file_bytes = 0;
  uint64_t plain_bytes = 0;    // 0: there is no object
  std::optional<SealKey> key;  // of an encrypted store's
};

struct SnapshotRoot {
  SnapshotInfo info;                    // its id is not part of the root's bytes
  std::vector<uint32_t> space_numbers;  // of info.spaces, in that order
  StateRef state;
  std::vector<TableRef> tables;  // newest first
  uint32_t last_pack = 0;
};

// Whether a draft keeps the format's limits; the error names what does not.
Status CheckDraft(const SnapshotDraft& draft);
// Whether spaces keep them: names, sizes, block sizes.
Status CheckSpaces(const std::vector<StoredSpace>& spaces);

// `root` keeps the limits. With the keys that it has: of an encrypted store, before it is sealed.
std::vector<uint8_t> EncodeRoot(const SnapshotRoot& root);
// Of any bytes; the result keeps the limits, its id is the bytes' hash. kUnsupported: of a newer
// version, or with a mandatory field that is unknown; kCorrupt: anything else.
// With `keys`, of an encrypted store, and unsealed.
Result<SnapshotRoot> DecodeRoot(std::span<const uint8_t> bytes, PageKeys keys = PageKeys::kNone);

// The file of an encrypted store's root: what EncodeRoot makes, sealed with the snapshot's own key.
std::vector<uint8_t> SealRoot(const SealKey& key, std::span<const uint8_t> root);
size_t SealedRootBytes(size_t root_bytes);
// Of any bytes; the result's id is the hash of `file`.
Result<SnapshotRoot> UnsealRoot(const SealKey& key, std::span<const uint8_t> file);

}  // namespace pacsvisor
