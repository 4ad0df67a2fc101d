#include "vmm/store/chunk_index.h"

#include <algorithm>
#include <array>
#include <bit>

#include "vmm/base/byte_order.h"

namespace pacsvisor {

void ChunkIndex::AddPack(uint32_t number, const PackContents& contents) {
  CHECK(!HasPack(number));
  Reserve(used_ + contents.trailer.count);
  for (uint32_t i = 0; i < contents.trailer.count; ++i) {
    Insert({LoadLe<uint64_t>(contents.records.data() + i * kPackRecordBytes), number, i});
  }
  offsets_[number] = contents.offsets;
}

void ChunkIndex::AddToOpenPack(const Hash& name, const ChunkPlace& place) {
  CHECK(open_ != nullptr && place.pack == open_->number());
  std::vector<uint32_t>& offsets = offsets_[place.pack];
  if (offsets.empty()) {
    offsets.push_back(place.offset);
  }
  CHECK(offsets.back() == place.offset);
  Reserve(used_ + 1);
  Insert({LoadLe<uint64_t>(name.data()), place.pack, static_cast<uint32_t>(offsets.size() - 1)});
  offsets.push_back(place.offset + place.length);
}

std::vector<uint32_t> ChunkIndex::packs() const {
  std::vector<uint32_t> numbers;
  for (const auto& [number, offsets] : offsets_) {
    numbers.push_back(number);
  }
  return numbers;
}

Result<std::optional<ChunkPlace>> ChunkIndex::Find(
    const Hash& name, const std::function<bool(const ChunkPlace&)>& accept) {
  if (slots_.empty()) {
    return std::optional<ChunkPlace>();
  }
  const uint64_t prefix = LoadLe<uint64_t>(name.data());
  const size_t mask = slots_.size() - 1;
  for (size_t i = prefix & mask; slots_[i].pack != 0; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    const auto pack = offsets_.find(slot.pack);
    if (slot.prefix != prefix || pack == offsets_.end()) {
      continue;
    }
    const std::vector<uint32_t>& offsets = pack->second;
    const ChunkPlace place{slot.pack, offsets[slot.index],
                           static_cast<uint16_t>(offsets[slot.index + 1] - offsets[slot.index])};
    const bool matches = TRY(NameMatches(slot, name));
    if (matches && (!accept || accept(place))) {
      return std::optional(place);
    }
  }
  return std::optional<ChunkPlace>();
}

Result<bool> ChunkIndex::NameMatches(const Slot& slot, const Hash& name) {
  std::array<uint8_t, kPackNameBytes> bytes;
  const size_t at = size_t{slot.index} * kPackRecordBytes;
  if (open_ != nullptr && open_->number() == slot.pack) {
    std::copy_n(open_->directory().begin() + static_cast<ptrdiff_t>(at), bytes.size(),
                bytes.begin());
  } else {
    const std::shared_ptr<StoreFile> file = TRY(packs_.Open(slot.pack));
    TRY(file->ReadAt(offsets_.at(slot.pack).back() + at, bytes));
  }
  return std::equal(bytes.begin(), bytes.end(), name.begin());
}

void ChunkIndex::Insert(const Slot& slot) {
  const size_t mask = slots_.size() - 1;
  size_t i = slot.prefix & mask;
  while (slots_[i].pack != 0) {
    i = (i + 1) & mask;
  }
  slots_[i] = slot;
  ++used_;
}

void ChunkIndex::Reserve(size_t chunks) {
  constexpr size_t kLeastSlots = 1024;
  if (chunks * 4 <= slots_.size() * 3) {
    return;
  }
  const std::vector<Slot> old = std::move(slots_);
  slots_.assign(std::max(kLeastSlots, std::bit_ceil(chunks * 3 / 2)), Slot{});
  used_ = 0;
  for (const Slot& slot : old) {
    if (slot.pack != 0) {
      Insert(slot);
    }
  }
}

void ChunkIndex::Clear() {
  slots_ = {};
  used_ = 0;
  offsets_.clear();
}

}  // namespace pacsvisor
