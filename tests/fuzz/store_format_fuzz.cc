// Any bytes as a part of a snapshot store (the first byte says which): refused in words, or read to
// what keeps the format's rules and survives another round. Hashes are made right where they would
// end the way of every input.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/memory_store_files.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/entry_source.h"
#include "vmm/store/pack_format.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_format.h"
#include "vmm/store/store_header.h"
#include "vmm/store/table.h"
#include "vmm/store/verify_records.h"

namespace {

using namespace pacsvisor;

template <typename T>
bool Good(const Result<T>& result) {
  CHECK(result.ok() || !result.error().message().empty());
  return result.ok();
}

void TryRoot(std::span<const uint8_t> bytes, PageKeys keys) {
  const Result<SnapshotRoot> root = DecodeRoot(bytes, keys);
  if (!Good(root)) {
    return;
  }
  CHECK(CheckDraft(root->info.draft).ok() && CheckSpaces(root->info.spaces).ok());
  const std::vector<uint8_t> encoded = EncodeRoot(*root);
  const Result<SnapshotRoot> again = DecodeRoot(encoded, keys);
  CHECK(again.ok(), "{}", again.error().message());
  CHECK(EncodeRoot(*again) == encoded);
}

void TryPage(std::span<const uint8_t> bytes, PageKeys keys) {
  const Result<TablePage> page = DecodeTablePage(bytes, 0, kKeyLimit, kGiB, keys);
  if (!Good(page)) {
    return;
  }
  if (page->level > 0) {
    const std::vector<uint8_t> encoded = EncodeLinkPage(page->level, page->links, keys);
    CHECK(std::equal(encoded.begin(), encoded.end(), bytes.begin(), bytes.end()));
    return;
  }
  EntryPageWriter writer(keys);
  for (const TableEntry& entry : page->entries) {
    writer.Add(entry);
  }
  const Result<TablePage> again = DecodeTablePage(writer.Finish(), 0, kKeyLimit, 0, keys);
  CHECK(again.ok() && again->entries == page->entries);
}

// A table of a root page, and of pages directly below it whose hashes are put in.
void TryTable(std::span<const uint8_t> input) {
  if (input.size() < 2) {
    return;
  }
  const uint32_t root_bytes = LoadLe<uint16_t>(input.data());
  std::vector<uint8_t> file(input.begin() + 2, input.end());
  if (root_bytes > file.size()) {
    return;
  }
  const std::span<uint8_t> root = std::span(file).last(root_bytes);
  constexpr size_t kLinkBytes = 56;
  for (size_t at = 8; root_bytes > 0 && root[0] != 0 && at + kLinkBytes <= root.size();
       at += kLinkBytes) {
    const uint64_t offset = LoadLe<uint64_t>(root.data() + at + 8);
    const uint32_t bytes = LoadLe<uint32_t>(root.data() + at + 16);
    if (offset <= file.size() && bytes <= file.size() - offset) {
      const Hash hash = Sha256(std::span(file).subspan(offset, bytes));
      std::copy(hash.begin(), hash.end(), root.begin() + static_cast<ptrdiff_t>(at + 24));
    }
  }
  const TableRef ref{.name = Sha256(root), .file_bytes = file.size() + kTableFooterBytes};
  ByteWriter footer;
  footer.Number(root_bytes);
  footer.Number(kStoreVersion);
  footer.Text(kTableMagic);
  file.insert(file.end(), footer.bytes().begin(), footer.bytes().end());
  const auto files = MemoryStoreFiles::Create();
  CHECK(files->CreateFile("table").value()->Append(file).ok());
  const Result<std::shared_ptr<Table>> table = Table::Open(*files, "table", ref);
  if (!Good(table)) {
    return;
  }
  // What a walk meets is what look-ups find.
  TableSource source(*table);
  uint64_t end = 0;
  for (TableEntry entry;;) {
    const Result<bool> more = source.Next(entry);
    if (!Good(more) || !*more) {
      return;
    }
    CHECK(entry.first >= end && entry.count > 0 && entry.end() <= kKeyLimit);
    if (entry.first > end) {
      const Result<TableAnswer> gap = (*table)->Find(entry.first - 1);
      CHECK(Good(gap) && gap->kind == BlockKind::kNone && gap->end <= entry.first);
    }
    const Result<TableAnswer> found = (*table)->Find(entry.end() - 1);
    CHECK(Good(found) && found->kind == entry.kind && found->end == entry.end() &&
          found->chunk == entry.chunk);
    end = entry.end();
  }
}

void TryPack(std::span<const uint8_t> bytes) {
  if (bytes.size() < kPackTrailerBytes) {
    (void)Good(DecodePackTrailer(bytes, bytes.size()));
    return;
  }
  std::vector<uint8_t> file(bytes.begin(), bytes.end());
  const std::span<uint8_t> end = std::span(file).last(kPackTrailerBytes);
  const auto seal = [&] {
    const Hash own = Sha256(end.first(kPackTrailerBytes - sizeof(Hash)));
    std::copy(own.begin(), own.end(), end.end() - sizeof(Hash));
  };
  seal();
  Result<PackTrailer> trailer = DecodePackTrailer(end, file.size());
  if (!Good(trailer)) {
    return;
  }
  const std::span<const uint8_t> directory =
      std::span(file).subspan(trailer->directory_offset, trailer->directory_bytes());
  trailer->directory_hash = Sha256(directory);
  const Result<std::vector<uint32_t>> offsets =
      DecodePackDirectory(directory, *trailer, kMaxStoredChunkBytes);
  if (Good(offsets)) {
    CHECK(offsets->size() == size_t{trailer->count} + 1 &&
          offsets->back() == trailer->directory_offset &&
          std::is_sorted(offsets->begin(), offsets->end()));
  }
}

void TryContents(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> block(kStoreBlockBytes);
  (void)DecompressChunk(bytes.first(std::min<size_t>(bytes.size(), kStoreBlockBytes)), block);
  if (bytes.size() >= 24) {
    const uint64_t plain_bytes = std::min(LoadLe<uint64_t>(bytes.data() + 16), 4 * kMiB);
    const Result<std::vector<uint8_t>> state = DecodeStateObject(bytes, plain_bytes);
    CHECK(!Good(state) || state->size() == plain_bytes);
  }
}

void TryFrame(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> file(bytes.begin(), bytes.end());
  if (file.size() > sizeof(Hash)) {
    const Hash own = Sha256(std::span(file).first(file.size() - sizeof(Hash)));
    std::copy(own.begin(), own.end(), file.end() - sizeof(Hash));
  }
  if (Good(DecodeStoreHeader(file))) {
    CHECK(file.size() == kHeaderBytes);
  }
  if (Good(DecodeFloor(file))) {
    CHECK(file.size() == kFloorBytes);
  }
  const Result<VerifyCheckpoint> checkpoint = DecodeVerifyCheckpoint(file);
  if (Good(checkpoint)) {
    CHECK(DecodeVerifyCheckpoint(EncodeVerifyCheckpoint(*checkpoint)).value() == *checkpoint);
  }
  const Result<VerifiedTimes> times = DecodeVerifiedTimes(file);
  if (Good(times)) {
    CHECK(DecodeVerifiedTimes(EncodeVerifiedTimes(*times)).value() == *times);
  }
  if (CheckPackHeader(file, 1).ok()) {
    CHECK(file.size() == kPackHeaderBytes);
  }
}

// The files of an encrypted store; and what is sealed, by who has the key: any plain bytes.
void TryKeys(std::span<const uint8_t> bytes) {
  static const std::shared_ptr<const StoreKey> kKey =
      StoreKey::Of(std::vector<uint8_t>(kStoreKeyBytes, 1)).value();
  static const std::shared_ptr<const StoreSecret> kSecret = StoreSecret::Random();
  std::vector<uint8_t> file(bytes.begin(), bytes.end());
  if (file.size() > sizeof(Hash)) {
    const Hash own = Sha256(std::span(file).first(file.size() - sizeof(Hash)));
    std::copy(own.begin(), own.end(), file.end() - sizeof(Hash));
  }
  CHECK(!StoreSecret::Unwrap(file, *kKey).ok() && !kSecret->UnwrapSnapshotKey(file).has_value());
  CHECK(!UnsealRoot({}, bytes).ok());
  CHECK(!UnsealPadded({}, SealType::kPage, {}, bytes).has_value());
  CHECK(UnsealPadded({}, SealType::kPage, {}, SealPadded({}, SealType::kPage, {}, bytes)) ==
        std::vector<uint8_t>(bytes.begin(), bytes.end()));
  const ChunkCodec codec(kSecret);
  std::vector<uint8_t> block(kStoreBlockBytes);
  CHECK(!codec.Decode(bytes, {}, block));
  if (bytes.size() <= kStoreBlockBytes && !bytes.empty()) {
    std::vector<uint8_t> buffer(kMaxStoredChunkBytes);
    (void)codec.Decode(codec.Encode({}, bytes, buffer), {}, block);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::span<const uint8_t> bytes(data + 1, size - 1);
  switch (data[0] % 9) {
    case 0:
      TryRoot(bytes, PageKeys::kNone);
      break;
    case 1:
      TryPage(bytes, PageKeys::kNone);
      break;
    case 2:
      TryTable(bytes);
      break;
    case 3:
      TryPack(bytes);
      break;
    case 4:
      TryContents(bytes);
      break;
    case 5:
      TryFrame(bytes);
      break;
    case 6:
      TryRoot(bytes, PageKeys::kHeld);
      break;
    case 7:
      TryPage(bytes, PageKeys::kHeld);
      break;
    case 8:
      TryKeys(bytes);
      break;
  }
  return 0;
}
