#include "vmm/disk/layer_log.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>

#include "vmm/base/align.h"
#include "vmm/base/byte_order.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kHeaderMagic = "PVLAYMAP";
constexpr std::string_view kBatchMagic = "PVMB";
constexpr uint32_t kPlainVersion = 1;
constexpr uint32_t kSourceVersion = 2;
constexpr size_t kSumBytes = 8;
constexpr size_t kHeaderSumAt = kLogSectorBytes - kSumBytes;
constexpr size_t kBatchHeaderBytes = 24;
constexpr size_t kEntryBytes = 16;
constexpr uint64_t kScanBytes = 1 << 20;

bool HasMagic(std::span<const uint8_t> bytes, std::string_view magic) {
  return std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

// The sectors behind the first that hold a source's name.
uint64_t NameBytes(uint64_t name_bytes) {
  return name_bytes == 0 ? 0 : AlignUp<uint64_t>(name_bytes + kSumBytes, kLogSectorBytes);
}

uint64_t NameSum(std::span<const uint8_t> sectors, uint64_t log_id) {
  return XXH3_64bits_withSeed(sectors.data(), sectors.size() - kSumBytes, log_id);
}

Error HeaderFails(const LayerLogSource& source) {
  return Error::Make(ErrorCode::kCorrupt, "{}: its header fails its check", source.name);
}

Result<std::string> ReadSourceName(const LayerLogSource& source, uint32_t name_bytes,
                                   uint64_t log_id) {
  if (name_bytes == 0 || name_bytes > kMaxSourceNameBytes ||
      NameBytes(name_bytes) > source.size_bytes - kLogSectorBytes) {
    return HeaderFails(source);
  }
  std::vector<uint8_t> sectors(NameBytes(name_bytes));
  TRY(source.read(kLogSectorBytes, sectors));
  if (LoadLe<uint64_t>(&sectors[sectors.size() - kSumBytes]) != NameSum(sectors, log_id)) {
    return HeaderFails(source);
  }
  return std::string(sectors.begin(), sectors.begin() + name_bytes);
}

uint64_t BatchBytes(uint64_t entries) {
  return AlignUp<uint64_t>(kBatchHeaderBytes + entries * kEntryBytes, kLogSectorBytes);
}

// Of a batch whose field for it is zero.
uint64_t BatchSum(std::span<const uint8_t> batch, uint64_t log_id) {
  return XXH3_64bits_withSeed(batch.data(), batch.size(), log_id);
}

struct Batch {
  uint64_t sequence = 0;
  uint32_t entries = 0;
  std::vector<uint8_t> bytes;
};

// The batch that stands at `offset`; none where none does, or not a whole one.
Result<std::optional<Batch>> ReadBatch(const LayerLogSource& source, uint64_t offset,
                                       uint64_t log_id) {
  std::array<uint8_t, kLogSectorBytes> first;
  if (source.size_bytes < offset || source.size_bytes - offset < first.size()) {
    return std::optional<Batch>();
  }
  TRY(source.read(offset, first));
  Batch batch{
      .sequence = LoadLe<uint64_t>(&first[8]), .entries = LoadLe<uint32_t>(&first[4]), .bytes = {}};
  if (!HasMagic(first, kBatchMagic) || batch.entries == 0 || batch.entries > kMaxBatchEntries ||
      BatchBytes(batch.entries) > source.size_bytes - offset) {
    return std::optional<Batch>();
  }
  batch.bytes.resize(BatchBytes(batch.entries));
  TRY(source.read(offset, batch.bytes));
  const uint64_t sum = LoadLe<uint64_t>(&batch.bytes[16]);
  StoreLe<uint64_t>(&batch.bytes[16], 0);
  return BatchSum(batch.bytes, log_id) == sum ? std::optional(std::move(batch))
                                              : std::optional<Batch>();
}

Status ApplyBatch(const LayerLogSource& source, const Batch& batch, BlockMap& map) {
  for (uint32_t i = 0; i < batch.entries; ++i) {
    const uint8_t* entry = &batch.bytes[kBatchHeaderBytes + i * kEntryBytes];
    const uint64_t first = LoadLe<uint64_t>(entry);
    const uint32_t count = LoadLe<uint32_t>(entry + 8);
    const uint8_t layer = entry[12];
    const uint8_t kind = entry[13];
    const bool known = layer <= kMaxLayers && kind <= 2 && (layer != 0 || kind == 0) &&
                       LoadLe<uint16_t>(entry + 14) == 0;
    if (!known || count == 0 || first > map.block_count() || count > map.block_count() - first) {
      return Error::Make(ErrorCode::kCorrupt,
                         "{}: batch {} names {} blocks from {} in layer {} (kind {}), which this "
                         "disk of {} blocks cannot have",
                         source.name, batch.sequence, count, first, layer, kind, map.block_count());
    }
    for (uint64_t block = first; block < first + count; ++block) {
      map.Set(block, BlockPlace::In(layer, static_cast<BlockPlace::Kind>(kind)));
    }
  }
  return {};
}

// Where a batch of this log stands behind `from`: then what fails its check before was not the end.
Result<std::optional<uint64_t>> FindLaterBatch(const LayerLogSource& source, uint64_t from,
                                               uint64_t log_id) {
  std::vector<uint8_t> window;
  for (uint64_t at = from; at < source.size_bytes; at += window.size()) {
    window.resize(std::min(kScanBytes, source.size_bytes - at));
    TRY(source.read(at, window));
    for (uint64_t sector = 0; sector + kLogSectorBytes <= window.size();
         sector += kLogSectorBytes) {
      if (HasMagic(std::span(window).subspan(sector), kBatchMagic)) {
        const std::optional<Batch> batch = TRY(ReadBatch(source, at + sector, log_id));
        if (batch.has_value()) {
          return std::optional(at + sector);
        }
      }
    }
  }
  return std::optional<uint64_t>();
}

}  // namespace

uint64_t LayerLogHeader::size_bytes() const { return kLogSectorBytes + NameBytes(source.size()); }

std::vector<uint8_t> EncodeLogHeader(const LayerLogHeader& header) {
  const size_t name_bytes = header.source.size();
  CHECK(name_bytes <= kMaxSourceNameBytes, "{} bytes of a source's name", name_bytes);
  std::vector<uint8_t> bytes(header.size_bytes());
  std::memcpy(bytes.data(), kHeaderMagic.data(), kHeaderMagic.size());
  StoreLe<uint32_t>(&bytes[8], name_bytes == 0 ? kPlainVersion : kSourceVersion);
  StoreLe<uint32_t>(&bytes[12], kLayerBlockBytes);
  StoreLe<uint64_t>(&bytes[16], header.disk_bytes);
  StoreLe<uint64_t>(&bytes[24], header.base_identity);
  StoreLe<uint64_t>(&bytes[32], header.log_id);
  StoreLe<uint32_t>(&bytes[40], static_cast<uint32_t>(name_bytes));
  StoreLe<uint64_t>(&bytes[kHeaderSumAt], XXH3_64bits(bytes.data(), kHeaderSumAt));
  if (name_bytes != 0) {
    const std::span<uint8_t> sectors = std::span(bytes).subspan(kLogSectorBytes);
    std::memcpy(sectors.data(), header.source.data(), name_bytes);
    StoreLe<uint64_t>(&sectors[sectors.size() - kSumBytes], NameSum(sectors, header.log_id));
  }
  return bytes;
}

std::vector<uint8_t> EncodeLogBatch(uint64_t log_id, uint64_t sequence,
                                    std::span<const PlaceChange> changes) {
  CHECK(!changes.empty() && changes.size() <= kMaxBatchEntries, "{} entries", changes.size());
  std::vector<uint8_t> batch(BatchBytes(changes.size()));
  std::memcpy(batch.data(), kBatchMagic.data(), kBatchMagic.size());
  StoreLe<uint32_t>(&batch[4], static_cast<uint32_t>(changes.size()));
  StoreLe<uint64_t>(&batch[8], sequence);
  uint8_t* entry = &batch[kBatchHeaderBytes];
  for (const PlaceChange& change : changes) {
    CHECK(change.count <= std::numeric_limits<uint32_t>::max() && !change.place.source(),
          "{} blocks to place {}", change.count, change.place.layer());
    StoreLe<uint64_t>(entry, change.first);
    StoreLe<uint32_t>(entry + 8, static_cast<uint32_t>(change.count));
    entry[12] = change.place.layer();
    entry[13] = static_cast<uint8_t>(change.place.kind());
    entry += kEntryBytes;
  }
  StoreLe<uint64_t>(&batch[16], BatchSum(batch, log_id));
  return batch;
}

Result<LayerLogHeader> ReadLogHeader(const LayerLogSource& source) {
  std::array<uint8_t, kLogSectorBytes> sector;
  if (source.size_bytes < sector.size()) {
    return Error::Make(ErrorCode::kCorrupt, "{}: {} bytes are too few for a map log", source.name,
                       source.size_bytes);
  }
  TRY(source.read(0, sector));
  if (!HasMagic(sector, kHeaderMagic) ||
      LoadLe<uint64_t>(&sector[kHeaderSumAt]) != XXH3_64bits(sector.data(), kHeaderSumAt)) {
    return HeaderFails(source);
  }
  const uint32_t version = LoadLe<uint32_t>(&sector[8]);
  if ((version != kPlainVersion && version != kSourceVersion) ||
      LoadLe<uint32_t>(&sector[12]) != kLayerBlockBytes) {
    return Error::Make(ErrorCode::kUnsupported,
                       "{}: written by another pacsvisor (version {}, blocks of {} bytes); run the "
                       "image once with that one",
                       source.name, version, LoadLe<uint32_t>(&sector[12]));
  }
  LayerLogHeader header{.disk_bytes = LoadLe<uint64_t>(&sector[16]),
                        .base_identity = LoadLe<uint64_t>(&sector[24]),
                        .log_id = LoadLe<uint64_t>(&sector[32]),
                        .source = {}};
  if (version == kSourceVersion) {
    header.source = TRY(ReadSourceName(source, LoadLe<uint32_t>(&sector[40]), header.log_id));
  }
  return header;
}

Result<LayerLogEnd> ReplayLog(const LayerLogSource& source, const LayerLogHeader& header,
                              BlockMap& map) {
  LayerLogEnd end{.next_sequence = 1, .end_bytes = header.size_bytes()};
  if (!header.source.empty()) {
    map.SetAllInSource();
  }
  while (true) {
    const std::optional<Batch> batch = TRY(ReadBatch(source, end.end_bytes, header.log_id));
    if (!batch.has_value() || batch->sequence != end.next_sequence) {
      break;
    }
    TRY(ApplyBatch(source, *batch, map));
    end.end_bytes += batch->bytes.size();
    ++end.next_sequence;
  }
  const std::optional<uint64_t> later = TRY(FindLaterBatch(source, end.end_bytes, header.log_id));
  if (later.has_value()) {
    return Error::Make(ErrorCode::kCorrupt,
                       "{}: batch {} at byte {} fails its check, yet a valid one follows at byte "
                       "{}: the log was damaged, and which blocks are where is not known",
                       source.name, end.next_sequence, end.end_bytes, *later);
  }
  return end;
}

}  // namespace pacsvisor
