#include "vmm/store/pack_writer.h"

#include "vmm/store/store_format.h"

namespace pacsvisor {

Result<std::unique_ptr<PackWriter>> PackWriter::Create(StoreFiles& files, uint32_t number,
                                                       const StoreUid& uid, WriteBehind* behind) {
  std::string path = fmt::format("tmp/{:08x}.pack", number);
  std::unique_ptr<StoreFile> file = TRY(files.CreateFile(path));
  std::unique_ptr<PackWriter> writer(
      new PackWriter(files, number, std::move(path), std::move(file), behind));
  const std::vector<uint8_t> header = EncodePackHeader(number, uid);
  writer->checksum_.Add(header);
  TRY(writer->out_.Append(header));
  return writer;
}

Result<ChunkPlace> PackWriter::Append(const Hash& name, std::span<const uint8_t> stored) {
  CHECK(!stored.empty() && stored.size() <= kMaxStoredChunkBytes);
  const uint64_t offset = out_.offset_bytes();
  CHECK(offset <= kMaxChunkOffset);
  checksum_.Add(stored);
  TRY(out_.Append(stored));
  const auto length = static_cast<uint16_t>(stored.size());
  directory_.Bytes(std::span(name).first(kPackNameBytes));
  directory_.Number(length);
  return ChunkPlace{number_, static_cast<uint32_t>(offset), length};
}

Status PackWriter::Seal() {
  const PackTrailer trailer{.directory_offset = out_.offset_bytes(),
                            .count = static_cast<uint32_t>(directory_.size() / kPackRecordBytes),
                            .number = number_,
                            .directory_hash = Sha256(directory_.bytes()),
                            .body_checksum = checksum_.Value()};
  CHECK(trailer.count > 0);
  TRY(out_.Append(directory_.bytes()));
  TRY(out_.Append(EncodePackTrailer(trailer)));
  TRY(out_.Sync());
  return files_.Rename(path_, PackPath(number_));
}

}  // namespace pacsvisor
