// SHA-256 (OpenSSL's libcrypto, which knows the processor's instructions for it), and hashes in
// hex. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace pacsvisor {

using Hash = std::array<uint8_t, 32>;

Hash Sha256(std::span<const uint8_t> bytes);

std::string HexText(std::span<const uint8_t> bytes);
// Of 64 lower-case digits; nothing else.
std::optional<Hash> HashFromHex(std::string_view digits);

}  // namespace pacsvisor
