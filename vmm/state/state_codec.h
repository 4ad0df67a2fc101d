// StateNode as CBOR (RFC 8949): a component is a map, a list an array of maps, numbers, texts and
// byte strings are themselves. Decoding takes bytes from outside: nesting up to 64, no duplicate
// names, at most the size given, nothing but those four kinds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {

inline constexpr size_t kStateDepthLimit = 64;
inline constexpr size_t kStateSizeLimitBytes = 64ul * 1024 * 1024;

std::vector<uint8_t> EncodeState(const StateNode& node);
Result<StateNode> DecodeState(std::span<const uint8_t> cbor);

}  // namespace pacsvisor
