#include "vmm/store/export_format.h"

#include <algorithm>

#include "vmm/store/byte_stream.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kExportMagic = "PVEXPRT1";
constexpr std::string_view kExportEndMagic = "PVEXPEND";
constexpr size_t kExportZeroes = 8;

}  // namespace

std::vector<uint8_t> EncodeExportHeader(const ExportHeader& header) {
  ByteWriter writer;
  writer.Text(kExportMagic);
  writer.Number(kStoreVersion);
  writer.Number(kStoreBlockBytes);
  writer.Number(static_cast<uint32_t>(header.cipher));
  writer.Number(header.root_bytes);
  writer.Bytes(header.id.bytes());
  writer.Zeroes(kExportZeroes);
  CHECK(writer.size() == kExportHeaderBytes);
  return std::move(writer.bytes());
}

Result<ExportHeader> DecodeExportHeader(std::span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  if (!reader.Expect(kExportMagic)) {
    return Error::Make(ErrorCode::kCorrupt, "this is no exported snapshot");
  }
  const uint32_t version = reader.Number<uint32_t>();
  const uint32_t block_bytes = reader.Number<uint32_t>();
  const uint32_t cipher = reader.Number<uint32_t>();
  if (version > kStoreVersion || block_bytes != kStoreBlockBytes || cipher > 1) {
    return Error::Make(ErrorCode::kUnsupported,
                       "the export has format version {}, blocks of {} bytes and cipher {}, which "
                       "this program does not know: use a newer pacsvisor",
                       version, block_bytes, cipher);
  }
  ExportHeader header{.id = {},
                      .root_bytes = reader.Number<uint32_t>(),
                      .cipher = static_cast<StoreCipher>(cipher)};
  const std::span<const uint8_t> id = reader.Bytes(SnapshotId::kBytes);
  if (version != kStoreVersion || !reader.ExpectZeroes(kExportZeroes) || !reader.ok() ||
      reader.left() != 0 || header.root_bytes > SealedRootBytes(kMaxRootBytes)) {
    return Error::Make(ErrorCode::kCorrupt, "the export's header is damaged");
  }
  std::array<uint8_t, SnapshotId::kBytes> id_bytes;
  std::copy(id.begin(), id.end(), id_bytes.begin());
  header.id = SnapshotId(id_bytes);
  return header;
}

std::vector<uint8_t> EncodeExportTrailer(const ExportTrailer& trailer) {
  ByteWriter writer;
  writer.Number(trailer.chunks);
  writer.Bytes(trailer.hash);
  writer.Text(kExportEndMagic);
  CHECK(writer.size() == kExportTrailerBytes);
  return std::move(writer.bytes());
}

Result<ExportTrailer> DecodeExportTrailer(std::span<const uint8_t> bytes) {
  ByteReader reader(bytes);
  ExportTrailer trailer{.chunks = reader.Number<uint64_t>(), .hash = {}};
  const std::span<const uint8_t> hash = reader.Bytes(sizeof(Hash));
  if (!reader.Expect(kExportEndMagic) || reader.left() != 0) {
    return Error::Make(ErrorCode::kCorrupt, "the export's end is damaged");
  }
  std::copy(hash.begin(), hash.end(), trailer.hash.begin());
  return trailer;
}

}  // namespace pacsvisor
