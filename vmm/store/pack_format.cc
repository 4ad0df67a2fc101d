#include "vmm/store/pack_format.h"

#include <algorithm>

#include "vmm/store/byte_stream.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kPackMagic = "PVPACK01";
constexpr std::string_view kPackEndMagic = "PVPACKED";

void AppendOwnHash(ByteWriter& writer) { writer.Bytes(Sha256(writer.bytes())); }

bool HasOwnHash(std::span<const uint8_t> bytes) {
  const Hash hash = Sha256(bytes.first(bytes.size() - sizeof(Hash)));
  return std::equal(hash.begin(), hash.end(), bytes.end() - sizeof(Hash));
}

}  // namespace

std::vector<uint8_t> EncodePackHeader(uint32_t number, const StoreUid& uid) {
  ByteWriter writer;
  writer.Text(kPackMagic);
  writer.Number(kStoreVersion);
  writer.Number(number);
  writer.Bytes(uid);
  AppendOwnHash(writer);
  CHECK(writer.size() == kPackHeaderBytes);
  return std::move(writer.bytes());
}

Status CheckPackHeader(std::span<const uint8_t> bytes, uint32_t number) {
  ByteReader reader(bytes);
  // The store's id is not compared: a pack may have been brought from another store.
  if (bytes.size() != kPackHeaderBytes || !reader.Expect(kPackMagic) ||
      reader.Number<uint32_t>() != kStoreVersion || reader.Number<uint32_t>() != number ||
      !HasOwnHash(bytes)) {
    return Error::Make(ErrorCode::kCorrupt, "the pack's header is damaged");
  }
  return {};
}

std::vector<uint8_t> EncodePackTrailer(const PackTrailer& trailer) {
  ByteWriter writer;
  writer.Number(trailer.directory_offset);
  writer.Number(trailer.count);
  writer.Number(trailer.number);
  writer.Bytes(trailer.directory_hash);
  writer.Number(trailer.body_checksum);
  writer.Text(kPackEndMagic);
  AppendOwnHash(writer);
  CHECK(writer.size() == kPackTrailerBytes);
  return std::move(writer.bytes());
}

Result<PackTrailer> DecodePackTrailer(std::span<const uint8_t> bytes, uint64_t file_bytes) {
  ByteReader reader(bytes);
  PackTrailer trailer;
  trailer.directory_offset = reader.Number<uint64_t>();
  trailer.count = reader.Number<uint32_t>();
  trailer.number = reader.Number<uint32_t>();
  const std::span<const uint8_t> hash = reader.Bytes(sizeof(Hash));
  std::copy(hash.begin(), hash.end(), trailer.directory_hash.begin());
  trailer.body_checksum = reader.Number<uint64_t>();
  const uint64_t most = uint64_t{kMaxChunkOffset} + kMaxStoredChunkBytes;
  if (bytes.size() != kPackTrailerBytes || !reader.Expect(kPackEndMagic) || !HasOwnHash(bytes) ||
      trailer.count == 0 || trailer.directory_offset < kPackHeaderBytes ||
      trailer.directory_offset > most ||
      trailer.directory_offset + trailer.directory_bytes() + kPackTrailerBytes != file_bytes) {
    return Error::Make(ErrorCode::kCorrupt, "the pack's trailer is damaged");
  }
  return trailer;
}

Result<std::vector<uint32_t>> DecodePackDirectory(std::span<const uint8_t> bytes,
                                                  const PackTrailer& trailer,
                                                  size_t most_chunk_bytes) {
  if (bytes.size() != trailer.directory_bytes() || Sha256(bytes) != trailer.directory_hash) {
    return Error::Make(ErrorCode::kCorrupt, "the pack's directory is damaged");
  }
  std::vector<uint32_t> offsets;
  offsets.reserve(size_t{trailer.count} + 1);
  uint64_t offset = kPackHeaderBytes;
  for (size_t at = 0; at < bytes.size(); at += kPackRecordBytes) {
    const uint16_t length = LoadLe<uint16_t>(bytes.data() + at + kPackNameBytes);
    offsets.push_back(static_cast<uint32_t>(offset));
    offset += length;
    if (length == 0 || length > most_chunk_bytes || offset > trailer.directory_offset) {
      return Error::Make(ErrorCode::kCorrupt, "the pack's directory breaks the format");
    }
  }
  if (offset != trailer.directory_offset) {
    return Error::Make(ErrorCode::kCorrupt, "the pack's directory breaks the format");
  }
  offsets.push_back(static_cast<uint32_t>(offset));
  return offsets;
}

}  // namespace pacsvisor
