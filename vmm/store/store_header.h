// The store's header, and its floor (FORMAT.md, 2 and 8). Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/store_secret.h"

namespace pacsvisor {

using StoreUid = std::array<uint8_t, 16>;

enum class StoreCipher : uint32_t { kNone = 0, kAes256Gcm = 1 };

struct StoreHeader {
  StoreUid uid = {};
  StoreCipher cipher = StoreCipher::kNone;
  std::array<uint8_t, kKeyCheckBytes> key_check = {};  // zeroes without a cipher
};

inline constexpr size_t kHeaderBytes = 128;
inline constexpr size_t kFloorBytes = 64;

std::vector<uint8_t> EncodeStoreHeader(const StoreHeader& header);
// kUnsupported: a newer version, another block size or cipher; kCorrupt: anything else.
Result<StoreHeader> DecodeStoreHeader(std::span<const uint8_t> bytes);

// The highest number of a pack that is kept although no root says so.
std::vector<uint8_t> EncodeFloor(uint32_t number);
Result<uint32_t> DecodeFloor(std::span<const uint8_t> bytes);

}  // namespace pacsvisor
