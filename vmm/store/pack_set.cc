#include "vmm/store/pack_set.h"

#include <array>

#include "vmm/store/store_format.h"

namespace pacsvisor {

Result<std::shared_ptr<StoreFile>> PackSet::Open(uint32_t number) {
  {
    const MutexLock lock(mutex_);
    const auto found = open_.find(number);
    if (found != open_.end()) {
      return found->second;
    }
  }
  std::shared_ptr<StoreFile> file = TRY(files_.OpenForRead(PackPath(number)));
  const MutexLock lock(mutex_);
  if (open_.size() >= kOpenFiles) {
    open_.erase(open_.begin());  // the oldest: later packs hold what changed lately
  }
  return open_.emplace(number, std::move(file)).first->second;
}

Status PackSet::Read(const ChunkPlace& place, std::span<uint8_t> bytes) {
  const std::shared_ptr<StoreFile> file = TRY(Open(place.pack));
  return file->ReadAt(place.offset, bytes);
}

Result<PackTrailer> PackSet::ReadTrailer(uint32_t number) {
  const std::shared_ptr<StoreFile> file = TRY(Open(number));
  const uint64_t size_bytes = TRY(file->SizeBytes());
  if (size_bytes < kPackHeaderBytes + kPackTrailerBytes) {
    return Error::Make(ErrorCode::kCorrupt, "{} has {} bytes only", PackPath(number), size_bytes);
  }
  std::array<uint8_t, kPackTrailerBytes> end;
  TRY(file->ReadAt(size_bytes - end.size(), end));
  Result<PackTrailer> trailer = DecodePackTrailer(end, size_bytes);
  return trailer.ok()
             ? std::move(trailer)
             : Result<PackTrailer>(std::move(trailer).error().WithContext(PackPath(number)));
}

Result<PackContents> PackSet::ReadContents(uint32_t number) {
  const std::string path = PackPath(number);
  const std::shared_ptr<StoreFile> file = TRY(Open(number));
  const PackTrailer trailer = TRY(ReadTrailer(number));
  std::array<uint8_t, kPackHeaderBytes> header;
  TRY(file->ReadAt(0, header));
  PackContents contents;
  const Status header_good = CheckPackHeader(header, number);
  if (!header_good.ok()) {
    Error error = header_good.error();
    return std::move(error).WithContext(path);
  }
  contents.trailer = trailer;
  contents.records.resize(trailer.directory_bytes());
  TRY(file->ReadAt(trailer.directory_offset, contents.records));
  Result<std::vector<uint32_t>> offsets =
      DecodePackDirectory(contents.records, trailer, most_chunk_bytes_);
  if (!offsets.ok()) {
    return std::move(offsets).error().WithContext(path);
  }
  contents.offsets = std::move(offsets).value();
  return contents;
}

void PackSet::Forget() {
  const MutexLock lock(mutex_);
  open_.clear();
}

}  // namespace pacsvisor
