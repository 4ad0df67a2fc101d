// A 64- or 32-bit number with a name: comparable, printable, with no arithmetic but what its user
// adds. Raw integers stop at ABI structs.
#pragma once

#include <fmt/format.h>

#include <compare>
#include <cstdint>
#include <functional>

namespace pacsvisor {

template <typename Tag, typename Raw>
class StrongInteger {
 public:
  using RawType = Raw;

  constexpr StrongInteger() = default;
  constexpr explicit StrongInteger(Raw raw) : raw_(raw) {}

  constexpr Raw raw() const { return raw_; }
  friend constexpr auto operator<=>(StrongInteger, StrongInteger) = default;

 private:
  Raw raw_ = 0;
};

using VcpuId = StrongInteger<struct VcpuIdTag, uint32_t>;
// KVM's global system interrupt number: an IOAPIC pin or an MSI route.
using Gsi = StrongInteger<struct GsiTag, uint32_t>;
// A block of a space: a 4 KiB page of guest memory counted through its regions, or a disk's block.
using BlockIndex = StrongInteger<struct BlockIndexTag, uint64_t>;

}  // namespace pacsvisor

template <typename Tag, typename Raw>
struct std::hash<pacsvisor::StrongInteger<Tag, Raw>> {
  size_t operator()(pacsvisor::StrongInteger<Tag, Raw> value) const noexcept {
    return std::hash<Raw>{}(value.raw());
  }
};

template <typename Tag, typename Raw>
struct fmt::formatter<pacsvisor::StrongInteger<Tag, Raw>> : fmt::formatter<Raw> {
  template <typename Context>
  auto format(pacsvisor::StrongInteger<Tag, Raw> value, Context& context) const {
    return fmt::formatter<Raw>::format(value.raw(), context);
  }
};
