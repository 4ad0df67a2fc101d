// A guest-physical address, and ranges of them. Arithmetic that could leave 64 bits is checked.
#pragma once

#include <fmt/format.h>

#include <compare>
#include <cstdint>
#include <optional>

#include "vmm/base/align.h"

namespace pacsvisor {

inline constexpr uint64_t kPageSizeBytes = 4096;

class GuestAddress {
 public:
  constexpr GuestAddress() = default;
  constexpr explicit GuestAddress(uint64_t raw) : raw_(raw) {}

  constexpr uint64_t raw() const { return raw_; }
  constexpr std::optional<GuestAddress> Plus(uint64_t bytes) const {
    const std::optional<uint64_t> sum = CheckedAdd(raw_, bytes);
    return sum.has_value() ? std::optional(GuestAddress(*sum)) : std::nullopt;
  }
  friend constexpr auto operator<=>(GuestAddress, GuestAddress) = default;

 private:
  uint64_t raw_ = 0;
};

// `size_bytes` from `start`; may be empty; may come from a guest, hence run off the address space.
struct GuestRange {
  GuestAddress start;
  uint64_t size_bytes = 0;

  friend bool operator==(const GuestRange&, const GuestRange&) = default;
};

}  // namespace pacsvisor

template <>
struct fmt::formatter<pacsvisor::GuestAddress> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  template <typename Context>
  auto format(pacsvisor::GuestAddress address, Context& context) const {
    return fmt::format_to(context.out(), "{:#x}", address.raw());
  }
};
