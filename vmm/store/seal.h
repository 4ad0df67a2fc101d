// Bytes that only who has their key can read or make (FORMAT.md, 12): AES-256-GCM with a random
// nonce, by OpenSSL's libcrypto. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace pacsvisor {

using SealKey = std::array<uint8_t, 32>;

// What is sealed, so that nothing passes for something else.
enum class SealType : uint32_t { kChunk = 1, kPage = 2, kState = 3, kRoot = 4 };

inline constexpr size_t kSealNonceBytes = 12;
inline constexpr size_t kSealTagBytes = 16;
inline constexpr size_t kSealBytes = kSealNonceBytes + kSealTagBytes;  // more than what is sealed
inline constexpr size_t kSealPadBytes = 256;                           // sizes are multiples of it

// Of the kernel's random numbers, by way of libcrypto's generator.
void FillRandom(std::span<uint8_t> bytes);
SealKey RandomSealKey();

// Nonce, ciphertext and tag into `sealed`, which has kSealBytes more than `plain`. `name` is
// authenticated with it.
void Seal(const SealKey& key, SealType type, std::span<const uint8_t> name,
          std::span<const uint8_t> plain, std::span<uint8_t> sealed);
// False: not what was sealed with this key, type and name; `plain` holds zeroes then.
bool Unseal(const SealKey& key, SealType type, std::span<const uint8_t> name,
            std::span<const uint8_t> sealed, std::span<uint8_t> plain);

// The length of `plain`, and zeroes up to a multiple of kSealPadBytes, are sealed with it.
std::vector<uint8_t> SealPadded(const SealKey& key, SealType type, std::span<const uint8_t> name,
                                std::span<const uint8_t> plain);
std::optional<std::vector<uint8_t>> UnsealPadded(const SealKey& key, SealType type,
                                                 std::span<const uint8_t> name,
                                                 std::span<const uint8_t> sealed);
constexpr uint64_t PaddedSealBytes(uint64_t plain_bytes) {
  return (4 + plain_bytes + kSealPadBytes - 1) / kSealPadBytes * kSealPadBytes + kSealBytes;
}

}  // namespace pacsvisor
