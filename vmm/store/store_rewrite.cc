#include "vmm/store/store_rewrite.h"

#include <algorithm>
#include <utility>

#include "vmm/base/clock.h"
#include "vmm/store/store_format.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBlocksAtOnce = 256;

class Rewriter {
 public:
  Rewriter(Store& source, Store& target, const CopyWatch& watch)
      : source_(source), target_(target), watch_(watch) {}

  Result<CopyReport> Run(const SnapshotId& id) {
    reader_ = TRY(source_.OpenSnapshot(id));
    std::optional<SnapshotInfo> there = TRY(FindRewritten(id));
    report_.was_there = there.has_value();
    report_.info = there.has_value() ? *std::move(there) : TRY(Write());
    TRY(CarryHolds(id));
    return std::move(report_);
  }

 private:
  // The newest, should there be several.
  Result<std::optional<SnapshotInfo>> FindRewritten(const SnapshotId& id) {
    std::optional<SnapshotInfo> found;
    for (SnapshotInfo& info : TRY(target_.List())) {
      const auto from = info.draft.texts.find(kRewrittenFrom);
      if (from != info.draft.texts.end() && from->second == id.Hex()) {
        found = std::move(info);
      }
    }
    return found;
  }

  Result<SnapshotInfo> Write() {
    const SnapshotInfo& info = reader_->info();
    std::optional<SnapshotId> parent;
    if (info.parent.has_value()) {
      const std::optional<SnapshotInfo> found = TRY(FindRewritten(*info.parent));
      parent = found.has_value() ? std::optional(found->id) : std::nullopt;
    }
    for (const StoredSpace& space : info.spaces) {
      total_bytes_ += space.size_bytes;
    }
    const std::vector<uint8_t> state = TRY(reader_->State());
    const std::unique_ptr<SnapshotWriter> writer = TRY(target_.Begin(parent, info.spaces));
    for (uint32_t space = 0; space < info.spaces.size(); ++space) {
      TRY(WriteSpace(*writer, space, info.spaces[space]));
    }
    SnapshotDraft draft = info.draft;
    draft.texts[kRewrittenFrom] = info.id.Hex();
    draft.begun_ns = 0;
    SnapshotInfo written = TRY(writer->Commit(draft, state));
    report_.chunks = written.counts.given - written.counts.zero;
    report_.known_chunks = report_.chunks - written.counts.fresh;
    report_.sent_bytes = written.counts.stored_bytes;
    return written;
  }

  Status WriteSpace(SnapshotWriter& writer, uint32_t number, const StoredSpace& space) {
    std::vector<uint8_t> bytes(kBlocksAtOnce * space.block_bytes);
    for (uint64_t block = 0; block < space.block_count();) {
      if (watch_.stopped && watch_.stopped()) {
        return Error::Make(ErrorCode::kCancelled, "interrupted: nothing of it is in that store");
      }
      if (watch_.progress) {
        watch_.progress({done_bytes_ + block * space.block_bytes, total_bytes_});
      }
      if (const uint64_t zero = TRY(reader_->ZeroRun(number, BlockIndex(block))); zero > 0) {
        TRY(writer.AddZeroes(number, BlockIndex(block), zero));
        block += zero;
        continue;
      }
      const uint64_t count = std::min(kBlocksAtOnce, space.block_count() - block);
      const std::span<uint8_t> part(bytes.data(), count * space.block_bytes);
      TRY(reader_->Read(number, BlockIndex(block), part));
      for (uint64_t i = 0; i < count; ++i) {
        TRY(writer.Add(number, BlockIndex(block + i),
                       part.subspan(i * space.block_bytes, space.block_bytes)));
      }
      block += count;
    }
    done_bytes_ += space.size_bytes;
    return {};
  }

  // The same hold made twice is one; one that is over is none any more.
  Status CarryHolds(const SnapshotId& id) {
    const std::vector<Hold> there = TRY(target_.Holds());
    const uint64_t now_ns = std::max(RealtimeNs(), TRY(target_.Now()));
    for (const Hold& hold : TRY(source_.Holds())) {
      const bool has = std::ranges::any_of(there, [&](const Hold& one) {
        return one.snapshot == report_.info.id && one.until_ns == hold.until_ns &&
               one.reason == hold.reason;
      });
      const bool over = hold.until_ns != 0 && hold.until_ns <= now_ns;
      if (hold.snapshot == id && hold.IsCarried() && !has && !over) {
        TRY(target_.AddHold(report_.info.id, hold.until_ns, hold.reason));
        ++report_.holds;
      }
    }
    return {};
  }

  Store& source_;
  Store& target_;
  const CopyWatch& watch_;
  std::unique_ptr<SnapshotReader> reader_;
  CopyReport report_;
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;
};

}  // namespace

Result<CopyReport> RewriteSnapshot(Store& source, Store& target, const SnapshotId& id,
                                   const CopyWatch& watch) {
  return Rewriter(source, target, watch).Run(id);
}

}  // namespace pacsvisor
