#include "vmm/store/snapshot_id.h"

#include "vmm/store/sha256.h"

namespace pacsvisor {

std::optional<SnapshotId> SnapshotId::FromHex(std::string_view digits) {
  const std::optional<Hash> hash = HashFromHex(digits);
  return hash.has_value() ? std::optional(SnapshotId(*hash)) : std::nullopt;
}

std::string SnapshotId::Hex() const { return HexText(bytes_); }

}  // namespace pacsvisor
