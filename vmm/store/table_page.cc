#include "vmm/store/table_page.h"

#include <algorithm>

#include "vmm/store/pack_format.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr size_t kPageHeaderBytes = 8;
constexpr size_t kPlainLinkBytes = 56;
constexpr size_t kLeastEntryBytes = 2;

enum class EntryCode : uint8_t { kZeroRun = 0, kChunkHere = 1, kChunkAt = 2, kChunkIn = 3 };

std::array<uint8_t, 32> TakeHash(ByteReader& reader) {
  std::array<uint8_t, 32> hash = {};
  const std::span<const uint8_t> bytes = reader.Bytes(hash.size());
  std::copy(bytes.begin(), bytes.end(), hash.begin());
  return hash;
}

constexpr uint32_t RawLength(PageKeys keys) {
  return keys == PageKeys::kHeld ? kMaxStoredChunkBytes : kStoreBlockBytes;
}

// Raw is the common length, and takes one byte this way.
uint64_t LengthCode(uint16_t length, PageKeys keys) {
  return length == RawLength(keys) ? 0 : length;
}

class EntryPageReader {
 public:
  EntryPageReader(ByteReader& reader, PageKeys keys) : reader_(reader), keys_(keys) {}

  bool Next(TableEntry& entry) {
    const uint64_t head = reader_.Varint();
    const uint64_t delta = head >> 2;
    entry = {};
    if (!reader_.ok() || delta >= kKeyLimit - end_) {
      return false;
    }
    entry.first = end_ + delta;
    switch (static_cast<EntryCode>(head & 3)) {
      case EntryCode::kZeroRun:
        entry.kind = BlockKind::kZero;
        entry.count = reader_.Varint();
        break;
      case EntryCode::kChunkIn:
        if (!ReadPack() || !ReadOffset() || !ReadChunk(entry)) {
          return false;
        }
        break;
      case EntryCode::kChunkAt:
        if (!ReadOffset() || !ReadChunk(entry)) {
          return false;
        }
        break;
      case EntryCode::kChunkHere:
        if (!ReadChunk(entry)) {
          return false;
        }
        break;
    }
    // Of one space: a run never passes the last block a space can have.
    const uint64_t room = TableKey(KeySpace(entry.first) + 1, 0) - entry.first;
    if (!reader_.ok() || entry.count == 0 || entry.count > room) {
      return false;
    }
    end_ = entry.end();
    return true;
  }

 private:
  bool ReadPack() {
    const uint64_t pack = reader_.Varint();
    pack_ = pack <= UINT32_MAX ? static_cast<uint32_t>(pack) : 0;
    return pack_ != 0;
  }

  bool ReadOffset() {
    const uint64_t offset = reader_.Varint();
    offset_ = static_cast<uint32_t>(std::min<uint64_t>(offset, UINT32_MAX));
    return offset >= kPackHeaderBytes && offset <= kMaxChunkOffset;
  }

  bool ReadChunk(TableEntry& entry) {
    const uint64_t code = reader_.Varint();
    if (pack_ == 0 || offset_ > kMaxChunkOffset || code >= RawLength(keys_)) {
      return false;
    }
    const uint32_t length = code == 0 ? RawLength(keys_) : static_cast<uint32_t>(code);
    entry.kind = BlockKind::kChunk;
    entry.place = {pack_, offset_, static_cast<uint16_t>(length)};
    entry.chunk.name = TakeHash(reader_);
    if (keys_ == PageKeys::kHeld) {
      entry.chunk.key = TakeHash(reader_);
    }
    offset_ += length;
    return true;
  }

  ByteReader& reader_;
  const PageKeys keys_;
  uint64_t end_ = 0;
  uint32_t pack_ = 0;
  uint32_t offset_ = 0;
};

Error BadPage(std::string_view what) {
  return Error::Make(ErrorCode::kCorrupt, "{} of the page breaks the format", what);
}

Status ReadEntries(ByteReader& reader, uint32_t count, PageKeys keys, TablePage& page) {
  if (count > reader.left() / kLeastEntryBytes) {
    return BadPage("the count");
  }
  page.entries.resize(count);
  EntryPageReader entries(reader, keys);
  for (TableEntry& entry : page.entries) {
    if (!entries.Next(entry) || entry.first < page.lower || entry.end() > page.upper) {
      return BadPage("an entry");
    }
  }
  return {};
}

Status ReadLinks(ByteReader& reader, uint32_t count, PageKeys keys, uint64_t file_bytes,
                 TablePage& page) {
  const size_t link_bytes = kPlainLinkBytes + (keys == PageKeys::kHeld ? sizeof(SealKey) : 0);
  if (count != reader.left() / link_bytes) {
    return BadPage("the count");
  }
  page.links.resize(count);
  uint64_t least = page.lower;
  for (PageLink& link : page.links) {
    link.first = reader.Number<uint64_t>();
    link.offset = reader.Number<uint64_t>();
    link.bytes = reader.Number<uint32_t>();
    const bool zero = reader.ExpectZeroes(4);
    link.hash = TakeHash(reader);
    if (keys == PageKeys::kHeld) {
      link.key = TakeHash(reader);
    }
    if (!zero || link.first < least || link.first >= page.upper ||
        link.bytes > (keys == PageKeys::kHeld ? kMaxStoredPageBytes : kMaxPageBytes) ||
        link.bytes > file_bytes || link.offset > file_bytes - link.bytes) {
      return BadPage("a link");
    }
    least = link.first + 1;
  }
  return {};
}

}  // namespace

void EntryPageWriter::Add(const TableEntry& entry) {
  CHECK(entry.first >= end_ && entry.count > 0 && entry.end() <= kKeyLimit);
  CHECK(KeySpace(entry.first) == KeySpace(entry.end() - 1));
  if (count_ == 0) {
    first_ = entry.first;
  }
  const uint64_t delta = (entry.first - end_) << 2;
  if (entry.kind == BlockKind::kZero) {
    writer_.Varint(delta | static_cast<uint64_t>(EntryCode::kZeroRun));
    writer_.Varint(entry.count);
  } else {
    const ChunkPlace& place = entry.place;
    CHECK(entry.kind == BlockKind::kChunk && entry.count == 1 && place.pack != 0);
    if (place.pack == pack_ && place.offset == offset_) {
      writer_.Varint(delta | static_cast<uint64_t>(EntryCode::kChunkHere));
    } else if (place.pack == pack_) {
      writer_.Varint(delta | static_cast<uint64_t>(EntryCode::kChunkAt));
      writer_.Varint(place.offset);
    } else {
      writer_.Varint(delta | static_cast<uint64_t>(EntryCode::kChunkIn));
      writer_.Varint(place.pack);
      writer_.Varint(place.offset);
    }
    writer_.Varint(LengthCode(place.length, keys_));
    writer_.Bytes(entry.chunk.name);
    if (keys_ == PageKeys::kHeld) {
      writer_.Bytes(entry.chunk.key);
    }
    pack_ = place.pack;
    offset_ = place.offset + place.length;
  }
  end_ = entry.end();
  ++count_;
}

std::span<const uint8_t> EntryPageWriter::Finish() {
  CHECK(count_ > 0 && writer_.size() <= kMaxPageBytes);
  StoreLe(writer_.bytes().data() + 4, count_);
  return writer_.bytes();
}

void EntryPageWriter::Clear() {
  writer_.Clear();
  writer_.Zeroes(kPageHeaderBytes);
  count_ = 0;
  end_ = 0;
  pack_ = 0;
  offset_ = 0;
}

std::vector<uint8_t> EncodeLinkPage(unsigned level, std::span<const PageLink> links,
                                    PageKeys keys) {
  CHECK(level > 0 && level <= kMaxTableLevel && !links.empty());
  ByteWriter writer;
  writer.Number(static_cast<uint8_t>(level));
  writer.Zeroes(3);
  writer.Number(static_cast<uint32_t>(links.size()));
  for (const PageLink& link : links) {
    writer.Number(link.first);
    writer.Number(link.offset);
    writer.Number(link.bytes);
    writer.Zeroes(4);
    writer.Bytes(link.hash);
    if (keys == PageKeys::kHeld) {
      writer.Bytes(link.key);
    }
  }
  CHECK(writer.size() <= kMaxPageBytes);
  return std::move(writer.bytes());
}

Result<TablePage> DecodeTablePage(std::span<const uint8_t> bytes, uint64_t lower, uint64_t upper,
                                  uint64_t file_bytes, PageKeys keys) {
  if (bytes.size() > kMaxPageBytes) {
    return BadPage("the size");
  }
  ByteReader reader(bytes);
  TablePage page;
  page.level = reader.Number<uint8_t>();
  page.lower = lower;
  page.upper = upper;
  const bool zero = reader.ExpectZeroes(3);
  const uint32_t count = reader.Number<uint32_t>();
  if (!reader.ok() || !zero || count == 0 || page.level > kMaxTableLevel) {
    return BadPage("the beginning");
  }
  TRY(page.level == 0 ? ReadEntries(reader, count, keys, page)
                      : ReadLinks(reader, count, keys, file_bytes, page));
  if (!reader.ok() || reader.left() > 0) {
    return BadPage("the end");
  }
  return page;
}

}  // namespace pacsvisor
