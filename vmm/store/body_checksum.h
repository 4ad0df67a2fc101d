// XXH3 of a pack's bytes before its directory (FORMAT.md, 4). Threads: one at a time.
#pragma once

#include <cstdint>
#include <span>

struct XXH3_state_s;

namespace pacsvisor {

class BodyChecksum {
 public:
  BodyChecksum();
  ~BodyChecksum();
  BodyChecksum(const BodyChecksum&) = delete;
  BodyChecksum& operator=(const BodyChecksum&) = delete;

  void Add(std::span<const uint8_t> bytes);
  uint64_t Value() const;

 private:
  XXH3_state_s* state_;
};

}  // namespace pacsvisor
