// What a snapshot is called: the SHA-256 of its root, which proves everything below it. Written as
// 64 lower-case hex digits; people see and type a prefix.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pacsvisor {

class SnapshotId {
 public:
  static constexpr size_t kBytes = 32;
  static constexpr size_t kShortDigits = 12;

  constexpr SnapshotId() = default;
  constexpr explicit SnapshotId(const std::array<uint8_t, kBytes>& bytes) : bytes_(bytes) {}
  // Of all 64 digits; nothing else.
  static std::optional<SnapshotId> FromHex(std::string_view digits);

  const std::array<uint8_t, kBytes>& bytes() const { return bytes_; }
  std::string Hex() const;
  std::string Short() const { return Hex().substr(0, kShortDigits); }

  friend constexpr auto operator<=>(const SnapshotId&, const SnapshotId&) = default;

 private:
  std::array<uint8_t, kBytes> bytes_ = {};
};

}  // namespace pacsvisor
