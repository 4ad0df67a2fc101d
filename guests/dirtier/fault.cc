#include "guests/dirtier/fault.h"

#include <cstdint>

#include "guests/freestanding/ring0.h"

namespace pacsvisor::dirtier {
namespace {

// Above all that area.cc can map.
constexpr uint64_t kUnmappedAddress = uint64_t{1} << 40;

}  // namespace

void RaiseFault(std::string_view kind) {
  if (kind == "ud") asm volatile("ud2");
  if (kind == "de") asm volatile("divl %0" ::"r"(0), "a"(1), "d"(0));
  if (kind == "gp") asm volatile("hlt");
  if (kind == "pf") asm volatile("movb (%0), %%al" ::"r"(kUnmappedAddress) : "rax");
  if (kind == "triple") TripleFault();
}

}  // namespace pacsvisor::dirtier
