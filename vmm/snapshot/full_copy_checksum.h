// The checksum of a full copy's records.
#pragma once

#include <cstdint>
#include <span>

#include "vmm/snapshot/full_copy_record.h"

namespace pacsvisor {

// XXH3-64 over the record's first 32 bytes and its payload.
uint64_t FullCopyChecksum(const FullCopyRecord& record, std::span<const uint8_t> payload);

}  // namespace pacsvisor
