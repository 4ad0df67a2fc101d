// What verifying leaves in a store (FORMAT.md, 11): how far one that was interrupted had come, and
// when each snapshot was last proven whole. Either may be lost without harm. Threads: any.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/pack_format.h"
#include "vmm/store/sha256.h"
#include "vmm/store/snapshot_id.h"
#include "vmm/store/store_files.h"
#include "vmm/store/store_header.h"

namespace pacsvisor {

struct VerifyCheckpoint {
  StoreUid uid = {};
  uint64_t begun_ns = 0;           // CLOCK_REALTIME
  std::set<Hash> tables;           // whose references to these packs hold
  std::map<uint32_t, Hash> packs;  // that are proven, by number: ProvenPack of their trailers

  friend bool operator==(const VerifyCheckpoint&, const VerifyCheckpoint&) = default;
};

// What a pack is known by again: its trailer holds the checksums of everything else.
Hash ProvenPack(const PackTrailer& trailer);

std::vector<uint8_t> EncodeVerifyCheckpoint(const VerifyCheckpoint& checkpoint);
// Of any bytes.
Result<VerifyCheckpoint> DecodeVerifyCheckpoint(std::span<const uint8_t> bytes);

// That of this store, if there is a whole one that was begun in the last days.
std::optional<VerifyCheckpoint> ReadVerifyCheckpoint(StoreFiles& files, const StoreUid& uid,
                                                     uint64_t now_ns);
Status WriteVerifyCheckpoint(StoreFiles& files, const VerifyCheckpoint& checkpoint);
// One that is not there is no error.
Status RemoveVerifyCheckpoint(StoreFiles& files);

// By snapshot: CLOCK_REALTIME when what proved it whole began.
using VerifiedTimes = std::map<SnapshotId, uint64_t>;

std::vector<uint8_t> EncodeVerifiedTimes(const VerifiedTimes& times);
Result<VerifiedTimes> DecodeVerifiedTimes(std::span<const uint8_t> bytes);

// None where there is no file, or a damaged one.
Result<VerifiedTimes> ReadVerifiedTimes(StoreFiles& files);
// `times` are added; those of `damaged` and of snapshots that are not `there` are dropped. Durable
// when it returns.
Status UpdateVerifiedTimes(StoreFiles& files, const VerifiedTimes& times,
                           const std::set<SnapshotId>& damaged, const std::set<SnapshotId>& there);

}  // namespace pacsvisor
