#include "vmm/store/store_import.h"

#include <algorithm>
#include <array>
#include <map>

#include "vmm/base/log.h"
#include "vmm/store/append_buffer.h"
#include "vmm/store/byte_stream.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/chunk_packer.h"
#include "vmm/store/export_format.h"
#include "vmm/store/hold.h"
#include "vmm/store/snapshot_arrival.h"
#include "vmm/store/store_reader.h"
#include "vmm/store/table_walk.h"

namespace pacsvisor {
namespace {

constexpr size_t kImportPartBytes = kMiB;
// More than any store will ever have: a root beyond would leave no numbers for new packs.
constexpr uint32_t kMostPacks = 1u << 31;

// Takes bytes out of a source in order, and hashes them.
class ExportStream {
 public:
  explicit ExportStream(const ByteSource& source) : source_(source) {}

  Status Take(std::span<uint8_t> bytes) {
    const std::span<uint8_t> all = bytes;
    while (!bytes.empty()) {
      if (begin_ == end_) {
        TRY(Fill());
        if (begin_ == end_) {
          return Error::Make(ErrorCode::kCorrupt, "the export ends at byte {}, too early",
                             taken_bytes_ + (all.size() - bytes.size()));
        }
      }
      const size_t part = std::min(bytes.size(), end_ - begin_);
      std::copy_n(buffer_.begin() + static_cast<ptrdiff_t>(begin_), part, bytes.begin());
      begin_ += part;
      bytes = bytes.subspan(part);
    }
    taken_bytes_ += all.size();
    if (hashes_) {
      hash_.Add(all);
    }
    return {};
  }

  // Whether nothing follows.
  Result<bool> AtEnd() {
    if (begin_ == end_) {
      TRY(Fill());
    }
    return begin_ == end_;
  }

  uint64_t taken_bytes() const { return taken_bytes_; }
  // Of all that was taken; what is taken after that is not hashed.
  Hash EndHash() {
    hashes_ = false;
    return hash_.Value();
  }

 private:
  Status Fill() {
    begin_ = 0;
    end_ = TRY(source_(buffer_));
    CHECK(end_ <= buffer_.size());
    return {};
  }

  const ByteSource& source_;
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(kImportPartBytes);
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t taken_bytes_ = 0;
  bool hashes_ = true;
  Sha256Stream hash_;
};

Error Damaged(std::string_view part) {
  return Error::Make(ErrorCode::kCorrupt,
                     "{} of the export is damaged: bring the file again from where it was made",
                     part);
}

class Importer {
 public:
  Importer(StoreCore& core, const ByteSource& source,
           const std::function<void(const VerifyProgress&)>& progress)
      : core_(core), files_(core.files()), stream_(source), progress_(progress), arrival_(core) {}

  Result<ImportReport> Run() {
    TRY(TakeRoot());
    const std::unique_ptr<StoreFiles::Lock> lock =
        TRY(core_.LockForWriting(", which imports a snapshot"));
    const uint32_t next_pack = TRY(core_.CleanUp());
    if (core_.ReadRoot(root_.info.id).ok()) {
      report_.was_there = true;
      report_.info = root_.info;
      return std::move(report_);
    }
    ChunkPacker packer(core_, next_pack);
    const Status done = TakeAll(packer);
    if (!done.ok()) {
      packer.GiveUp();
      tables_.clear();
      const Result<uint32_t> cleaned = core_.CleanUp();
      if (!cleaned.ok()) {
        Log(LogLevel::kDebug, "left for the next writer: {}", cleaned.error().message());
      }
      return done.error();
    }
    (void)files_.Remove(std::string(kWritingPath)).ok();
    report_.info = root_.info;
    report_.bytes = stream_.taken_bytes();
    return std::move(report_);
  }

 private:
  Status TakeRoot() {
    std::array<uint8_t, kExportHeaderBytes> bytes;
    TRY(stream_.Take(bytes));
    const ExportHeader header = TRY(DecodeExportHeader(bytes));
    TRY(TakeKeys(header.cipher));
    root_bytes_.resize(header.root_bytes);
    TRY(stream_.Take(root_bytes_));
    if (SnapshotId(Sha256(root_bytes_)) != header.id) {
      return Damaged("the root");
    }
    root_ = TRY(key_.has_value() ? UnsealRoot(*key_, root_bytes_) : DecodeRoot(root_bytes_));
    if (root_.last_pack > kMostPacks || root_.state.file_bytes > 2 * kMaxStateBytes) {
      return Damaged("the root");
    }
    return {};
  }

  Status TakeKeys(StoreCipher cipher) {
    const StoreSecret* const secret = core_.secret();
    if ((cipher == StoreCipher::kNone) != (secret == nullptr)) {
      return Error::Make(ErrorCode::kUnsupported,
                         "the export is {}encrypted and the store in {} is{}: import it into a "
                         "store of its own",
                         secret == nullptr ? "" : "not ", files_.name(),
                         secret == nullptr ? " not" : "");
    }
    if (secret == nullptr) {
      return {};
    }
    std::array<uint8_t, kExportKeyBytes> keys;
    TRY(stream_.Take(keys));
    const std::span<const uint8_t, kExportKeyBytes> bytes = keys;
    if (!secret->IsChecked(bytes.first<kKeyCheckBytes>())) {
      return Error::Make(
          ErrorCode::kPermissionDenied,
          "the export is encrypted for another store than that in {}: import it into "
          "an empty directory, with the key file of the store that it came from",
          files_.name());
    }
    key_ = secret->UnwrapSnapshotKey(bytes.last<kSnapshotKeyFileBytes>());
    return key_.has_value() ? Status() : Status(Damaged("the key"));
  }

  Status TakeAll(ChunkPacker& packer) {
    TRY(files_.CreateFile(std::string(kWritingPath)));
    TRY(TakeState());
    TRY(TakeTables());
    TRY(TakeHolds());
    TRY(TakeChunks(packer));
    TRY(TakeTrailer());
    TRY(CheckComplete(packer));
    TRY(packer.Seal());
    if (key_.has_value()) {
      TRY(ProveChunks(packer));
    }
    TRY(arrival_.Commit(packer, {.id = root_.info.id, .bytes = root_bytes_, .key = key_}, holds_));
    report_.stored_bytes = packer.stored_bytes();
    return {};
  }

  // What comes next, `file_bytes` long, into a file under tmp/.
  Status TakeFile(const std::string& path, uint64_t file_bytes, Sha256Stream* hash) {
    AppendBuffer out(TRY(files_.CreateFile(path)));
    std::vector<uint8_t> part;
    for (uint64_t left = file_bytes; left > 0; left -= part.size()) {
      part.resize(std::min<uint64_t>(kImportPartBytes, left));
      TRY(stream_.Take(part));
      if (hash != nullptr) {
        hash->Add(part);
      }
      TRY(out.Append(part));
      Tell();
    }
    return out.Sync();
  }

  Status TakeState() {
    if (root_.state.plain_bytes == 0) {
      return {};
    }
    Sha256Stream hash;
    const std::string path = SnapshotArrival::kStatePath;
    TRY(TakeFile(path, root_.state.file_bytes, &hash));
    arrival_.Add(root_.state.name, path);
    if (hash.Value() != root_.state.name) {
      return Damaged("the state");
    }
    const Result<std::vector<uint8_t>> state = ReadStateFile(files_, path, root_.state);
    return state.ok() || state.error().code() != ErrorCode::kCorrupt
               ? (state.ok() ? Status() : Status(state.error()))
               : Status(Damaged("the state"));
  }

  Status TakeTables() {
    for (size_t i = 0; i < root_.tables.size(); ++i) {
      const TableRef& ref = root_.tables[i];
      const std::string path = SnapshotArrival::TablePath(i);
      TRY(TakeFile(path, ref.file_bytes, nullptr));
      arrival_.Add(ref.name, path);
      Result<std::shared_ptr<Table>> table = Table::Open(files_, path, ref);
      if (!table.ok()) {
        return table.error().code() == ErrorCode::kCorrupt ? Damaged("a table") : table.error();
      }
      uint64_t page_bytes = (*table)->root_bytes() + kTableFooterBytes;
      Status good;
      WalkTable(
          **table,
          [&](const TablePage& page) {
            for (const PageLink& link : page.links) {
              page_bytes += link.bytes;
            }
          },
          [&](const Error& error) { good = error; });
      if (!good.ok() || page_bytes != ref.file_bytes) {
        return good.ok() || good.error().code() == ErrorCode::kCorrupt ? Status(Damaged("a table"))
                                                                       : good;
      }
      tables_.push_back(std::move(table).value());
    }
    return {};
  }

  Status TakeHolds() {
    std::array<uint8_t, 4> count;
    TRY(stream_.Take(count));
    const uint32_t holds = LoadLe<uint32_t>(count.data());
    if (holds > kMostExportHolds) {
      return Damaged("a hold");
    }
    for (uint32_t i = 0; i < holds; ++i) {
      std::array<uint8_t, 4> lengths;
      TRY(stream_.Take(lengths));
      std::vector<uint8_t> word(LoadLe<uint16_t>(lengths.data()));
      std::vector<uint8_t> bytes(LoadLe<uint16_t>(lengths.data() + 2));
      TRY(stream_.Take(word));
      TRY(stream_.Take(bytes));
      Result<Hold> hold = DecodeHold(bytes);
      if (!hold.ok() || !IsHoldWord(std::string(word.begin(), word.end()))) {
        return Damaged("a hold");
      }
      hold->snapshot = root_.info.id;
      hold->word.assign(word.begin(), word.end());
      if (hold->IsCarried()) {
        holds_.push_back(std::move(hold).value());
      }
    }
    return {};
  }

  Status TakeChunks(ChunkPacker& packer) {
    std::array<uint8_t, kMaxStoredChunkBytes> buffer;
    std::array<uint8_t, kStoreBlockBytes> block;
    const size_t most_bytes = core_.codec().most_stored_bytes();
    while (true) {
      std::array<uint8_t, 2> length;
      TRY(stream_.Take(length));
      const std::span<uint8_t> stored =
          std::span(buffer).first(std::min<size_t>(LoadLe<uint16_t>(length.data()), most_bytes));
      if (stored.size() != LoadLe<uint16_t>(length.data())) {
        return DamagedChunk();
      }
      if (stored.empty()) {
        return {};
      }
      Hash name;
      if (key_.has_value()) {  // proven when it can be: by the tables, which have its key
        TRY(stream_.Take(name));
        TRY(stream_.Take(stored));
      } else {
        TRY(stream_.Take(stored));
        if (!DecompressChunk(stored, block)) {
          return DamagedChunk();
        }
        name = Sha256(block);
      }
      const std::optional<ChunkPlace> known = TRY(packer.Find(name));
      if (known.has_value()) {
        ++report_.known_chunks;
      } else {
        const ChunkPlace place = TRY(packer.Append(name, stored));
        ++appended_[place.pack];
      }
      ++report_.chunks;
      Tell();
    }
  }

  Error DamagedChunk() const {
    return Damaged(fmt::format("chunk {}, before byte {},", report_.chunks, stream_.taken_bytes()));
  }

  Status TakeTrailer() {
    const Hash hash = stream_.EndHash();
    std::array<uint8_t, kExportTrailerBytes> bytes;
    TRY(stream_.Take(bytes));
    const ExportTrailer trailer = TRY(DecodeExportTrailer(bytes));
    if (trailer.hash != hash || trailer.chunks != report_.chunks) {
      return Error::Make(ErrorCode::kCorrupt,
                         "a byte of the export is not as written: bring the file again from where "
                         "it was made");
    }
    const bool at_end = TRY(stream_.AtEnd());
    if (!at_end) {
      return Error::Make(ErrorCode::kCorrupt, "the export goes on behind its end, at byte {}",
                         stream_.taken_bytes());
    }
    return {};
  }

  // Whatever the tables name is there.
  Status CheckComplete(ChunkPacker& packer) {
    for (const std::shared_ptr<Table>& table : tables_) {
      Status complete;
      const auto check = [&](const TableEntry& entry) -> Status {
        const std::optional<ChunkPlace> place = TRY(packer.Find(entry.chunk.name));
        return place.has_value()
                   ? Status()
                   : Status(Error::Make(ErrorCode::kCorrupt, "the export lacks chunk {}",
                                        HexText(entry.chunk.name)));
      };
      WalkTable(
          *table,
          [&](const TablePage& page) {
            for (const TableEntry& entry : page.entries) {
              if (complete.ok() && entry.kind == BlockKind::kChunk) {
                complete = check(entry);
              }
            }
          },
          [&](const Error& error) { complete = error; });
      TRY(complete);
    }
    return {};
  }

  // Of an encrypted store: every chunk that was written is one that a table names, and opens with
  // the key from there. Some packs at a time, so that their keys have room in memory.
  Status ProveChunks(ChunkPacker& packer) {
    for (auto first = appended_.begin(); first != appended_.end();) {
      auto end = first;
      size_t count = 0;
      while (end != appended_.end() &&
             (count == 0 || count + end->second <= core_.tuning().verified_chunks)) {
        count += end->second;
        ++end;
      }
      TRY(ProvePacks(packer, first->first, std::prev(end)->first, count));
      first = end;
    }
    return {};
  }

  Status ProvePacks(ChunkPacker& packer, uint32_t first, uint32_t last, size_t count) {
    struct Named {
      ChunkPlace place;
      ChunkId chunk;
      auto operator<=>(const Named&) const = default;
    };
    std::vector<Named> named;
    const auto add = [&](const ChunkId& chunk) -> Status {
      const std::optional<ChunkPlace> place = TRY(packer.Find(chunk.name));
      if (place.has_value() && place->pack >= first && place->pack <= last) {
        named.push_back({*place, chunk});
      }
      return {};
    };
    for (const std::shared_ptr<Table>& table : tables_) {
      Status walked;
      WalkTable(
          *table,
          [&](const TablePage& page) {
            for (const TableEntry& entry : page.entries) {
              if (walked.ok() && entry.kind == BlockKind::kChunk) {
                walked = add(entry.chunk);
              }
            }
          },
          [&](const Error& error) { walked = error; });
      TRY(walked);
    }
    std::sort(named.begin(), named.end());
    named.erase(std::unique(named.begin(), named.end()), named.end());
    std::array<uint8_t, kMaxStoredChunkBytes> buffer;
    std::array<uint8_t, kStoreBlockBytes> block;
    for (const Named& one : named) {
      const std::span<uint8_t> stored = std::span(buffer).first(one.place.length);
      TRY(core_.packs().Read(one.place, stored));
      if (!core_.codec().Decode(stored, one.chunk, block)) {
        return Damaged("a chunk");
      }
    }
    // Others could pass for what a later snapshot names.
    return named.size() == count ? Status() : Status(Damaged("a chunk that no table names"));
  }

  void Tell() {
    if (progress_) {
      progress_({.bytes_done = stream_.taken_bytes(), .bytes_total = 0});
    }
  }

  StoreCore& core_;
  StoreFiles& files_;
  ExportStream stream_;
  const std::function<void(const VerifyProgress&)>& progress_;
  std::vector<uint8_t> root_bytes_;
  SnapshotRoot root_;
  std::optional<SealKey> key_;           // of an encrypted snapshot
  std::map<uint32_t, size_t> appended_;  // chunks, by pack
  std::vector<std::shared_ptr<Table>> tables_;
  std::vector<Hold> holds_;
  SnapshotArrival arrival_;
  ImportReport report_;
};

}  // namespace

Result<ImportReport> ImportSnapshot(StoreCore& core, const ByteSource& source,
                                    const std::function<void(const VerifyProgress&)>& progress) {
  return Importer(core, source, progress).Run();
}

}  // namespace pacsvisor
