// Fixed-size ABI structures (of KVM, of a device) as byte strings of saved state.
#pragma once

#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "vmm/state/state_node.h"

namespace pacsvisor {

template <typename T>
void SaveObject(StateNode& node, std::string_view name, const T& object) {
  static_assert(std::is_trivially_copyable_v<T>);
  // Any trivially copyable object may be accessed as bytes.
  node.SetBytes(name, {reinterpret_cast<const uint8_t*>(&object), sizeof(object)});
}

// kCorrupt when the field is missing or of another size.
template <typename T>
Status LoadObject(const StateNode& node, std::string_view name, T& object) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::span<const uint8_t> bytes = TRY(node.BytesOf(name, sizeof(object)));
  std::memcpy(&object, bytes.data(), sizeof(object));
  return {};
}

}  // namespace pacsvisor
