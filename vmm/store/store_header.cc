#include "vmm/store/store_header.h"

#include <algorithm>

#include "vmm/store/byte_stream.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kHeaderMagic = "PVSTORE1";
constexpr std::string_view kFloorMagic = "PVFLOOR1";

void AppendHash(ByteWriter& writer) { writer.Bytes(Sha256(writer.bytes())); }

bool EndsWithHash(std::span<const uint8_t> bytes) {
  const size_t size = bytes.size() - sizeof(Hash);
  const Hash hash = Sha256(bytes.first(size));
  return std::equal(hash.begin(), hash.end(), bytes.begin() + static_cast<ptrdiff_t>(size));
}

}  // namespace

std::vector<uint8_t> EncodeStoreHeader(const StoreHeader& header) {
  ByteWriter writer;
  writer.Text(kHeaderMagic);
  writer.Number(kStoreVersion);
  writer.Number(uint32_t{kHeaderBytes});
  writer.Bytes(header.uid);
  writer.Number(kStoreBlockBytes);
  writer.Number(static_cast<uint32_t>(header.cipher));
  writer.Bytes(header.key_check);
  AppendHash(writer);
  CHECK(writer.size() == kHeaderBytes);
  return std::move(writer.bytes());
}

Result<StoreHeader> DecodeStoreHeader(std::span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  if (!reader.Expect(kHeaderMagic)) {
    return Error::Make(ErrorCode::kCorrupt, "this is not the header of a snapshot store");
  }
  // Before all else: what follows may look otherwise in another version.
  const uint32_t version = reader.Number<uint32_t>();
  if (reader.ok() && version > kStoreVersion) {
    return Error::Make(ErrorCode::kUnsupported,
                       "the store has format version {}, this program reads up to {}: use a newer "
                       "pacsvisor",
                       version, kStoreVersion);
  }
  if (bytes.size() != kHeaderBytes || version != kStoreVersion ||
      reader.Number<uint32_t>() != kHeaderBytes || !EndsWithHash(bytes)) {
    return Error::Make(ErrorCode::kCorrupt,
                       "the store's header is damaged; it never changes: bring it back from a copy "
                       "of the store");
  }
  StoreHeader header;
  const std::span<const uint8_t> uid = reader.Bytes(header.uid.size());
  std::copy(uid.begin(), uid.end(), header.uid.begin());
  const uint32_t block_bytes = reader.Number<uint32_t>();
  const uint32_t cipher = reader.Number<uint32_t>();
  if (block_bytes != kStoreBlockBytes || cipher > 1) {
    return Error::Make(ErrorCode::kUnsupported,
                       "the store has blocks of {} bytes and cipher {}, which this program does "
                       "not know: use a newer pacsvisor",
                       block_bytes, cipher);
  }
  header.cipher = static_cast<StoreCipher>(cipher);
  const std::span<const uint8_t> key_check = reader.Bytes(kKeyCheckBytes);
  std::copy(key_check.begin(), key_check.end(), header.key_check.begin());
  return header;
}

std::vector<uint8_t> EncodeFloor(uint32_t number) {
  ByteWriter writer;
  writer.Text(kFloorMagic);
  writer.Number(kStoreVersion);
  writer.Number(number);
  writer.Zeroes(16);
  AppendHash(writer);
  CHECK(writer.size() == kFloorBytes);
  return std::move(writer.bytes());
}

Result<uint32_t> DecodeFloor(std::span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  const bool known = reader.Expect(kFloorMagic) && reader.Number<uint32_t>() == kStoreVersion;
  const uint32_t number = reader.Number<uint32_t>();
  if (!known || bytes.size() != kFloorBytes || !reader.ExpectZeroes(16) || !EndsWithHash(bytes)) {
    return Error::Make(
        ErrorCode::kCorrupt,
        "the store's file 'floor' is damaged: bring it back from a copy of the store");
  }
  return number;
}

}  // namespace pacsvisor
