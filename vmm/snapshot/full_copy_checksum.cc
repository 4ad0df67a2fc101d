#include "vmm/snapshot/full_copy_checksum.h"

#include <xxhash.h>

#include "vmm/base/check.h"

namespace pacsvisor {

uint64_t FullCopyChecksum(const FullCopyRecord& record, std::span<const uint8_t> payload) {
  XXH3_state_t* state = XXH3_createState();
  CHECK(state != nullptr);
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, &record, offsetof(FullCopyRecord, checksum));
  XXH3_64bits_update(state, payload.data(), payload.size());
  const uint64_t checksum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return checksum;
}

}  // namespace pacsvisor
