#include "vmm/store/store_sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/store/chunk_codec.h"
#include "vmm/store/lease.h"
#include "vmm/store/table.h"
#include "vmm/store/table_walk.h"
#include "vmm/store/verify_basis.h"

namespace pacsvisor {
namespace {

constexpr size_t kMostSampleDamages = 16;  // of a pack, named one by one

class Sampler : private VerifyBasis {
 public:
  Sampler(StoreCore& core, const VerifyRequest& request,
          const std::function<void(const VerifyProgress&)>& progress)
      : VerifyBasis(core, {}, progress),
        request_(*request.sample),
        stopped_(request.stopped),
        random_(request_.seed) {}

  Result<VerifyReport> Run() {
    report_.begun_ns = RealtimeNs();
    const std::unique_ptr<StoreFiles::Lock> lease =
        TRY(TakeLease(core_.files(), core_.tuning().owner, std::nullopt));
    ids_ = TRY(core_.ListIds());
    TRY(CheckFrame());
    CheckRoots();
    TRY(CountChunks());
    share_ = request_.share > 0 ? request_.share
             : sample_.chunks_total == 0
                 ? 1
                 : std::min(1.0, static_cast<double>(request_.chunks) /
                                     static_cast<double>(sample_.chunks_total));
    // Of the parts that are not chosen nothing is known beforehand but their share.
    done_.bytes_total =
        static_cast<uint64_t>(static_cast<double>(done_.bytes_total + pack_bytes_) * share_);
    for (const auto& [name, table] : tables_) {
      TRY(CheckStopped());
      SampleTable(table.first, table.second);
    }
    for (const auto& [name, state] : states_) {
      TRY(CheckStopped());
      if (Chosen()) {
        CheckState(state.first, state.second);
      }
    }
    TRY(SamplePacks());
    Done(0, done_.bytes_total - std::min(done_.bytes_done, done_.bytes_total));
    report_.snapshots = ids_.size();
    report_.ids = ids_;
    sample_.seed = request_.seed;
    report_.sample = sample_;
    return std::move(report_);
  }

 private:
  using NamePrefix = std::array<uint8_t, kPackNameBytes>;

  Status CheckStopped() const {
    return stopped_ && stopped_()
               ? Status(Error::Make(ErrorCode::kCancelled, "verifying was interrupted"))
               : Status();
  }

  // The same on every host: distributions of the library are not.
  bool Chosen() { return std::ldexp(static_cast<double>(random_() >> 11), -53) < share_; }

  Status CountChunks() {
    for (const std::string& name : TRY(core_.files().List("packs"))) {
      const std::optional<uint32_t> number = PackNumber(name);
      if (!number.has_value()) {
        continue;
      }
      const Result<PackTrailer> trailer = core_.packs().ReadTrailer(*number);
      if (!trailer.ok() && trailer.error().code() == ErrorCode::kNotFound) {
        continue;  // pruned just now
      }
      packs_[*number] = trailer.ok() ? trailer->count : 0;
      sample_.chunks_total += packs_[*number];
      pack_bytes_ += trailer.ok() ? trailer->directory_offset : 0;
    }
    return {};
  }

  // The pages above level 0, and a share of these.
  void SampleTable(const TableRef& ref, const Users& users) {
    const std::string path = ObjectPath(ref.name);
    const Result<std::shared_ptr<Table>> table = Table::Open(core_.files(), path, ref);
    if (!table.ok()) {
      AddDamage(path, table.error().message(), users);
      return;
    }
    WalkTable(
        **table, [&](const TablePage& page) { LookForPack(page, users); },
        [&](const Error& error) { AddDamage(path, error.message(), users); },
        [&] { return Chosen(); });
    Done(static_cast<uint64_t>(static_cast<double>(ref.file_bytes) * share_));
  }

  // One chunk of a page whose pack is not there must be elsewhere.
  void LookForPack(const TablePage& page, const Users& users) {
    for (const TableEntry& entry : page.entries) {
      if (entry.kind == BlockKind::kChunk && !packs_.contains(entry.place.pack)) {
        std::array<uint8_t, kStoreBlockBytes> block;
        const Status read = core_.ReadChunk(entry.chunk, entry.place, block);
        if (!read.ok()) {
          AddDamage(PackPath(entry.place.pack), read.error().message(), users);
        }
        return;
      }
    }
  }

  // As many chunks of all as were asked for, each with the same chance (Knuth's algorithm S).
  Status SamplePacks() {
    uint64_t left = sample_.chunks_total;
    uint64_t wanted = std::min<uint64_t>(
        left, request_.share > 0
                  ? static_cast<uint64_t>(std::ceil(request_.share * static_cast<double>(left)))
                  : request_.chunks);
    std::map<uint32_t, std::vector<uint32_t>> chosen_of;
    for (const auto& [number, count] : packs_) {
      std::vector<uint32_t>& chosen = chosen_of[number];
      for (uint32_t i = 0; i < count; ++i, --left) {
        if (random_() % left < wanted) {
          chosen.push_back(i);
          --wanted;
        }
      }
    }
    if (core_.secret() != nullptr) {
      TRY(FindKeys(chosen_of));
    }
    for (const auto& [number, chosen] : chosen_of) {
      if (!chosen.empty() || packs_.at(number) == 0) {
        TRY(CheckStopped());
        TRY(SamplePack(number, chosen));
      }
    }
    return {};
  }

  NamePrefix NameOf(const PackContents& contents, uint32_t index) const {
    NamePrefix name;
    std::copy_n(contents.records.begin() + static_cast<ptrdiff_t>(index * kPackRecordBytes),
                name.size(), name.begin());
    return name;
  }

  // Of an encrypted store: only the tables have the keys.
  Status FindKeys(const std::map<uint32_t, std::vector<uint32_t>>& chosen_of) {
    for (const auto& [number, chosen] : chosen_of) {
      const Result<PackContents> contents = core_.packs().ReadContents(number);
      for (size_t i = 0; contents.ok() && i < chosen.size(); ++i) {
        ids_of_[NameOf(*contents, chosen[i])] = std::nullopt;
      }
    }
    for (const auto& [name, use] : tables_) {
      TRY(CheckStopped());
      const Result<std::shared_ptr<Table>> table =
          Table::Open(core_.files(), ObjectPath(name), use.first);
      if (!table.ok()) {
        continue;  // it was said
      }
      WalkTable(
          **table,
          [&](const TablePage& page) {
            for (const TableEntry& entry : page.entries) {
              NamePrefix prefix;
              std::copy_n(entry.chunk.name.begin(), prefix.size(), prefix.begin());
              const auto found = ids_of_.find(prefix);
              if (entry.kind == BlockKind::kChunk && found != ids_of_.end()) {
                found->second = entry.chunk;
              }
            }
          },
          [](const Error&) {});
    }
    return {};
  }

  Status SamplePack(uint32_t number, const std::vector<uint32_t>& chosen) {
    const Result<PackContents> contents = core_.packs().ReadContents(number);
    if (!contents.ok()) {
      if (contents.error().code() != ErrorCode::kNotFound) {
        AddDamage(PackPath(number), contents.error().message(), UsersOfPack(number, {}));
      }
      return {};
    }
    std::map<NamePrefix, std::string> damages;
    for (const uint32_t index : chosen) {
      TRY(CheckStopped());
      const uint32_t offset = contents->offsets[index];
      const auto length = static_cast<uint16_t>(contents->offsets[index + 1] - offset);
      const NamePrefix name = NameOf(*contents, index);
      if (core_.secret() != nullptr && !ids_of_[name].has_value()) {
        continue;  // no table names it: nobody has its key, or needs it
      }
      const Status good = CheckChunk({number, offset, length}, name);
      if (good.ok()) {
        ++sample_.chunks;
      } else {
        damages[name] =
            fmt::format("chunk {} at byte {}: {}", index, offset, good.error().message());
      }
      Done(length);
    }
    Tell(number, damages);
    return {};
  }

  Status CheckChunk(const ChunkPlace& place, const NamePrefix& name) {
    std::array<uint8_t, kMaxStoredChunkBytes> buffer;
    std::array<uint8_t, kStoreBlockBytes> block;
    const std::span<uint8_t> stored = std::span(buffer).first(place.length);
    TRY(core_.packs().Read(place, stored));
    bool whole = false;
    if (core_.secret() != nullptr) {
      whole = core_.codec().Decode(stored, *ids_of_.at(name), block);
    } else {
      const Hash hash = DecompressChunk(stored, block) ? Sha256(block) : Hash{};
      whole = std::equal(name.begin(), name.end(), hash.begin());
    }
    return whole
               ? Status()
               : Status(Error::Make(ErrorCode::kCorrupt, "its SHA-256 is not {}…", HexText(name)));
  }

  void Tell(uint32_t number, const std::map<NamePrefix, std::string>& damages) {
    size_t told = 0;
    for (const auto& [name, what] : damages) {
      const bool last = ++told == kMostSampleDamages && damages.size() > kMostSampleDamages;
      AddDamage(PackPath(number),
                last ? fmt::format("{} more chunks of the sample are damaged",
                                   damages.size() - kMostSampleDamages + 1)
                     : what,
                last ? UsersOfPack(number, {}) : UsersOfPack(number, name));
      if (last) {
        return;
      }
    }
  }

  // Whose tables look for a chunk of that name, or for any chunk, there.
  Users UsersOfPack(uint32_t number, const std::optional<NamePrefix>& name) {
    Users users;
    for (const auto& [table_name, use] : tables_) {
      const Result<std::shared_ptr<Table>> table =
          Table::Open(core_.files(), ObjectPath(table_name), use.first);
      bool uses = false;
      if (table.ok()) {
        WalkTable(
            **table,
            [&](const TablePage& page) {
              for (const TableEntry& entry : page.entries) {
                const bool here = name.has_value() ? std::equal(name->begin(), name->end(),
                                                                entry.chunk.name.begin())
                                                   : entry.place.pack == number;
                uses = uses || (entry.kind == BlockKind::kChunk && here);
              }
            },
            [](const Error&) {});
      }
      if (uses) {
        users.insert(use.second.begin(), use.second.end());
      }
    }
    return users;
  }

  const VerifyRequest::Sample request_;
  const std::function<bool()>& stopped_;
  std::mt19937_64 random_;
  double share_ = 0;
  std::map<uint32_t, uint32_t> packs_;  // how many chunks each has; 0: its trailer is damaged
  uint64_t pack_bytes_ = 0;
  std::map<NamePrefix, std::optional<ChunkId>> ids_of_;  // of chosen ones, in an encrypted store
  VerifyReport::Sample sample_;
};

}  // namespace

Result<VerifyReport> VerifySample(StoreCore& core, const VerifyRequest& request,
                                  const std::function<void(const VerifyProgress&)>& progress) {
  CHECK(request.sample.has_value() && request.ids.empty());
  return Sampler(core, request, progress).Run();
}

}  // namespace pacsvisor
