#include "vmm/store/chunk_packer.h"

namespace pacsvisor {

Result<std::optional<ChunkPlace>> ChunkPacker::Find(const Hash& name) {
  if (!index_fresh_) {
    TRY(core_.RefreshIndex());
    index_fresh_ = true;
  }
  const std::optional<ChunkPlace> own = TRY(own_chunks_.Find(name));
  return own.has_value() ? Result<std::optional<ChunkPlace>>(own) : core_.FindChunk(name);
}

Result<ChunkPlace> ChunkPacker::Append(const Hash& name, std::span<const uint8_t> stored) {
  if (pack_ == nullptr) {
    pack_ = TRY(PackWriter::Create(core_.files(), next_pack_, core_.header().uid, behind_));
    own_chunks_.SetOpenPack(pack_.get());
    ++next_pack_;
  }
  const ChunkPlace place = TRY(pack_->Append(name, stored));
  own_chunks_.AddToOpenPack(name, place);
  if (pack_->size_bytes() >= core_.tuning().pack_bytes) {
    TRY(Seal());
  }
  return place;
}

Status ChunkPacker::Seal() {
  if (pack_ != nullptr) {
    TRY(pack_->Seal());
    stored_bytes_ += pack_->size_bytes();
    own_chunks_.SetOpenPack(nullptr);
    pack_.reset();
  }
  return {};
}

}  // namespace pacsvisor
