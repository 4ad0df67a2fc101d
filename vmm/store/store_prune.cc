#include "vmm/store/store_prune.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "vmm/base/clock.h"
#include "vmm/store/body_checksum.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/lease.h"
#include "vmm/store/living_chunks.h"
#include "vmm/store/pack_writer.h"
#include "vmm/store/store_holds.h"

namespace pacsvisor {
namespace {

constexpr std::string_view kPruning = ", which prunes";
constexpr auto kLeasePoll = std::chrono::milliseconds(10);
constexpr uint64_t kLeaseNsPerMs = 1'000'000;
// Of a pack beside its chunks.
constexpr uint64_t kPackFrameBytes = kPackHeaderBytes + kPackTrailerBytes;

std::string DateText(uint64_t instant_ns) {
  const auto days = std::chrono::days(static_cast<int>(instant_ns / 86'400'000'000'000));
  const std::chrono::year_month_day date{std::chrono::sys_days(days)};
  return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
}

class Pruner {
 public:
  Pruner(StoreCore& core, const PruneRequest& request,
         const std::function<void(const VerifyProgress&)>& progress)
      : core_(core),
        files_(core.files()),
        request_(request),
        progress_(progress),
        now_ns_(request.now_ns != 0 ? request.now_ns : RealtimeNs()),
        living_(core) {}

  Result<PruneReport> Run() {
    // The long part, while others work: what is marked by it stays marked.
    Roots roots = TRY(ReadRoots());
    Condemn(roots);
    const Roots doomed = TRY(TakeDoomed(roots));
    TRY(living_.LearnPacks());
    for (const auto& [id, root] : roots) {
      TRY(MarkRoot(root));
      Progress(TableBytes(root));
    }
    if (request_.dry_run) {
      TRY(Estimate(roots));
      TellRemoved(doomed, roots.size());
      return std::move(report_);
    }
    TRY(RemoveAll());
    while (may_free_) {
      std::this_thread::sleep_for(std::chrono::milliseconds(core_.tuning().prune_pause_ms));
      const bool more = TRY(MoveSome());
      if (!more) {
        break;
      }
    }
    return std::move(report_);
  }

 private:
  using Roots = std::map<SnapshotId, SnapshotRoot>;

  static uint64_t TableBytes(const SnapshotRoot& root) {
    uint64_t bytes = 0;
    for (const TableRef& table : root.tables) {
      bytes += table.file_bytes;
    }
    return bytes;
  }

  void Progress(uint64_t bytes) {
    done_.bytes_done += bytes;
    if (progress_) {
      progress_(done_);
    }
  }

  // All of them: what one that cannot be read needs is not known.
  Result<Roots> ReadRoots() {
    Roots roots;
    for (const SnapshotId& id : TRY(core_.ListIds())) {
      Result<SnapshotRoot> root = core_.ReadRoot(id);
      if (!root.ok() && root.error().code() == ErrorCode::kNotFound) {
        continue;  // another prune has removed it just now
      }
      if (!root.ok()) {
        return std::move(root).error().WithContext("nothing is pruned");
      }
      roots.emplace(id, std::move(root).value());
    }
    return roots;
  }

  // Chosen once: what comes later is not condemned, nor does it condemn others.
  void Condemn(const Roots& roots) {
    std::vector<SnapshotInfo> infos;
    for (const auto& [id, root] : roots) {
      if (IsCounted(root.info)) {
        infos.push_back(root.info);
      }
      done_.bytes_total += TableBytes(root);
    }
    const std::set<SnapshotId> kept = KeptByRules(request_.keep, infos);
    for (const SnapshotInfo& info : infos) {
      if (!kept.contains(info.id)) {
        condemned_.insert(info.id);
      }
    }
  }

  bool IsCounted(const SnapshotInfo& info) const {
    return (request_.machine.empty() || info.draft.machine == request_.machine) &&
           (request_.with_text.empty() || info.draft.texts.contains(request_.with_text));
  }

  // Where it may end as if it had been interrupted.
  Status CheckCancelled() const {
    if (request_.cancelled && request_.cancelled()) {
      return Error::Make(ErrorCode::kCancelled, "the prune was ended; the next one goes on");
    }
    return {};
  }

  // Takes those out of `roots` that are condemned and that no hold or lease spares.
  Result<Roots> TakeDoomed(Roots& roots) {
    const std::map<SnapshotId, std::string> spared = TRY(SparedSnapshots(roots));
    Roots doomed;
    report_.spared.clear();
    for (const SnapshotId& id : condemned_) {
      const auto found = roots.find(id);
      if (found == roots.end()) {
        continue;
      }
      const auto reason = spared.find(id);
      if (reason != spared.end()) {
        report_.spared.push_back({id, reason->second});
      } else {
        doomed.insert(roots.extract(found));
      }
    }
    return doomed;
  }

  // Why, by snapshot. A hold says more than a lease.
  Result<std::map<SnapshotId, std::string>> SparedSnapshots(const Roots& roots) {
    std::map<SnapshotId, std::string> spared;
    for (const LiveLease& lease : TRY(LiveLeases(files_))) {
      for (const auto& [id, root] : roots) {
        if (!lease.id.has_value() || *lease.id == id) {
          spared[id] = "in use by " + lease.owner;
        }
      }
    }
    std::vector<SnapshotRoot> all;
    for (const auto& [id, root] : roots) {
      all.push_back(root);
    }
    const std::vector<Hold> holds = TRY(ReadHolds(files_));
    const uint64_t greatest_ns = GreatestTime(all, holds);
    for (const Hold& hold : holds) {
      if (hold.IsOver(now_ns_, greatest_ns)) {
        continue;
      }
      const bool late = hold.until_ns != 0 && hold.until_ns <= now_ns_;
      spared[hold.snapshot] =
          hold.damaged ? fmt::format("{} is damaged, and holds it until it is released",
                                     HoldPath(hold.snapshot, hold.word))
          : late       ? fmt::format(
                             "held until {} ({}); the clock is behind {}, which the store knows of,"
                                   " and ends no hold",
                             DateText(hold.until_ns), hold.reason, DateText(greatest_ns))
                 : fmt::format("held {} ({})",
                               hold.until_ns == 0 ? "for ever" : "until " + DateText(hold.until_ns),
                               hold.reason);
    }
    return spared;
  }

  Status MarkRoot(const SnapshotRoot& root) {
    TRY(CheckCancelled());
    const Status marked = living_.Mark(root);
    if (marked.ok() ||
        (marked.error().code() == ErrorCode::kNotFound && !core_.ReadRoot(root.info.id).ok())) {
      return {};  // or another prune has removed it just now
    }
    Error error = marked.error();
    return std::move(error).WithContext("nothing more is pruned");
  }

  void TellRemoved(const Roots& removed, size_t kept) {
    for (const auto& [id, root] : removed) {
      report_.removed.push_back(root.info);
    }
    std::stable_sort(report_.removed.begin(), report_.removed.end(),
                     [](const SnapshotInfo& left, const SnapshotInfo& right) {
                       return left.draft.instant_ns < right.draft.instant_ns;
                     });
    report_.kept = kept;
  }

  // Roots, and all that is dead without them.
  Status RemoveAll() {
    const std::unique_ptr<StoreFiles::Lock> lock = TRY(core_.LockForWriting(kPruning));
    TRY(core_.CleanUp());
    Roots roots = TRY(ReadRoots());
    const uint32_t last_pack = LastPack(roots);
    const Roots doomed = TRY(TakeDoomed(roots));
    // Before the first is removed: should their marks be impossible, all of them are still there.
    TRY(MarkAll(roots));
    TRY(RemoveRoots(doomed, last_pack));
    TellRemoved(doomed, roots.size());
    TRY(RemoveHoldsOfNobody(roots));
    may_free_ = TRY(MayFree(roots));
    if (may_free_) {
      TRY(RemoveObjects(roots));
      TRY(RemoveDeadPacks());
    }
    return {};
  }

  static uint32_t LastPack(const Roots& roots) {
    uint32_t last_pack = 0;
    for (const auto& [id, root] : roots) {
      last_pack = std::max(last_pack, root.last_pack);
    }
    return last_pack;
  }

  Status MarkAll(const Roots& roots) {
    TRY(living_.DropMissingPacks());
    for (const auto& [id, root] : roots) {
      TRY(MarkRoot(root));
    }
    return {};
  }

  Status RemoveRoots(const Roots& doomed, uint32_t last_pack) {
    if (doomed.empty()) {
      return {};
    }
    // Their packs' numbers are not given again, whatever root goes first.
    const uint32_t floor = TRY(core_.ReadFloor());
    if (last_pack > floor) {
      TRY(core_.WriteFloor(last_pack));
    }
    for (const auto& [id, root] : doomed) {
      report_.freed_bytes += TRY(FileBytes(SnapshotPath(id)));
      TRY(files_.Remove(SnapshotPath(id)));
    }
    TRY(files_.SyncDirectory("snapshots"));
    return core_.DestroyKeysOfNobody();
  }

  Status RemoveHoldsOfNobody(const Roots& roots) {
    for (const Hold& hold : TRY(ReadHolds(files_))) {
      if (!roots.contains(hold.snapshot)) {
        TRY(files_.Remove(HoldPath(hold.snapshot, hold.word)));
      }
    }
    return {};
  }

  // Whoever leases a snapshot whose root is gone has read it before, or is about to find out. Waits
  // for those a little: the former may take hours.
  Result<bool> MayFree(const Roots& roots) {
    const uint64_t begin_ns = MonotonicNs();
    while (true) {
      std::string owners;
      for (const LiveLease& lease : TRY(LiveLeases(files_))) {
        if (!lease.id.has_value() || !roots.contains(*lease.id)) {
          owners += (owners.empty() ? "" : "; ") + lease.owner;
        }
      }
      if (owners.empty()) {
        return true;
      }
      if (MonotonicNs() - begin_ns >= core_.tuning().lock_wait_ms * kLeaseNsPerMs) {
        report_.unfinished.push_back(
            fmt::format("{} reads what may have gone: its room is left to the next prune", owners));
        return false;
      }
      TRY(CheckCancelled());
      std::this_thread::sleep_for(kLeasePoll);
    }
  }

  static std::set<Hash> ObjectsOf(const Roots& roots) {
    std::set<Hash> objects;
    for (const auto& [id, root] : roots) {
      objects.insert(root.state.name);
      for (const TableRef& table : root.tables) {
        objects.insert(table.name);
      }
    }
    return objects;
  }

  Status RemoveObjects(const Roots& roots) {
    const std::set<Hash> kept = ObjectsOf(roots);
    return core_.ForEachObject([&](const std::string& path, const Hash& name) -> Status {
      if (!kept.contains(name)) {
        report_.freed_bytes += TRY(FileBytes(path));
        TRY(files_.Remove(path));
      }
      return {};
    });
  }

  Status RemoveDeadPacks() {
    std::vector<uint32_t> dead;
    for (const auto& [number, pack] : living_.packs()) {
      if (pack.living_chunks == 0) {
        dead.push_back(number);
      }
    }
    TRY(RemovePacks(dead));
    for (const uint32_t number : living_.unreadable_packs()) {
      report_.unfinished.push_back(
          PackPath(number) +
          ": what is in it cannot be told, so it stays; pacsvisor verify says more");
    }
    return {};
  }

  Status RemovePacks(const std::vector<uint32_t>& numbers) {
    if (numbers.empty()) {
      return {};
    }
    core_.packs().Forget();
    for (const uint32_t number : numbers) {
      TRY(files_.Remove(PackPath(number)));
      report_.freed_bytes += living_.packs().at(number).file_bytes;
      living_.DropPack(number);
    }
    return files_.SyncDirectory("packs");
  }

  bool IsMostlyDead(const LivingChunks::Pack& pack) const {
    const uint64_t chunk_bytes = pack.offsets.back() - kPackHeaderBytes;
    return pack.living_chunks > 0 &&
           pack.living_bytes * 100 < chunk_bytes * core_.tuning().compact_below_percent;
  }

  std::set<uint32_t> MostlyDead() const {
    std::set<uint32_t> numbers;
    for (const auto& [number, pack] : living_.packs()) {
      if (IsMostlyDead(pack)) {
        numbers.insert(number);
      }
    }
    return numbers;
  }

  // Moves the living chunks of some packs into one; false: there are none.
  Result<bool> MoveSome() {
    Result<std::unique_ptr<StoreFiles::Lock>> lock = core_.LockForWriting(kPruning);
    if (!lock.ok() && lock.error().code() == ErrorCode::kBusy) {
      report_.unfinished.push_back("packs that are mostly dead are left to the next prune: " +
                                   lock.error().message());
      return false;
    }
    const std::unique_ptr<StoreFiles::Lock> held = TRY(std::move(lock));
    const uint32_t next_pack = TRY(core_.CleanUp());
    const Roots roots = TRY(ReadRoots());
    TRY(MarkAll(roots));
    const std::set<uint32_t> mostly_dead = MostlyDead();
    std::vector<uint32_t> moved;
    uint64_t living_bytes = 0;
    for (const uint32_t number : mostly_dead) {
      const uint64_t bytes = living_.packs().at(number).living_bytes;
      if (spoiled_.contains(number)) {
        continue;
      }
      if (!moved.empty() && living_bytes + bytes > core_.tuning().pack_bytes) {
        break;
      }
      moved.push_back(number);
      living_bytes += bytes;
    }
    if (moved.empty() || !TRY(MayFree(roots))) {
      return false;
    }
    TRY(MovePacks(moved, mostly_dead, next_pack));
    return true;
  }

  Status MovePacks(const std::vector<uint32_t>& moved, const std::set<uint32_t>& mostly_dead,
                   uint32_t next_pack) {
    std::unique_ptr<PackWriter> writer;
    for (const uint32_t number : moved) {
      const bool whole = TRY(CopyLiving(number, mostly_dead, next_pack, writer));
      if (!whole) {  // what is in tmp/ goes with the next lock
        spoiled_.insert(number);
        report_.unfinished.push_back(PackPath(number) +
                                     ": is damaged, so it stays; pacsvisor verify says more");
        return {};
      }
    }
    if (writer != nullptr) {
      TRY(writer->Seal());
      TRY(files_.SyncDirectory("packs"));
      TRY(core_.WriteFloor(next_pack));
      const uint64_t new_bytes = TRY(FileBytes(PackPath(next_pack)));
      report_.moved_bytes += new_bytes;
      written_bytes_ += new_bytes;
    }
    TRY(RemovePacks(moved));
    const uint64_t paid = std::min(written_bytes_, report_.freed_bytes);
    report_.freed_bytes -= paid;
    written_bytes_ -= paid;
    return {};
  }

  // False: a chunk is not what its pack says.
  Result<bool> CopyLiving(uint32_t number, const std::set<uint32_t>& mostly_dead,
                          uint32_t next_pack, std::unique_ptr<PackWriter>& writer) {
    const PackContents contents = TRY(core_.packs().ReadContents(number));
    const LivingChunks::Pack& pack = living_.packs().at(number);
    std::array<uint8_t, kMaxStoredChunkBytes> buffer;
    std::array<uint8_t, kStoreBlockBytes> block;
    // Of an encrypted store, nobody here has the chunks' keys: the pack's checksum proves them, all
    // at once.
    const bool encrypted = core_.secret() != nullptr;
    BodyChecksum checksum;
    if (encrypted) {
      const std::span<uint8_t> header = std::span(buffer).first(kPackHeaderBytes);
      TRY(core_.packs().Read({number, 0, kPackHeaderBytes}, header));
      checksum.Add(header);
    }
    for (size_t i = 0; i < pack.living.size(); ++i) {
      if (!pack.living[i] && !encrypted) {
        continue;
      }
      const auto length = static_cast<uint16_t>(pack.offsets[i + 1] - pack.offsets[i]);
      const std::span<uint8_t> stored = std::span(buffer).first(length);
      TRY(core_.packs().Read({number, pack.offsets[i], length}, stored));
      const uint8_t* const record = contents.records.data() + i * kPackRecordBytes;
      Hash name = {};
      if (encrypted) {
        std::copy_n(record, kPackNameBytes, name.begin());
        checksum.Add(stored);
      } else {
        const bool decoded = DecompressChunk(stored, block);
        name = decoded ? Sha256(block) : Hash{};
        if (!decoded || !std::equal(record, record + kPackNameBytes, name.begin())) {
          return false;
        }
      }
      if (!pack.living[i]) {
        continue;
      }
      // Left twice by a prune that was interrupted.
      const bool is_elsewhere = TRY(living_.HasCopy(name, mostly_dead));
      if (is_elsewhere) {
        continue;
      }
      if (writer == nullptr) {
        writer = TRY(PackWriter::Create(files_, next_pack, core_.header().uid));
      }
      TRY(writer->Append(name, stored));
    }
    return !encrypted || checksum.Value() == contents.trailer.body_checksum;
  }

  // What would be freed.
  Status Estimate(const Roots& roots) {
    for (const SnapshotId& id : TRY(core_.ListIds())) {
      report_.freed_bytes += roots.contains(id) ? 0 : TRY(FileBytes(SnapshotPath(id)));
    }
    const std::set<Hash> kept = ObjectsOf(roots);
    const auto add_object = [&](const std::string& path, const Hash& name) -> Status {
      report_.freed_bytes += kept.contains(name) ? 0 : TRY(FileBytes(path));
      return {};
    };
    TRY(core_.ForEachObject(add_object));
    uint64_t frame_bytes = kPackFrameBytes;  // of the one that is being filled
    uint64_t filled_bytes = 0;
    for (const auto& [number, pack] : living_.packs()) {
      if (pack.living_chunks == 0) {
        report_.freed_bytes += pack.file_bytes;
      }
      if (IsMostlyDead(pack)) {
        if (filled_bytes > 0 && filled_bytes + pack.living_bytes > core_.tuning().pack_bytes) {
          frame_bytes = kPackFrameBytes;
          filled_bytes = 0;
        }
        const uint64_t new_bytes =
            frame_bytes + pack.living_bytes + pack.living_chunks * kPackRecordBytes;
        filled_bytes += pack.living_bytes;
        frame_bytes = 0;
        report_.moved_bytes += new_bytes;
        report_.freed_bytes += pack.file_bytes - std::min(pack.file_bytes, new_bytes);
      }
    }
    return {};
  }

  Result<uint64_t> FileBytes(const std::string& path) {
    Result<std::unique_ptr<StoreFile>> file = files_.OpenForRead(path);
    if (!file.ok() && file.error().code() == ErrorCode::kNotFound) {
      return 0u;  // another prune's work, or a writer's that gave up
    }
    const std::unique_ptr<StoreFile> opened = TRY(std::move(file));
    return opened->SizeBytes();
  }

  StoreCore& core_;
  StoreFiles& files_;
  const PruneRequest& request_;
  const std::function<void(const VerifyProgress&)>& progress_;
  const uint64_t now_ns_;
  LivingChunks living_;
  std::set<SnapshotId> condemned_;
  std::set<uint32_t> spoiled_;  // mostly dead, but damaged
  bool may_free_ = false;
  uint64_t written_bytes_ = 0;  // not yet set off against what was freed
  VerifyProgress done_;
  PruneReport report_;
};

}  // namespace

Result<PruneReport> PruneStore(StoreCore& core, const PruneRequest& request,
                               const std::function<void(const VerifyProgress&)>& progress) {
  return Pruner(core, request, progress).Run();
}

}  // namespace pacsvisor
