#include "vmm/store/living_chunks.h"

#include <algorithm>
#include <array>

#include "vmm/base/log.h"
#include "vmm/store/body_checksum.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/table_walk.h"

namespace pacsvisor {

Status LivingChunks::LearnPacks() {
  for (const uint32_t number : TRY(core_.CommittedPacks())) {
    Result<PackContents> contents = core_.packs().ReadContents(number);
    if (!contents.ok() && contents.error().code() == ErrorCode::kCorrupt) {
      Log(LogLevel::kWarning, "{}; it is left as it is", contents.error().message());
      unreadable_packs_.insert(number);
      continue;
    }
    if (!contents.ok() && contents.error().code() == ErrorCode::kNotFound) {
      continue;  // another prune has removed it just now
    }
    PackContents known = TRY(std::move(contents));
    index_.AddPack(number, known);
    const uint64_t file_bytes =
        known.trailer.directory_offset + known.trailer.directory_bytes() + kPackTrailerBytes;
    packs_[number] = {.offsets = std::move(known.offsets),
                      .living = std::vector<bool>(known.trailer.count),
                      .file_bytes = file_bytes};
  }
  return {};
}

Status LivingChunks::DropMissingPacks() {
  std::set<uint32_t> there;
  for (const std::string& name : TRY(core_.files().List("packs"))) {
    if (const std::optional<uint32_t> number = PackNumber(name)) {
      there.insert(*number);
    }
  }
  std::vector<uint32_t> gone;
  for (const auto& [number, pack] : packs_) {
    if (!there.contains(number)) {
      gone.push_back(number);
    }
  }
  for (const uint32_t number : gone) {
    DropPack(number);
  }
  return {};
}

void LivingChunks::DropPack(uint32_t number) {
  packs_.erase(number);
  index_.DropPack(number);
}

Status LivingChunks::Mark(const SnapshotRoot& root) {
  for (const TableRef& ref : root.tables) {
    if (marked_tables_.contains(ref.name)) {
      continue;
    }
    const std::shared_ptr<Table> table = TRY(Table::Open(core_.files(), ObjectPath(ref.name), ref));
    Status marked;
    WalkTable(
        *table,
        [&](const TablePage& page) {
          for (const TableEntry& entry : page.entries) {
            if (marked.ok() && entry.kind == BlockKind::kChunk) {
              marked = MarkChunk(entry.chunk.name);
            }
          }
        },
        [&](const Error& error) { marked = marked.ok() ? Status(error) : marked; });
    TRY(marked);
    marked_tables_.insert(ref.name);
  }
  return {};
}

Status LivingChunks::MarkChunk(const Hash& name) {
  const auto mark = [this](const ChunkPlace& place) {
    Pack& pack = packs_.at(place.pack);
    const auto found = std::lower_bound(pack.offsets.begin(), pack.offsets.end(), place.offset);
    const auto index = static_cast<size_t>(found - pack.offsets.begin());
    if (!pack.living[index]) {
      pack.living[index] = true;
      ++pack.living_chunks;
      pack.living_bytes += place.length;
    }
    return false;  // there may be another
  };
  Result<std::optional<ChunkPlace>> found = index_.Find(name, mark);
  while (!found.ok() && found.error().code() == ErrorCode::kNotFound) {
    const size_t before = packs_.size();
    TRY(DropMissingPacks());
    if (packs_.size() == before) {
      break;
    }
    found = index_.Find(name, mark);
  }
  return found.ok() ? Status() : Status(found.error());
}

Result<bool> LivingChunks::HasCopy(const Hash& name, const std::set<uint32_t>& without) {
  std::array<uint8_t, kStoreBlockBytes> stored;
  std::array<uint8_t, kStoreBlockBytes> block;
  const std::optional<ChunkPlace> found = TRY(index_.Find(name, [&](const ChunkPlace& place) {
    if (without.contains(place.pack)) {
      return false;
    }
    if (core_.secret() != nullptr) {
      return IsPackWhole(place.pack);
    }
    const std::span<uint8_t> bytes = std::span(stored).first(place.length);
    return core_.packs().Read(place, bytes).ok() &&
           core_.codec().Decode(bytes, {.name = name, .key = {}}, block);
  }));
  return found.has_value();
}

bool LivingChunks::IsPackWhole(uint32_t number) {
  const auto known = whole_packs_.find(number);
  if (known != whole_packs_.end()) {
    return known->second;
  }
  const Result<PackContents> contents = core_.packs().ReadContents(number);
  bool whole = contents.ok();
  BodyChecksum checksum;
  std::vector<uint8_t> part;
  for (uint64_t at = 0; whole && at < contents->trailer.directory_offset; at += part.size()) {
    part.resize(std::min<uint64_t>(kMiB, contents->trailer.directory_offset - at));
    const Result<std::shared_ptr<StoreFile>> file = core_.packs().Open(number);
    whole = file.ok() && (*file)->ReadAt(at, part).ok();
    checksum.Add(part);
  }
  whole = whole && checksum.Value() == contents->trailer.body_checksum;
  whole_packs_[number] = whole;
  return whole;
}

}  // namespace pacsvisor
