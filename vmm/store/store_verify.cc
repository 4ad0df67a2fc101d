#include "vmm/store/store_verify.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "vmm/store/body_checksum.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/hold.h"
#include "vmm/store/lease.h"
#include "vmm/store/store_reader.h"
#include "vmm/store/table.h"
#include "vmm/store/table_walk.h"

namespace pacsvisor {
namespace {

using Users = std::set<SnapshotId>;

constexpr size_t kReadBytes = kMiB;
constexpr size_t kMostDamagesPerPack = 16;  // named one by one

class Verifier {
 public:
  Verifier(StoreCore& core, const std::vector<SnapshotId>& ids,
           const std::function<void(const VerifyProgress&)>& progress)
      : core_(core), ids_(ids), whole_(ids.empty()), progress_(progress) {}

  Result<VerifyReport> Run() {
    // What is looked at next stays where it is meanwhile.
    const std::unique_ptr<StoreFiles::Lock> lease =
        TRY(TakeLease(core_.files(), core_.tuning().owner,
                      ids_.size() == 1 ? std::optional(ids_.front()) : std::nullopt));
    if (whole_) {
      ids_ = TRY(core_.ListIds());
      TRY(CheckFrame());
    }
    for (const SnapshotId& id : ids_) {
      CheckRoot(id);
    }
    const std::set<uint32_t> packs = TRY(PacksToCheck());
    for (const auto& [name, table] : tables_) {
      CheckTable(table.first, table.second);
    }
    for (const auto& [name, state] : states_) {
      const Result<std::vector<uint8_t>> read = ReadStateObject(core_.files(), state.first);
      if (!read.ok()) {
        AddDamage(ObjectPath(name), read.error().message(), state.second);
      }
      Done(state.first.file_bytes);
    }
    CheckPacks(packs);
    // What was damaged was passed over.
    Done(0, done_.bytes_total - std::min(done_.bytes_done, done_.bytes_total));
    report_.snapshots = ids_.size();
    return std::move(report_);
  }

 private:
  struct ChunkUse {
    ChunkPlace place;
    ChunkId chunk;
    const Users* users = nullptr;  // of the table that names it
  };

  void Done(uint64_t bytes, uint64_t passed_over = 0) {
    done_.bytes_done += bytes + passed_over;
    report_.bytes += bytes;
    if (progress_) {
      progress_(done_);
    }
  }

  void AddDamage(const std::string& file, std::string what, const Users& users) {
    if (what.starts_with(file + ": ")) {
      what.erase(0, file.size() + 2);  // it is said beside
    }
    report_.damages.push_back({file, std::move(what), {users.begin(), users.end()}});
  }

  Status CheckFrame() {
    const std::string header(kHeaderPath);
    const Result<std::vector<uint8_t>> bytes = ReadWholeFile(core_.files(), header, 16 * kKiB);
    const Status good = bytes.ok() ? Drop(DecodeStoreHeader(*bytes)) : Status(bytes.error());
    if (!good.ok()) {
      AddDamage(header, good.error().message(), {ids_.begin(), ids_.end()});
    }
    if (core_.secret() != nullptr) {
      const std::string keys(kStoreKeyPath);
      const Result<std::vector<uint8_t>> file =
          ReadWholeFile(core_.files(), keys, kStoreKeyFileBytes);
      if (!file.ok() || !IsStoreKeyFileWhole(*file)) {
        AddDamage(keys, "damaged; bring it back from a copy of the store",
                  {ids_.begin(), ids_.end()});
      }
    }
    const Status floor = Drop(core_.ReadFloor());
    if (!floor.ok()) {
      AddDamage(std::string(kFloorPath), floor.error().message(), {});
    }
    for (const Hold& hold : TRY(ReadHolds(core_.files()))) {
      if (hold.damaged) {
        AddDamage(HoldPath(hold.snapshot, hold.word), "the hold is not as written",
                  {hold.snapshot});
      }
    }
    return {};
  }

  template <typename T>
  static Status Drop(const Result<T>& result) {
    return result.ok() ? Status() : Status(result.error());
  }

  void CheckRoot(const SnapshotId& id) {
    const Result<SnapshotRoot> root = core_.ReadRoot(id);
    if (!root.ok()) {
      const std::string key_path = SnapshotKeyPath(id);
      const bool key_damaged = root.error().message().starts_with(key_path);
      AddDamage(key_damaged ? key_path : SnapshotPath(id), root.error().message(), {id});
      return;
    }
    for (const TableRef& table : root->tables) {
      auto& use = tables_[table.name];
      done_.bytes_total += use.second.empty() ? table.file_bytes : 0;
      use.first = table;
      use.second.insert(id);
    }
    if (root->state.plain_bytes > 0) {
      auto& use = states_[root->state.name];
      done_.bytes_total += use.second.empty() ? root->state.file_bytes : 0;
      use.first = root->state;
      use.second.insert(id);
    }
  }

  // Every page, from the root down; damaged ones do not hide the others.
  void CheckTable(const TableRef& ref, const Users& users) {
    const std::string path = ObjectPath(ref.name);
    const Result<std::shared_ptr<Table>> table = Table::Open(core_.files(), path, ref);
    if (!table.ok()) {
      AddDamage(path, table.error().message(), users);
      return;
    }
    uint64_t page_bytes = (*table)->root_bytes() + kTableFooterBytes;
    bool damaged = false;
    WalkTable(
        **table,
        [&](const TablePage& page) {
          for (const TableEntry& entry : page.entries) {
            if (entry.kind == BlockKind::kChunk) {
              ++references_[entry.place.pack];
            }
          }
          for (const PageLink& link : page.links) {
            page_bytes += link.bytes;
          }
        },
        [&](const Error& error) {
          AddDamage(path, error.message(), users);
          damaged = true;
        });
    if (!damaged && page_bytes != ref.file_bytes) {
      AddDamage(path, fmt::format("{}: its pages do not cover the file", path), users);
    }
    Done(ref.file_bytes);
  }

  // The chunks of the packs `first` … `last` that the tables name.
  void CollectChunks(uint32_t first, uint32_t last) {
    chunks_.clear();
    for (const auto& [name, use] : tables_) {
      const Result<std::shared_ptr<Table>> table =
          Table::Open(core_.files(), ObjectPath(name), use.first);
      if (!table.ok()) {
        continue;  // it was said
      }
      const Users* const users = &use.second;
      WalkTable(
          **table,
          [&](const TablePage& page) {
            for (const TableEntry& entry : page.entries) {
              const bool wanted = entry.kind == BlockKind::kChunk && entry.place.pack >= first &&
                                  entry.place.pack <= last;
              if (wanted) {
                chunks_.push_back({entry.place, entry.chunk, users});
              }
            }
          },
          [](const Error&) {});
    }
    std::sort(chunks_.begin(), chunks_.end(),
              [](const ChunkUse& left, const ChunkUse& right) { return left.place < right.place; });
  }

  // All of them, or none in advance: those that the chunks name are not known yet.
  Result<std::set<uint32_t>> PacksToCheck() {
    std::set<uint32_t> packs;
    if (whole_) {
      for (const std::string& name : TRY(core_.files().List("packs"))) {
        const std::optional<uint32_t> number = PackNumber(name);
        if (number.has_value()) {
          packs.insert(*number);
          const Result<std::shared_ptr<StoreFile>> file = core_.packs().Open(*number);
          const Result<uint64_t> size = file.ok() ? (*file)->SizeBytes() : Result<uint64_t>(0u);
          done_.bytes_total += size.ok() ? *size : 0;
        }
      }
    }
    return packs;
  }

  // Some packs at a time, so that what is known of their chunks has room in memory.
  void CheckPacks(std::set<uint32_t> packs) {
    for (const auto& [number, count] : references_) {
      packs.insert(number);
    }
    for (auto pack = packs.begin(); pack != packs.end();) {
      auto end = pack;
      size_t count = 0;
      do {
        const auto found = references_.find(*end);
        count += found == references_.end() ? 0 : found->second;
        ++end;
      } while (end != packs.end() && count < core_.tuning().verified_chunks);
      CollectChunks(*pack, *std::prev(end));
      done_.bytes_total += whole_ ? 0 : BytesOf(chunks_);
      auto use = chunks_.begin();
      for (; pack != end; ++pack) {
        const auto uses_end = std::find_if(
            use, chunks_.end(), [&](const ChunkUse& chunk) { return chunk.place.pack != *pack; });
        CheckPack(*pack, {use, uses_end});
        use = uses_end;
      }
    }
  }

  // `uses` are the chunks that snapshots look for in this pack, by place.
  void CheckPack(uint32_t number, std::span<const ChunkUse> uses) {
    const std::string path = PackPath(number);
    const Result<PackContents> contents = core_.packs().ReadContents(number);
    pack_damages_ = 0;
    if (contents.ok()) {
      CheckBody(number, *contents, uses);
    } else {
      const bool missing = contents.error().code() == ErrorCode::kNotFound;
      if (!missing) {  // its chunks may be elsewhere
        Users users;
        for (const ChunkUse& use : uses) {
          users.insert(use.users->begin(), use.users->end());
        }
        AddDamage(path, contents.error().message(), users);
      }
      CheckElsewhere(path, uses);
    }
  }

  // Reads a pack from front to back, or those parts that are used.
  void CheckBody(uint32_t number, const PackContents& contents, std::span<const ChunkUse> uses) {
    const std::string path = PackPath(number);
    const std::vector<uint32_t>& offsets = contents.offsets;
    BodyChecksum checksum;
    bool readable = true;
    size_t damages = 0;
    if (whole_) {
      std::vector<uint8_t> header(kPackHeaderBytes);
      readable = core_.packs().Read({number, 0, kPackHeaderBytes}, header).ok();
      checksum.Add(header);
    }
    std::vector<uint8_t> stored;
    for (size_t first = 0; first < contents.trailer.count;) {
      // As many chunks as fit into one read.
      size_t last = first + 1;
      while (last < contents.trailer.count && offsets[last + 1] - offsets[first] <= kReadBytes) {
        ++last;
      }
      const auto begin = std::lower_bound(uses.begin(), uses.end(), offsets[first], BeforeOffset);
      const auto end = std::lower_bound(begin, uses.end(), offsets[last], BeforeOffset);
      if (whole_ || begin != end) {
        stored.resize(offsets[last] - offsets[first]);
        const Status read = ReadPart(number, offsets[first], stored);
        if (!read.ok()) {
          AddDamage(path, read.error().message(), UsersOf({begin, end}));
          readable = false;
        } else {
          checksum.Add(stored);
          damages += CheckChunks(contents, first, last, stored, {begin, end}, path);
        }
        Done(whole_ ? stored.size() : BytesOf({begin, end}));
      }
      first = last;
    }
    Done(whole_ ? kPackHeaderBytes + kPackTrailerBytes + contents.records.size() : 0);
    CheckMisplaced(contents, uses, path);
    if (whole_ && readable && damages == 0 && checksum.Value() != contents.trailer.body_checksum) {
      AddDamage(
          path,
          fmt::format("{}: a byte of it is not as written, although every chunk is whole", path),
          UsersOf(uses));
    }
  }

  Status ReadPart(uint32_t number, uint32_t offset, std::span<uint8_t> bytes) {
    const std::shared_ptr<StoreFile> file = TRY(core_.packs().Open(number));
    return file->ReadAt(offset, bytes);
  }

  // Of chunks by place: those that several blocks have count once.
  static uint64_t BytesOf(std::span<const ChunkUse> uses) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < uses.size(); ++i) {
      bytes += i > 0 && uses[i].place == uses[i - 1].place ? 0 : uses[i].place.length;
    }
    return bytes;
  }

  static bool BeforeOffset(const ChunkUse& use, uint32_t offset) {
    return use.place.offset < offset;
  }

  static Users UsersOf(std::span<const ChunkUse> uses) {
    Users users;
    for (const ChunkUse& use : uses) {
      users.insert(use.users->begin(), use.users->end());
    }
    return users;
  }

  size_t CheckChunks(const PackContents& contents, size_t first, size_t last,
                     std::span<const uint8_t> stored, std::span<const ChunkUse> uses,
                     const std::string& path) {
    size_t damages = 0;
    std::vector<uint8_t> block(kStoreBlockBytes);
    auto use = uses.begin();
    for (size_t i = first; i < last; ++i) {
      const uint32_t offset = contents.offsets[i];
      while (use != uses.end() && use->place.offset < offset) {
        ++use;
      }
      auto end = use;
      while (end != uses.end() && end->place.offset == offset) {
        ++end;
      }
      if (use == end && !whole_) {
        continue;
      }
      const std::span<const uint8_t> chunk =
          stored.subspan(offset - contents.offsets[first], contents.offsets[i + 1] - offset);
      const uint8_t* const record = contents.records.data() + i * kPackRecordBytes;
      Hash hash = {};
      bool whole = false;
      if (core_.secret() == nullptr) {
        whole = DecompressChunk(chunk, block);
        hash = whole ? Sha256(block) : Hash{};
      } else {
        const auto own = std::find_if(use, end, [&](const ChunkUse& one) {
          return std::equal(record, record + kPackNameBytes, one.chunk.name.begin());
        });
        if (own == end) {  // nobody has its key: the pack's checksum answers for it
          for (; use != end; ++use) {
            CheckElsewhere(path, {use, 1});
          }
          continue;
        }
        whole = core_.codec().Decode(chunk, own->chunk, block);
        hash = own->chunk.name;
      }
      if (!whole || !std::equal(record, record + kPackNameBytes, hash.begin())) {
        ++damages;
        AddChunkDamage(path,
                       fmt::format("{}: chunk {} at byte {}: its SHA-256 is not {}…", path, i,
                                   offset, HexText({record, kPackNameBytes})),
                       UsersOf({use, end}));
        continue;
      }
      for (; use != end; ++use) {
        if (use->chunk.name != hash) {
          CheckElsewhere(path, {use, 1});
        }
      }
    }
    return damages;
  }

  // Hints that do not lead to the beginning of a chunk.
  void CheckMisplaced(const PackContents& contents, std::span<const ChunkUse> uses,
                      const std::string& path) {
    for (const ChunkUse& use : uses) {
      const auto found =
          std::lower_bound(contents.offsets.begin(), contents.offsets.end(), use.place.offset);
      if (found == contents.offsets.end() || *found != use.place.offset ||
          std::next(found) == contents.offsets.end()) {
        CheckElsewhere(path, {&use, 1});
      }
    }
  }

  // Chunks that are not where they are looked for first.
  void CheckElsewhere(const std::string& path, std::span<const ChunkUse> uses) {
    std::vector<uint8_t> block(kStoreBlockBytes);
    for (const ChunkUse& use : uses) {
      const Status read = core_.ReadChunk(use.chunk, use.place, block);
      if (!read.ok()) {
        AddChunkDamage(path, read.error().message(), *use.users);
      }
    }
  }

  // A pack that is gone altogether would fill pages.
  void AddChunkDamage(const std::string& path, std::string what, const Users& users) {
    ++pack_damages_;
    if (pack_damages_ < kMostDamagesPerPack) {
      AddDamage(path, std::move(what), users);
      return;
    }
    if (pack_damages_ == kMostDamagesPerPack) {
      AddDamage(path, std::move(what), users);
    }
    VerifyReport::Damage& last = report_.damages.back();
    Users all(last.snapshots.begin(), last.snapshots.end());
    all.insert(users.begin(), users.end());
    last.snapshots.assign(all.begin(), all.end());
    last.what = fmt::format("{}: {} more chunks are damaged or missing", path,
                            pack_damages_ - kMostDamagesPerPack + 1);
  }

  StoreCore& core_;
  std::vector<SnapshotId> ids_;
  const bool whole_;
  const std::function<void(const VerifyProgress&)>& progress_;
  VerifyProgress done_;
  VerifyReport report_;
  std::map<Hash, std::pair<TableRef, Users>> tables_;
  std::map<Hash, std::pair<StateRef, Users>> states_;
  std::map<uint32_t, size_t> references_;  // of tables, by pack
  std::vector<ChunkUse> chunks_;           // of those packs that are being checked, by place
  size_t pack_damages_ = 0;
};

}  // namespace

Result<VerifyReport> VerifyStore(StoreCore& core, const std::vector<SnapshotId>& ids,
                                 const std::function<void(const VerifyProgress&)>& progress) {
  return Verifier(core, ids, progress).Run();
}

}  // namespace pacsvisor
