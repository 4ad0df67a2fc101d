#include "vmm/store/body_checksum.h"

#include <xxhash.h>

#include "vmm/base/check.h"

namespace pacsvisor {

BodyChecksum::BodyChecksum() : state_(XXH3_createState()) {
  CHECK(state_ != nullptr);
  XXH3_64bits_reset(state_);
}

BodyChecksum::~BodyChecksum() { XXH3_freeState(state_); }

void BodyChecksum::Add(std::span<const uint8_t> bytes) {
  XXH3_64bits_update(state_, bytes.data(), bytes.size());
}

uint64_t BodyChecksum::Value() const { return XXH3_64bits_digest(state_); }

}  // namespace pacsvisor
