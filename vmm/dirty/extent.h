// A run of consecutive blocks of a space.
#pragma once

#include <cstdint>

#include "vmm/base/strong_integer.h"

namespace pacsvisor {

struct Extent {
  BlockIndex first;
  uint64_t count = 0;  // blocks, never 0 in a list

  friend bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace pacsvisor
