#include "vmm/store/store_verify.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/store/body_checksum.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/lease.h"
#include "vmm/store/table.h"
#include "vmm/store/table_walk.h"
#include "vmm/store/verify_basis.h"
#include "vmm/store/verify_records.h"

namespace pacsvisor {
namespace {

constexpr size_t kReadBytes = kMiB;
constexpr size_t kMostDamagesPerPack = 16;  // named one by one

class Verifier : private VerifyBasis {
 public:
  // `checkpoint`: null, or what was proven before; what is proven is added to it.
  Verifier(StoreCore& core, const VerifyRequest& request, VerifyCheckpoint* checkpoint,
           const std::function<void(const VerifyProgress&)>& progress)
      : VerifyBasis(core, request.ids, progress),
        whole_(request.ids.empty()),
        stopped_(request.stopped),
        checkpoint_(checkpoint) {}

  Result<VerifyReport> Run() {
    // What is looked at next stays where it is meanwhile.
    const std::unique_ptr<StoreFiles::Lock> lease =
        TRY(TakeLease(core_.files(), core_.tuning().owner,
                      ids_.size() == 1 ? std::optional(ids_.front()) : std::nullopt));
    if (whole_) {
      ids_ = TRY(core_.ListIds());
      TRY(CheckFrame());
    }
    CheckRoots();
    LimitCheckpoint();
    const std::set<uint32_t> packs = TRY(PacksToCheck());
    for (const auto& [name, table] : tables_) {
      TRY(CheckStopped());
      CheckTable(table.first, table.second);
    }
    for (const auto& [name, state] : states_) {
      TRY(CheckStopped());
      CheckState(state.first, state.second);
    }
    TRY(CheckPacks(packs));
    // What was damaged was passed over.
    Done(0, done_.bytes_total - std::min(done_.bytes_done, done_.bytes_total));
    report_.snapshots = ids_.size();
    report_.ids = ids_;
    return std::move(report_);
  }

 private:
  struct ChunkUse {
    ChunkPlace place;
    ChunkId chunk;
    const Users* users = nullptr;  // of the table that names it
    bool covered = false;          // by the checkpoint, if its pack is
  };

  Status CheckStopped() const {
    return stopped_ && stopped_()
               ? Status(Error::Make(ErrorCode::kCancelled, "verifying was interrupted"))
               : Status();
  }

  // Of tables that came since, references to packs that were proven before are still to be checked.
  void LimitCheckpoint() {
    if (checkpoint_ == nullptr) {
      return;
    }
    std::set<Hash> tables;
    for (const auto& [name, use] : tables_) {
      if (checkpoint_->packs.empty() || checkpoint_->tables.contains(name)) {
        tables.insert(name);
      }
    }
    checkpoint_->tables = std::move(tables);
  }

  // Every page, from the root down; damaged ones do not hide the others.
  void CheckTable(const TableRef& ref, const Users& users) {
    const std::string path = ObjectPath(ref.name);
    const Result<std::shared_ptr<Table>> table = Table::Open(core_.files(), path, ref);
    if (!table.ok()) {
      AddDamage(path, table.error().message(), users);
      Uncover(ref.name);
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
    if (damaged) {
      Uncover(ref.name);
    } else if (page_bytes != ref.file_bytes) {
      AddDamage(path, fmt::format("{}: its pages do not cover the file", path), users);
    }
    Done(ref.file_bytes);
  }

  // Not all of its references were seen.
  void Uncover(const Hash& table) {
    if (checkpoint_ != nullptr) {
      checkpoint_->tables.erase(table);
    }
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
      const bool covered = checkpoint_ != nullptr && checkpoint_->tables.contains(name);
      WalkTable(
          **table,
          [&](const TablePage& page) {
            for (const TableEntry& entry : page.entries) {
              const bool wanted = entry.kind == BlockKind::kChunk && entry.place.pack >= first &&
                                  entry.place.pack <= last;
              if (wanted) {
                chunks_.push_back({entry.place, entry.chunk, users, covered});
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
          if (checkpoint_ != nullptr && checkpoint_->packs.contains(*number)) {
            continue;  // nothing to read of it, as far as is known
          }
          const Result<std::shared_ptr<StoreFile>> file = core_.packs().Open(*number);
          const Result<uint64_t> size = file.ok() ? (*file)->SizeBytes() : Result<uint64_t>(0u);
          done_.bytes_total += size.ok() ? *size : 0;
        }
      }
    }
    return packs;
  }

  // Some packs at a time, so that what is known of their chunks has room in memory.
  Status CheckPacks(std::set<uint32_t> packs) {
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
        TRY(CheckPack(*pack, {use, uses_end}));
        use = uses_end;
      }
    }
    return {};
  }

  // `uses` are the chunks that snapshots look for in this pack, by place.
  Status CheckPack(uint32_t number, std::span<const ChunkUse> uses) {
    const std::string path = PackPath(number);
    const Result<PackContents> contents = core_.packs().ReadContents(number);
    pack_damages_ = 0;
    if (contents.ok() && IsProven(number, *contents)) {
      report_.proven_before_bytes += contents->offsets.back();
      const std::vector<ChunkUse> left = UsesLeft(*contents, uses);
      TRY(CheckBody(number, *contents, left, false));
    } else if (contents.ok()) {
      const size_t damages = report_.damages.size();
      name_lied_ = false;
      TRY(CheckBody(number, *contents, uses, whole_));
      if (report_.damages.size() == damages && !name_lied_) {
        Note(number, *contents);
      }
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
    return {};
  }

  // The same pack was read from front to back before.
  bool IsProven(uint32_t number, const PackContents& contents) const {
    if (checkpoint_ == nullptr) {
      return false;
    }
    const auto found = checkpoint_->packs.find(number);
    return found != checkpoint_->packs.end() && found->second == ProvenPack(contents.trailer);
  }

  // Those of a proven pack that were not looked at with it, or whose chunk is elsewhere: there it
  // may have gone away since.
  static std::vector<ChunkUse> UsesLeft(const PackContents& contents,
                                        std::span<const ChunkUse> uses) {
    std::vector<ChunkUse> left;
    for (const ChunkUse& use : uses) {
      if (!use.covered || !LeadsTo(contents, use)) {
        left.push_back(use);
      }
    }
    return left;
  }

  static bool LeadsTo(const PackContents& contents, const ChunkUse& use) {
    const auto found =
        std::lower_bound(contents.offsets.begin(), contents.offsets.end(), use.place.offset);
    if (found == contents.offsets.end() || *found != use.place.offset ||
        std::next(found) == contents.offsets.end()) {
      return false;
    }
    const auto index = static_cast<size_t>(found - contents.offsets.begin());
    const uint8_t* const record = contents.records.data() + index * kPackRecordBytes;
    return std::equal(record, record + kPackNameBytes, use.chunk.name.begin());
  }

  // It need not be read again by whoever goes on. That this cannot be kept is nobody's loss.
  void Note(uint32_t number, const PackContents& contents) {
    if (checkpoint_ == nullptr) {
      return;
    }
    checkpoint_->packs[number] = ProvenPack(contents.trailer);
    unnoted_bytes_ += contents.offsets.back();
    if (unnoted_bytes_ >= core_.tuning().checkpoint_bytes) {
      unnoted_bytes_ = 0;
      const Status written = WriteVerifyCheckpoint(core_.files(), *checkpoint_);
      if (!written.ok()) {
        Log(LogLevel::kDebug, "how far verifying is, is not kept: {}", written.error().message());
      }
    }
  }

  // Reads a pack from front to back, or those parts that are used.
  Status CheckBody(uint32_t number, const PackContents& contents, std::span<const ChunkUse> uses,
                   bool all) {
    const std::string path = PackPath(number);
    const std::vector<uint32_t>& offsets = contents.offsets;
    BodyChecksum checksum;
    bool readable = true;
    size_t damages = 0;
    if (all) {
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
      if (all || begin != end) {
        TRY(CheckStopped());
        stored.resize(offsets[last] - offsets[first]);
        const Status read = ReadPart(number, offsets[first], stored);
        if (!read.ok()) {
          AddDamage(path, read.error().message(), UsersOf({begin, end}));
          readable = false;
        } else {
          checksum.Add(stored);
          damages += CheckChunks(contents, first, last, stored, {begin, end}, all);
        }
        Done(all ? stored.size() : BytesOf({begin, end}));
      }
      first = last;
    }
    Done(all ? kPackHeaderBytes + kPackTrailerBytes + contents.records.size() : 0);
    CheckMisplaced(contents, uses, path);
    if (all && readable && damages == 0 && checksum.Value() != contents.trailer.body_checksum) {
      AddDamage(
          path,
          fmt::format("{}: a byte of it is not as written, although every chunk is whole", path),
          UsersOf(uses));
    }
    return {};
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
                     std::span<const uint8_t> stored, std::span<const ChunkUse> uses, bool all) {
    const std::string path = PackPath(contents.trailer.number);
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
      if (use == end && !all) {
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
          name_lied_ =
              name_lied_ || std::equal(record, record + kPackNameBytes, use->chunk.name.begin());
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

  const bool whole_;
  const std::function<bool()>& stopped_;
  VerifyCheckpoint* const checkpoint_;
  uint64_t unnoted_bytes_ = 0;
  std::map<uint32_t, size_t> references_;  // of tables, by pack
  std::vector<ChunkUse> chunks_;           // of those packs that are being checked, by place
  size_t pack_damages_ = 0;
  bool name_lied_ = false;  // two chunks begin with the same 20 bytes of their names
};

// Which snapshots were proven whole, and that there is nothing to go on with.
Status Record(StoreCore& core, const std::vector<SnapshotId>& ids, const VerifyReport& report) {
  const std::vector<SnapshotId> all = TRY(core.ListIds());
  std::set<SnapshotId> damaged;
  for (const VerifyReport::Damage& damage : report.damages) {
    damaged.insert(damage.snapshots.begin(), damage.snapshots.end());
  }
  VerifiedTimes times;
  for (const SnapshotId& id : ids.empty() ? report.ids : ids) {
    times[id] = report.begun_ns;
  }
  TRY(UpdateVerifiedTimes(core.files(), times, damaged, {all.begin(), all.end()}));
  return ids.empty() ? RemoveVerifyCheckpoint(core.files()) : Status();
}

}  // namespace

Result<VerifyReport> VerifyStore(StoreCore& core, const std::vector<SnapshotId>& ids,
                                 const std::function<void(const VerifyProgress&)>& progress) {
  VerifyRequest request;
  request.ids = ids;
  return Verifier(core, request, nullptr, progress).Run();
}

Result<VerifyReport> VerifyStoreAndRecord(
    StoreCore& core, const VerifyRequest& request,
    const std::function<void(const VerifyProgress&)>& progress) {
  VerifyCheckpoint checkpoint{.uid = core.header().uid, .begun_ns = RealtimeNs()};
  const bool whole = request.ids.empty();
  if (whole && request.restart) {
    (void)RemoveVerifyCheckpoint(core.files()).ok();  // where nothing can be written, none is kept
  } else if (whole) {
    checkpoint = ReadVerifyCheckpoint(core.files(), checkpoint.uid, checkpoint.begun_ns)
                     .value_or(std::move(checkpoint));
  }
  const uint64_t begun_ns = checkpoint.begun_ns;
  Result<VerifyReport> report =
      Verifier(core, request, whole ? &checkpoint : nullptr, progress).Run();
  if (!report.ok()) {
    if (whole && !checkpoint.packs.empty()) {
      (void)WriteVerifyCheckpoint(core.files(), checkpoint).ok();  // what is lost is time
    }
    return report;
  }
  report->begun_ns = begun_ns;
  const Status recorded = Record(core, request.ids, *report);
  report->not_recorded = recorded.ok() ? "" : recorded.error().message();
  return report;
}

}  // namespace pacsvisor
