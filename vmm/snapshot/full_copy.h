// A whole machine in one file, written while it is paused: its state and every block of its spaces
// that is not zero. It shares nothing with the store's incremental snapshots, and so is the oracle
// that they are held against.
//
// Format, all numbers little-endian:
//   header   8 bytes "PVFULL01"
//   records  each: u32 kind, u32 space, u64 first, u64 count, u64 payload size in bytes,
//            u64 XXH3-64 over the 32 bytes before it and the payload; then the payload
//     kind 1 state: the payload is the machine's state (vmm/state/state_codec.h)
//     kind 2 space: number `space` from 0 upwards; first = block size in bytes, count = blocks, the
//                   payload is the space's name
//     kind 3 blocks: `count` blocks of `space` from `first` on, in rising order
//     kind 4 end: first = number of records before it; nothing follows
// What no record names is zero.
#pragma once

#include <span>
#include <string>

#include "vmm/snapshot/space.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

// Writes `path` whole or not at all: a temporary name, fsync, rename, fsync of the directory. An
// existing `path` is refused (kBusy).
Status WriteFullCopy(const std::string& path, const StateNode& state,
                     std::span<const Space* const> spaces);

// Fills `spaces`, which hold zeroes and have the same names and sizes as those written, and returns
// the state. kCorrupt names the record that fails its check; the spaces are then worth nothing.
Result<StateNode> ReadFullCopy(const std::string& path, std::span<Space* const> spaces);

}  // namespace pacsvisor
