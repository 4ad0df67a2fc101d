#include "vmm/store/seal.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "vmm/base/check.h"
#include "vmm/store/byte_stream.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

struct FreeCipherContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

// Looked up once, and before the process is confined.
const EVP_CIPHER* SealCipher() {
  static EVP_CIPHER* const kCipher = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  CHECK(kCipher != nullptr, "libcrypto has no AES-256-GCM");
  return kCipher;
}

// One for each direction: whoever changes it pays for it.
EVP_CIPHER_CTX* SealContext(bool encrypts) {
  thread_local const std::unique_ptr<EVP_CIPHER_CTX, FreeCipherContext> seal(EVP_CIPHER_CTX_new());
  thread_local const std::unique_ptr<EVP_CIPHER_CTX, FreeCipherContext> open(EVP_CIPHER_CTX_new());
  CHECK(seal != nullptr && open != nullptr);
  return encrypts ? seal.get() : open.get();
}

// What is authenticated beside the ciphertext: type, version, name.
void AddAuthenticated(EVP_CIPHER_CTX* context, SealType type, std::span<const uint8_t> name) {
  std::array<uint8_t, 8> head;
  StoreLe(head.data(), static_cast<uint32_t>(type));
  StoreLe(head.data() + 4, kStoreVersion);
  int size = 0;
  CHECK(EVP_CipherUpdate(context, nullptr, &size, head.data(), static_cast<int>(head.size())) == 1);
  CHECK(name.empty() ||
        EVP_CipherUpdate(context, nullptr, &size, name.data(), static_cast<int>(name.size())) == 1);
}

}  // namespace

void FillRandom(std::span<uint8_t> bytes) {
  CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1,
        "libcrypto has no random numbers");
}

SealKey RandomSealKey() {
  SealKey key;
  FillRandom(key);
  return key;
}

void Seal(const SealKey& key, SealType type, std::span<const uint8_t> name,
          std::span<const uint8_t> plain, std::span<uint8_t> sealed) {
  CHECK(sealed.size() == plain.size() + kSealBytes && plain.size() <= INT32_MAX);
  const std::span<uint8_t> nonce = sealed.first(kSealNonceBytes);
  const std::span<uint8_t> cipher = sealed.subspan(kSealNonceBytes, plain.size());
  FillRandom(nonce);
  EVP_CIPHER_CTX* const context = SealContext(true);
  CHECK(EVP_EncryptInit_ex2(context, SealCipher(), key.data(), nonce.data(), nullptr) == 1);
  AddAuthenticated(context, type, name);
  int size = 0;
  CHECK(EVP_EncryptUpdate(context, cipher.data(), &size, plain.data(),
                          static_cast<int>(plain.size())) == 1 &&
        size == static_cast<int>(plain.size()));
  CHECK(EVP_EncryptFinal_ex(context, sealed.data() + sealed.size(), &size) == 1 && size == 0);
  CHECK(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kSealTagBytes,
                            sealed.last(kSealTagBytes).data()) == 1);
}

bool Unseal(const SealKey& key, SealType type, std::span<const uint8_t> name,
            std::span<const uint8_t> sealed, std::span<uint8_t> plain) {
  CHECK(sealed.size() == plain.size() + kSealBytes && plain.size() <= INT32_MAX);
  EVP_CIPHER_CTX* const context = SealContext(false);
  CHECK(EVP_DecryptInit_ex2(context, SealCipher(), key.data(), sealed.data(), nullptr) == 1);
  AddAuthenticated(context, type, name);
  const std::span<const uint8_t> cipher = sealed.subspan(kSealNonceBytes, plain.size());
  std::array<uint8_t, kSealTagBytes> tag;
  std::copy_n(sealed.end() - kSealTagBytes, tag.size(), tag.begin());
  int size = 0;
  const bool whole =
      EVP_DecryptUpdate(context, plain.data(), &size, cipher.data(),
                        static_cast<int>(cipher.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kSealTagBytes, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(context, plain.data() + plain.size(), &size) == 1;
  if (!whole) {
    std::fill(plain.begin(), plain.end(), uint8_t{0});
  }
  return whole;
}

std::vector<uint8_t> SealPadded(const SealKey& key, SealType type, std::span<const uint8_t> name,
                                std::span<const uint8_t> plain) {
  std::vector<uint8_t> sealed(PaddedSealBytes(plain.size()));
  std::vector<uint8_t> padded(sealed.size() - kSealBytes);
  StoreLe(padded.data(), static_cast<uint32_t>(plain.size()));
  std::copy(plain.begin(), plain.end(), padded.begin() + 4);
  Seal(key, type, name, padded, sealed);
  OPENSSL_cleanse(padded.data(), padded.size());
  return sealed;
}

std::optional<std::vector<uint8_t>> UnsealPadded(const SealKey& key, SealType type,
                                                 std::span<const uint8_t> name,
                                                 std::span<const uint8_t> sealed) {
  if (sealed.size() <= kSealBytes || (sealed.size() - kSealBytes) % kSealPadBytes != 0 ||
      sealed.size() > INT32_MAX) {
    return std::nullopt;
  }
  std::vector<uint8_t> plain(sealed.size() - kSealBytes);
  if (!Unseal(key, type, name, sealed, plain)) {
    return std::nullopt;
  }
  const uint32_t size = LoadLe<uint32_t>(plain.data());
  const bool padded =
      PaddedSealBytes(size) == sealed.size() &&
      std::all_of(plain.begin() + 4 + size, plain.end(), [](uint8_t byte) { return byte == 0; });
  if (!padded) {
    return std::nullopt;
  }
  plain.erase(plain.begin(), plain.begin() + 4);
  plain.resize(size);
  return plain;
}

}  // namespace pacsvisor
