// Platforms that the tests describe.
#pragma once

#include "firmware/acpi/platform_description.h"

namespace pacsvisor {

inline PlatformDescription MakePlatform(uint32_t vcpus, uint64_t memory_bytes) {
  PlatformDescription platform;
  for (uint32_t id = 0; id < vcpus; ++id) {
    platform.apic_ids.push_back(id);
  }
  platform.memory = MemoryLayout::Create(memory_bytes, 40).value();
  return platform;
}

}  // namespace pacsvisor
