#include "vmm/store/store_secret.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "vmm/base/check.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/base/unique_fd.h"
#include "vmm/store/byte_stream.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kStoreKeyMagic = "PVSTKEY1";
constexpr std::string_view kSnapshotKeyMagic = "PVSNKEY1";
constexpr std::string_view kSecretInfo = "pacsvisor store secret";
constexpr std::string_view kSnapshotsInfo = "pacsvisor snapshot keys";
constexpr std::string_view kChunkInfo = "pacsvisor chunk";
constexpr std::string_view kCheckText = "pacsvisor store key check";
constexpr size_t kSaltBytes = 16;
constexpr size_t kCheckZeroes = 8;
constexpr size_t kWrappedBytes = kStoreKeyBytes + 8;
constexpr mode_t kKeyFileMode = 0600;

std::span<const uint8_t> BytesOfText(std::string_view text) {
  // char and uint8_t have the same representation.
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

template <typename T, void (*kFree)(T*)>
struct FreeWith {
  void operator()(T* object) const { kFree(object); }
};
using CipherContext =
    std::unique_ptr<EVP_CIPHER_CTX, FreeWith<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>>;

OSSL_PARAM BytesParam(const char* name, std::span<const uint8_t> bytes) {
  // libcrypto's parameters have one pointer for reading and writing; this one is read.
  return OSSL_PARAM_construct_octet_string(name, const_cast<uint8_t*>(bytes.data()), bytes.size());
}

// RFC 5869 with SHA-256: 32 bytes. No salt is one of zeroes.
void Hkdf(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::string_view info,
          std::span<uint8_t, kStoreKeyBytes> key, int mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND) {
  static EVP_KDF* const kAlgorithm = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  CHECK(kAlgorithm != nullptr, "libcrypto has no HKDF");
  const std::unique_ptr<EVP_KDF_CTX, FreeWith<EVP_KDF_CTX, EVP_KDF_CTX_free>> context(
      EVP_KDF_CTX_new(kAlgorithm));
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
      BytesParam(OSSL_KDF_PARAM_KEY, secret),
      BytesParam(OSSL_KDF_PARAM_SALT, salt),
      BytesParam(OSSL_KDF_PARAM_INFO, BytesOfText(info)),
      OSSL_PARAM_construct_end(),
  };
  CHECK(context != nullptr &&
        EVP_KDF_derive(context.get(), key.data(), key.size(), parameters) == 1);
}

constexpr std::array<uint8_t, 32> kNoSalt = {};

// AES-256 key wrap (RFC 3394). Unwrapping compares in constant time.
bool KeyWrap(bool wraps, std::span<const uint8_t> key, std::span<const uint8_t> from,
             std::span<uint8_t> to) {
  static EVP_CIPHER* const kAlgorithm = EVP_CIPHER_fetch(nullptr, "AES-256-WRAP", nullptr);
  CHECK(kAlgorithm != nullptr, "libcrypto has no AES-256 key wrap");
  const CipherContext context(EVP_CIPHER_CTX_new());
  CHECK(context != nullptr);
  EVP_CIPHER_CTX_set_flags(context.get(), EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
  CHECK(EVP_CipherInit_ex2(context.get(), kAlgorithm, key.data(), nullptr, wraps ? 1 : 0,
                           nullptr) == 1);
  std::array<uint8_t, kWrappedBytes + 8> buffer;
  int size = 0;
  const bool done = EVP_CipherUpdate(context.get(), buffer.data(), &size, from.data(),
                                     static_cast<int>(from.size())) == 1 &&
                    size == static_cast<int>(to.size());
  if (done) {
    std::copy_n(buffer.begin(), to.size(), to.begin());
  }
  OPENSSL_cleanse(buffer.data(), buffer.size());
  return done;
}

bool EndsWithOwnHash(std::span<const uint8_t> file) {
  const Hash hash = Sha256(file.first(file.size() - sizeof(Hash)));
  return std::equal(hash.begin(), hash.end(), file.end() - sizeof(Hash));
}

Error DamagedStoreKey() {
  return Error::Make(ErrorCode::kCorrupt, "{}: damaged; bring it back from a copy of the store",
                     kStoreKeyPath);
}

Status WriteKeyBytes(int fd, const std::string& path, std::span<const uint8_t> bytes) {
  const ssize_t put = ::write(fd, bytes.data(), bytes.size());
  if (put != static_cast<ssize_t>(bytes.size()) || ::fsync(fd) != 0) {
    return Error::FromErrno(put < 0 || errno != 0 ? errno : ENOSPC, "cannot write {}", path);
  }
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened.valid() || ::fsync(opened.get()) != 0) {
    return Error::FromErrno(errno, "cannot sync {}", directory);
  }
  return {};
}

// Not OpenSSL's secure heap: that is the process's, and its random generators move into it, where a
// leak checker does not see what they point to.
uint8_t* NewSecretBytes() {
  auto* const bytes = static_cast<uint8_t*>(OPENSSL_zalloc(kStoreKeyBytes));
  CHECK(bytes != nullptr);
  return bytes;
}

}  // namespace

SecretBytes::SecretBytes() : bytes_(NewSecretBytes()) {}

SecretBytes::~SecretBytes() { OPENSSL_clear_free(bytes_, kStoreKeyBytes); }

Result<std::shared_ptr<const StoreKey>> StoreKey::Of(std::span<const uint8_t> bytes) {
  if (bytes.size() != kStoreKeyBytes) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "a key file holds {} random bytes (pacsvisor store new-key makes one)",
                       kStoreKeyBytes);
  }
  const auto key = std::make_shared<StoreKey>();
  std::copy(bytes.begin(), bytes.end(), key->key_.bytes().begin());
  return std::shared_ptr<const StoreKey>(key);
}

Result<std::shared_ptr<const StoreKey>> StoreKey::ReadFile(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot open the key file {}", path);
  }
  std::array<uint8_t, kStoreKeyBytes + 1> bytes;  // one more shows that there is more
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got = ::read(fd.get(), bytes.data() + have, bytes.size() - have);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return Error::FromErrno(errno, "cannot read the key file {}", path);
    }
    if (got == 0) {
      break;
    }
    have += static_cast<size_t>(got);
  }
  Result<std::shared_ptr<const StoreKey>> key = Of(std::span(bytes).first(have));
  OPENSSL_cleanse(bytes.data(), bytes.size());
  if (!key.ok()) {
    return std::move(key).error().WithContext(path);
  }
  return key;
}

Status StoreKey::MakeFile(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kKeyFileMode));
  if (!fd.valid() && errno == EEXIST) {
    return Error::Make(ErrorCode::kBusy,
                       "{} is there already: a key is never written over; give another name", path);
  }
  if (!fd.valid()) {
    return Error::FromErrno(errno, "cannot make the key file {}", path);
  }
  SecretBytes key;
  FillRandom(key.bytes());
  const Status written = WriteKeyBytes(fd.get(), path, key.bytes());
  if (!written.ok()) {
    ::unlink(path.c_str());
  }
  return written;
}

void StoreKey::WrappingKey(std::span<const uint8_t> salt,
                           std::span<uint8_t, kStoreKeyBytes> key) const {
  Hkdf(key_.bytes(), salt, kSecretInfo, key);
}

// HMAC-SHA-256 with one key, for many short inputs: contexts that have the key already, one for
// each thread that is at it.
class StoreSecret::Macs {
 public:
  explicit Macs(std::span<const uint8_t> key) {
    static EVP_MAC* const kAlgorithm = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    CHECK(kAlgorithm != nullptr, "libcrypto has no HMAC");
    keyed_.reset(EVP_MAC_CTX_new(kAlgorithm));
    char digest[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    CHECK(keyed_ != nullptr && EVP_MAC_init(keyed_.get(), key.data(), key.size(), parameters) == 1);
  }

  Hash Of(std::span<const uint8_t> first, std::span<const uint8_t> second) {
    MacContext context = Take();
    Hash mac;
    size_t size = 0;
    // No key: the one it has.
    CHECK(EVP_MAC_init(context.get(), nullptr, 0, nullptr) == 1 &&
          EVP_MAC_update(context.get(), first.data(), first.size()) == 1 &&
          EVP_MAC_update(context.get(), second.data(), second.size()) == 1 &&
          EVP_MAC_final(context.get(), mac.data(), &size, mac.size()) == 1 && size == mac.size());
    const MutexLock lock(mutex_);
    idle_.push_back(std::move(context));
    return mac;
  }

 private:
  struct FreeMac {
    void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
  };
  using MacContext = std::unique_ptr<EVP_MAC_CTX, FreeMac>;

  MacContext Take() {
    const MutexLock lock(mutex_);
    if (idle_.empty()) {
      MacContext context(EVP_MAC_CTX_dup(keyed_.get()));
      CHECK(context != nullptr);
      return context;
    }
    MacContext context = std::move(idle_.back());
    idle_.pop_back();
    return context;
  }

  MacContext keyed_;
  Mutex mutex_;
  std::vector<MacContext> idle_ GUARDED_BY(mutex_);
};

StoreSecret::StoreSecret() = default;
StoreSecret::~StoreSecret() = default;

void StoreSecret::Prepare() {
  Hkdf(secret_.bytes(), kNoSalt, kSnapshotsInfo, snapshots_key_.bytes());
  SecretBytes extracted;
  Hkdf(secret_.bytes(), kNoSalt, {}, extracted.bytes(), EVP_KDF_HKDF_MODE_EXTRACT_ONLY);
  name_macs_ = std::make_unique<Macs>(secret_.bytes());
  key_macs_ = std::make_unique<Macs>(extracted.bytes());
  // All of libcrypto that is needed later is found now: a confined process opens no files.
  (void)ChunkKey(ChunkName({}));
  const SealKey key = RandomSealKey();
  std::array<uint8_t, kSealBytes> sealed;
  Seal(key, SealType::kChunk, {}, {}, sealed);
  CHECK(UnwrapSnapshotKey(WrapSnapshotKey(key)) == key);
}

std::shared_ptr<const StoreSecret> StoreSecret::Of(std::span<const uint8_t, kStoreKeyBytes> bytes) {
  const std::shared_ptr<StoreSecret> secret(new StoreSecret);
  std::copy(bytes.begin(), bytes.end(), secret->secret_.bytes().begin());
  secret->Prepare();
  return secret;
}

std::shared_ptr<const StoreSecret> StoreSecret::Random() {
  const SecretBytes bytes;
  FillRandom(bytes.bytes());
  return Of(bytes.bytes());
}

std::vector<uint8_t> StoreSecret::Wrap(const StoreKey& key) const {
  std::array<uint8_t, kSaltBytes> salt;
  FillRandom(salt);
  const SecretBytes wrapping;
  key.WrappingKey(salt, wrapping.bytes());
  std::array<uint8_t, kWrappedBytes> wrapped;
  CHECK(KeyWrap(true, wrapping.bytes(), secret_.bytes(), wrapped));
  ByteWriter writer;
  writer.Text(kStoreKeyMagic);
  writer.Number(kStoreVersion);
  writer.Zeroes(4);
  writer.Bytes(salt);
  writer.Bytes(wrapped);
  writer.Zeroes(kStoreKeyFileBytes - sizeof(Hash) - writer.size());
  writer.Bytes(Sha256(writer.bytes()));
  return std::move(writer.bytes());
}

bool IsStoreKeyFileWhole(std::span<const uint8_t> file) {
  ByteReader reader(file);
  return file.size() == kStoreKeyFileBytes && reader.Expect(kStoreKeyMagic) &&
         reader.Number<uint32_t>() == kStoreVersion && reader.ExpectZeroes(4) &&
         reader.Bytes(kSaltBytes + kWrappedBytes).size() == kSaltBytes + kWrappedBytes &&
         reader.ExpectZeroes(reader.left() - sizeof(Hash)) && EndsWithOwnHash(file);
}

Result<std::shared_ptr<const StoreSecret>> StoreSecret::Unwrap(std::span<const uint8_t> file,
                                                               const StoreKey& key) {
  if (!IsStoreKeyFileWhole(file)) {
    return DamagedStoreKey();
  }
  ByteReader reader(file);
  reader.Bytes(kStoreKeyMagic.size() + 8);
  const std::span<const uint8_t> salt = reader.Bytes(kSaltBytes);
  const SecretBytes wrapping;
  key.WrappingKey(salt, wrapping.bytes());
  const SecretBytes secret;
  if (!KeyWrap(false, wrapping.bytes(), reader.Bytes(kWrappedBytes), secret.bytes())) {
    return Error::Make(ErrorCode::kPermissionDenied, "the key is not the store's");
  }
  return Of(secret.bytes());
}

std::array<uint8_t, kKeyCheckBytes> StoreSecret::NewKeyCheck() const {
  std::array<uint8_t, kKeyCheckBytes> check = {};
  const std::span<uint8_t> salt = std::span(check).first(kSaltBytes);
  FillRandom(salt);
  const Hash mac = name_macs_->Of(BytesOfText(kCheckText), salt);
  std::copy(mac.begin(), mac.end(), check.end() - sizeof(Hash));
  return check;
}

bool StoreSecret::IsChecked(std::span<const uint8_t, kKeyCheckBytes> check) const {
  const Hash mac = name_macs_->Of(BytesOfText(kCheckText), check.first<kSaltBytes>());
  const std::array<uint8_t, kCheckZeroes> zeroes = {};
  return CRYPTO_memcmp(check.data() + kSaltBytes, zeroes.data(), zeroes.size()) == 0 &&
         CRYPTO_memcmp(check.last<sizeof(Hash)>().data(), mac.data(), mac.size()) == 0;
}

Hash StoreSecret::ChunkName(const Hash& contents) const { return name_macs_->Of(contents, {}); }

SealKey StoreSecret::ChunkKey(const Hash& contents) const {
  // The second half of HKDF, for one block of output.
  std::array<uint8_t, sizeof(Hash) + 1> tail;
  std::copy(contents.begin(), contents.end(), tail.begin());
  tail.back() = 1;
  return key_macs_->Of(BytesOfText(kChunkInfo), tail);
}

std::vector<uint8_t> StoreSecret::WrapSnapshotKey(const SealKey& key) const {
  std::array<uint8_t, kWrappedBytes> wrapped;
  CHECK(KeyWrap(true, snapshots_key_.bytes(), key, wrapped));
  ByteWriter writer;
  writer.Text(kSnapshotKeyMagic);
  writer.Number(kStoreVersion);
  writer.Zeroes(4);
  writer.Bytes(wrapped);
  writer.Zeroes(kSnapshotKeyFileBytes - sizeof(Hash) - writer.size());
  writer.Bytes(Sha256(writer.bytes()));
  return std::move(writer.bytes());
}

bool IsSnapshotKeyFileWhole(std::span<const uint8_t> file) {
  ByteReader reader(file);
  return file.size() == kSnapshotKeyFileBytes && reader.Expect(kSnapshotKeyMagic) &&
         reader.Number<uint32_t>() == kStoreVersion && reader.ExpectZeroes(4) &&
         reader.Bytes(kWrappedBytes).size() == kWrappedBytes &&
         reader.ExpectZeroes(reader.left() - sizeof(Hash)) && EndsWithOwnHash(file);
}

std::optional<SealKey> StoreSecret::UnwrapSnapshotKey(std::span<const uint8_t> file) const {
  SealKey key;
  ByteReader reader(file);
  reader.Bytes(kSnapshotKeyMagic.size() + 8);
  if (!IsSnapshotKeyFileWhole(file) ||
      !KeyWrap(false, snapshots_key_.bytes(), reader.Bytes(kWrappedBytes), key)) {
    return std::nullopt;
  }
  return key;
}

}  // namespace pacsvisor
