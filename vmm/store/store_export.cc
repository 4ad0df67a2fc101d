#include "vmm/store/store_export.h"

#include <algorithm>
#include <array>
#include <map>

#include "vmm/store/byte_stream.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/export_format.h"
#include "vmm/store/hold.h"
#include "vmm/store/lease.h"
#include "vmm/store/table_walk.h"

namespace pacsvisor {
namespace {

constexpr size_t kExportPartBytes = kMiB;

class Exporter {
 public:
  Exporter(StoreCore& core, const ByteSink& sink,
           const std::function<void(const VerifyProgress&)>& progress)
      : core_(core), sink_(sink), progress_(progress) {}

  Result<ExportReport> Run(const SnapshotId& id) {
    const std::unique_ptr<StoreFiles::Lock> lease =
        TRY(TakeLease(core_.files(), core_.tuning().owner, id));
    const SnapshotRoot root = TRY(core_.ReadRoot(id));
    report_.info = root.info;
    TRY(CountChunks(root));
    const std::vector<uint8_t> root_bytes =
        TRY(ReadWholeFile(core_.files(), SnapshotPath(id), kMaxRootBytes));
    TRY(Write(EncodeExportHeader({.id = id,
                                  .root_bytes = static_cast<uint32_t>(root_bytes.size()),
                                  .cipher = core_.header().cipher})));
    if (core_.secret() != nullptr) {
      TRY(WriteKeys(id));
    }
    TRY(Write(root_bytes));
    if (root.state.plain_bytes > 0) {
      TRY(WriteState(root.state));
    }
    for (const TableRef& table : root.tables) {
      TRY(WriteFile(ObjectPath(table.name), table.file_bytes));
    }
    TRY(WriteHolds(id));
    TRY(WriteChunks());
    ExportTrailer trailer{.chunks = report_.chunks, .hash = {}};
    TRY(Flush());
    trailer.hash = hash_.Value();
    const std::vector<uint8_t> end = EncodeExportTrailer(trailer);
    report_.bytes += end.size();
    TRY(sink_(end));
    return std::move(report_);
  }

 private:
  struct NamedPlace {
    ChunkPlace place;
    ChunkId chunk;
    friend auto operator<=>(const NamedPlace&, const NamedPlace&) = default;
  };

  Status Write(std::span<const uint8_t> bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return buffer_.size() < kExportPartBytes ? Status() : Flush();
  }

  Status Flush() {
    hash_.Add(buffer_);
    report_.bytes += buffer_.size();
    TRY(sink_(buffer_));
    buffer_.clear();
    return {};
  }

  Status CountChunks(const SnapshotRoot& root) {
    tables_ = TRY(TableStack::Open(core_.files(), root.tables)).tables();
    return ForEachChunk(tables_, [this](const TableEntry& entry) {
      ++references_[entry.place.pack];
      done_.bytes_total += entry.place.length;
    });
  }

  // As they are: who has the key file reads the export, and nobody else.
  Status WriteKeys(const SnapshotId& id) {
    TRY(Write(core_.header().key_check));
    const std::vector<uint8_t> store_key =
        TRY(ReadWholeFile(core_.files(), std::string(kStoreKeyPath), kStoreKeyFileBytes));
    const std::vector<uint8_t> snapshot_key =
        TRY(ReadWholeFile(core_.files(), SnapshotKeyPath(id), kSnapshotKeyFileBytes));
    if (!IsStoreKeyFileWhole(store_key) || !IsSnapshotKeyFileWhole(snapshot_key)) {
      return Error::Make(ErrorCode::kCorrupt, "a file of keys/ is damaged");
    }
    TRY(Write(store_key));
    return Write(snapshot_key);
  }

  Status WriteState(const StateRef& state) {
    const std::string path = ObjectPath(state.name);
    const std::vector<uint8_t> bytes = TRY(ReadWholeFile(core_.files(), path, state.file_bytes));
    if (Sha256(bytes) != state.name) {
      return Error::Make(ErrorCode::kCorrupt, "{}: its SHA-256 is not its name", path);
    }
    return Write(bytes);
  }

  Status WriteFile(const std::string& path, uint64_t file_bytes) {
    const std::unique_ptr<StoreFile> file = TRY(core_.files().OpenForRead(path));
    std::vector<uint8_t> part;
    for (uint64_t at = 0; at < file_bytes; at += part.size()) {
      part.resize(std::min<uint64_t>(kExportPartBytes, file_bytes - at));
      TRY(file->ReadAt(at, part));
      TRY(Write(part));
    }
    return {};
  }

  Status WriteHolds(const SnapshotId& id) {
    std::vector<Hold> holds = TRY(ReadHolds(core_.files()));
    std::erase_if(holds,
                  [&](const Hold& hold) { return hold.snapshot != id || !hold.IsCarried(); });
    holds.resize(std::min<size_t>(holds.size(), kMostExportHolds));
    ByteWriter writer;
    writer.Number(static_cast<uint32_t>(holds.size()));
    for (const Hold& hold : holds) {
      const std::vector<uint8_t> bytes = EncodeHold(hold);
      writer.Number(static_cast<uint16_t>(hold.word.size()));
      writer.Number(static_cast<uint16_t>(bytes.size()));
      writer.Text(hold.word);
      writer.Bytes(bytes);
    }
    return Write(writer.bytes());
  }

  // In the order of their packs, some packs at a time: what is known of their chunks has room in
  // memory.
  Status WriteChunks() {
    for (auto first = references_.begin(); first != references_.end();) {
      auto last = first;
      size_t count = 0;
      while (last != references_.end() &&
             (count == 0 || count + last->second <= core_.tuning().verified_chunks)) {
        count += last->second;
        ++last;
      }
      TRY(WriteChunksOf(first->first, std::prev(last)->first));
      first = last;
    }
    ByteWriter end;
    end.Number(uint16_t{0});
    return Write(end.bytes());
  }

  Status WriteChunksOf(uint32_t first_pack, uint32_t last_pack) {
    std::vector<NamedPlace> chunks;
    TRY(ForEachChunk(tables_, [&](const TableEntry& entry) {
      if (entry.place.pack >= first_pack && entry.place.pack <= last_pack) {
        chunks.push_back({entry.place, entry.chunk});
      }
    }));
    std::sort(chunks.begin(), chunks.end());
    chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
    for (const NamedPlace& chunk : chunks) {
      TRY(WriteChunk(chunk));
      done_.bytes_done += chunk.place.length;
      if (progress_) {
        progress_(done_);
      }
    }
    return {};
  }

  Status WriteChunk(const NamedPlace& chunk) {
    std::array<uint8_t, kMaxStoredChunkBytes> buffer;
    std::array<uint8_t, kStoreBlockBytes> block;
    std::span<const uint8_t> stored = std::span(buffer).first(chunk.place.length);
    const bool there =
        core_.packs().Read(chunk.place, std::span(buffer).first(chunk.place.length)).ok() &&
        core_.codec().Decode(stored, chunk.chunk, block);
    if (!there) {
      TRY(core_.ReadChunk(chunk.chunk, chunk.place, block));  // wherever it is
      stored = core_.codec().Encode(chunk.chunk, compressor_.Compress(block), buffer);
    }
    ByteWriter length;
    length.Number(static_cast<uint16_t>(stored.size()));
    TRY(Write(length.bytes()));
    if (core_.secret() != nullptr) {
      TRY(Write(chunk.chunk.name));
    }
    ++report_.chunks;
    return Write(stored);
  }

  StoreCore& core_;
  const ByteSink& sink_;
  const std::function<void(const VerifyProgress&)>& progress_;
  std::vector<std::shared_ptr<Table>> tables_;
  std::map<uint32_t, size_t> references_;  // of the tables, by pack
  ChunkCompressor compressor_;
  Sha256Stream hash_;
  std::vector<uint8_t> buffer_;
  VerifyProgress done_;
  ExportReport report_;
};

}  // namespace

Result<ExportReport> ExportSnapshot(StoreCore& core, const SnapshotId& id, const ByteSink& sink,
                                    const std::function<void(const VerifyProgress&)>& progress) {
  return Exporter(core, sink, progress).Run(id);
}

}  // namespace pacsvisor
