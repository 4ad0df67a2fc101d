// Snapshot requests and their progress as JSON, both ways; vmm/control/openapi.json is the
// contract.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/control/snapshot_control.h"

namespace pacsvisor {

std::string SnapshotRequestToJson(const SnapshotRequest& request);
// An empty text means the defaults; limits are checked.
Result<SnapshotRequest> SnapshotRequestFromJson(std::string_view text);

std::string SnapshotNumberToJson(uint64_t number);  // {"number":3}
Result<uint64_t> SnapshotNumberFromJson(std::string_view text);

std::string SnapshotProgressToJson(const SnapshotProgress& progress);
Result<SnapshotProgress> SnapshotProgressFromJson(std::string_view text);

}  // namespace pacsvisor
