// What a restored guest touched first, kept in the state of its snapshots: a hint to the next
// restore.
#pragma once

#include <span>
#include <vector>

#include "vmm/dirty/extent.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// `node`: the machine's. Nothing is saved of an empty one.
void SaveWorkingSet(std::span<const Extent> pages, StateNode& node);
// Empty where there is none, or one that makes no sense: nothing depends on it.
std::vector<Extent> LoadWorkingSet(const StateNode& node);

}  // namespace pacsvisor
