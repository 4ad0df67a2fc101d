// The keys of an encrypted store (FORMAT.md, 12): that of the key file, which is outside of the
// store, and the store's secret, which it unwraps. Wiped when they go, and kept in memory that
// libcrypto locks and leaves out of core dumps where the host lets it. Threads: any.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/seal.h"
#include "vmm/store/sha256.h"

namespace pacsvisor {

inline constexpr size_t kStoreKeyBytes = 32;
inline constexpr size_t kKeyCheckBytes = 56;
inline constexpr size_t kStoreKeyFileBytes = 128;
inline constexpr size_t kSnapshotKeyFileBytes = 96;

// 32 bytes that are wiped at their end.
class SecretBytes {
 public:
  SecretBytes();
  ~SecretBytes();
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;

  std::span<uint8_t, kStoreKeyBytes> bytes() const {
    return std::span<uint8_t, kStoreKeyBytes>(bytes_, kStoreKeyBytes);
  }

 private:
  uint8_t* const bytes_;
};

// The contents of a key file: 32 random bytes.
class StoreKey {
 public:
  // kInvalidArgument: not 32 bytes.
  static Result<std::shared_ptr<const StoreKey>> Of(std::span<const uint8_t> bytes);
  static Result<std::shared_ptr<const StoreKey>> ReadFile(const std::string& path);
  // Makes a key file, durably; kBusy when there is one.
  static Status MakeFile(const std::string& path);

  // The key that wraps a store's secret.
  void WrappingKey(std::span<const uint8_t> salt, std::span<uint8_t, kStoreKeyBytes> key) const;

 private:
  SecretBytes key_;
};

class StoreSecret {
 public:
  static std::shared_ptr<const StoreSecret> Random();
  // Of any bytes of `keys/store`. kCorrupt; kPermission: wrapped with another key.
  static Result<std::shared_ptr<const StoreSecret>> Unwrap(std::span<const uint8_t> file,
                                                           const StoreKey& key);
  static std::shared_ptr<const StoreSecret> Of(std::span<const uint8_t, kStoreKeyBytes> bytes);
  ~StoreSecret();

  // The file `keys/store`.
  std::vector<uint8_t> Wrap(const StoreKey& key) const;

  // The header's key check; and whether one is of this secret.
  std::array<uint8_t, kKeyCheckBytes> NewKeyCheck() const;
  bool IsChecked(std::span<const uint8_t, kKeyCheckBytes> check) const;

  // Of a chunk, by the hash of its contents.
  Hash ChunkName(const Hash& contents) const;
  SealKey ChunkKey(const Hash& contents) const;

  // The file `keys/ID`, and back: nothing when it is damaged or of another secret.
  std::vector<uint8_t> WrapSnapshotKey(const SealKey& key) const;
  std::optional<SealKey> UnwrapSnapshotKey(std::span<const uint8_t> file) const;

 private:
  class Macs;

  StoreSecret();
  void Prepare();  // when secret_ is filled in

  SecretBytes secret_;
  SecretBytes snapshots_key_;
  std::unique_ptr<Macs> name_macs_;
  std::unique_ptr<Macs> key_macs_;
};

// Whether `keys/store` is as written, without any key.
bool IsStoreKeyFileWhole(std::span<const uint8_t> file);
bool IsSnapshotKeyFileWhole(std::span<const uint8_t> file);

}  // namespace pacsvisor
