// StateNode as CBOR (RFC 8949): a component is a map, a list an array of maps, numbers, texts and
// byte strings are themselves, all of definite length. Decoding takes bytes from outside: nesting,
// size and number of fields are limited, no name comes twice, nothing but those four kinds is
// taken.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

inline constexpr size_t kStateDepthLimit = 64;
// Components and fields together: a byte of input can stand for a hundred bytes of tree.
inline constexpr size_t kStateFieldLimit = 1'000'000;
inline constexpr size_t kStateSizeLimitBytes = 64ul * 1024 * 1024;

std::vector<uint8_t> EncodeState(const StateNode& node);
Result<StateNode> DecodeState(std::span<const uint8_t> cbor);

}  // namespace pacsvisor
