// Guest memory as a space: its pages, counted through its regions.
#pragma once

#include <string>

#include "vmm/memory/guest_memory.h"
#include "vmm/snapshot/space.h"

namespace pacsvisor {

class MemorySpace : public Space {
 public:
  explicit MemorySpace(GuestMemory& memory) : memory_(memory) {}

  const std::string& name() const override { return name_; }
  uint32_t block_bytes() const override { return kPageSizeBytes; }
  uint64_t block_count() const override { return memory_.page_count(); }
  Status Read(BlockIndex first, std::span<uint8_t> bytes) const override;
  Status Write(BlockIndex first, std::span<const uint8_t> bytes) override;

 private:
  GuestAddress AddressOf(uint64_t page) const;

  const std::string name_ = "memory";
  GuestMemory& memory_;
};

}  // namespace pacsvisor
