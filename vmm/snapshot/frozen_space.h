// A space that can be frozen at an instant by a pointer change and read afterwards, while the guest
// goes on writing: a disk under layers. What vmm/snapshot needs of it; the machine hands it one.
// Threads: the snapshot's.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "vmm/base/result.h"
#include "vmm/base/strong_integer.h"

namespace pacsvisor {

class FrozenSpace {
 public:
  virtual ~FrozenSpace() = default;

  virtual const std::string& name() const = 0;  // "disk0"
  virtual uint32_t block_bytes() const = 0;
  virtual uint64_t size_bytes() const = 0;

  // May wait for the host. After success Freeze cannot fail.
  virtual Status Prepare() = 0;
  // In the pause; waits for nothing. ORs the blocks changed since the last Freeze into `words`
  // (DirtyBitmap's form).
  virtual void Freeze(std::span<uint64_t> words) = 0;
  // Bytes as of Freeze; whole blocks, of which the last may reach behind the end. May wait for the
  // host; for requests of before the instant at most `timeout_ms`: kTimeout, and may be called
  // again.
  virtual Status Read(BlockIndex first, std::span<uint8_t> bytes, uint32_t timeout_ms) = 0;
  // Not needed any more (after Prepare, frozen or not).
  virtual void Release() = 0;
  // The blocks of a Freeze whose snapshot came to nothing: into the next one.
  virtual void Return(std::span<const uint64_t> words) = 0;
};

}  // namespace pacsvisor
