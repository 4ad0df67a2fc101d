#include "guests/hostile/arena.h"

#include "guests/freestanding/cpu.h"
#include "guests/freestanding/traps.h"

namespace pacsvisor::hostile {

uint64_t Arena::Take(uint64_t bytes, uint64_t alignment) {
  uint64_t start = (next_ + alignment - 1) / alignment * alignment;
  if (start + bytes > end()) start = (begin_ + alignment - 1) / alignment * alignment;
  if (start + bytes > end()) Panic("more than an arena was asked for");
  next_ = start + bytes;
  auto* memory = AtAddress<volatile uint8_t>(start);
  for (uint64_t i = 0; i < bytes; ++i) memory[i] = 0;
  return start;
}

}  // namespace pacsvisor::hostile
