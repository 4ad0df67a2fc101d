// Starting the application processors.
#pragma once

#include <cstdint>

namespace pacsvisor {

// Sends INIT and start-up IPIs to all processors but this one, and returns when `count`, this one
// included, have come to CpuMain; those beyond the count halt. Panics when they do not come within
// two seconds, or are x2APIC-only.
void StartProcessors(uint64_t count, uint64_t tsc_hz);

// Called once by each application processor before anything else. False: it is not needed.
bool ArriveAsProcessor(uint64_t number);

}  // namespace pacsvisor
