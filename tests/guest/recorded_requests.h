// The disk requests that a saved machine has in flight: heads out of its state, resolved through
// the rings in its memory as virtio 1.2 (2.7 and 5.2.6) describes them, by code of the tests' own.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/memory/guest_memory.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

struct RecordedRequest {
  size_t disk = 0;  // as configured
  uint32_t type = 0;
  bool changes_disk = false;
  std::vector<GuestRange> device_writes;  // buffers of the guest's that the device fills
  struct Bytes {
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
  };
  std::vector<Bytes> on_disk;
};

// `state` is what Machine::SaveAtInstant made, `memory` the machine's, still at that instant.
std::vector<RecordedRequest> RecordedRequests(const StateNode& state, const GuestMemory& memory);

}  // namespace pacsvisor
