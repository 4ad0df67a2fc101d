#include "vmm/store/store_diff.h"

#include <algorithm>
#include <iterator>

#include "vmm/store/entry_source.h"
#include "vmm/store/lease.h"
#include "vmm/store/store_reader.h"
#include "vmm/store/table.h"

namespace pacsvisor {
namespace {

using Tables = std::vector<std::shared_ptr<Table>>;

// What some of a snapshot's tables say of the blocks of a space, asked in ascending order.
class SpaceCursor {
 public:
  // From block 0 of space `number` on.
  SpaceCursor(const Tables& tables, uint32_t number)
      : base_(TableKey(number, 0)), merged_(Sources(tables, base_)) {}

  // As TableAnswer, but of blocks.
  Result<TableAnswer> Find(uint64_t block) {
    const uint64_t key = base_ + block;
    while (valid_ && entry_.end() <= key) {
      valid_ = TRY(merged_.Next(entry_));
    }
    TableAnswer answer;
    if (!valid_) {
      answer.end = UINT64_MAX;
    } else if (entry_.first > key) {
      answer.end = entry_.first - base_;
    } else {
      answer.kind = entry_.kind;
      answer.chunk = entry_.chunk;
      answer.end = entry_.end() - base_;
    }
    return answer;
  }

 private:
  static std::vector<std::unique_ptr<EntrySource>> Sources(const Tables& tables, uint64_t base) {
    std::vector<std::unique_ptr<EntrySource>> sources;
    for (const std::shared_ptr<Table>& table : tables) {
      sources.push_back(std::make_unique<TableSource>(table, base));
    }
    return sources;
  }

  const uint64_t base_;
  MergedSource merged_;
  TableEntry entry_{.count = 0};
  bool valid_ = true;
};

struct Side {
  SnapshotRoot root;
  Tables own;  // those that the other side's list does not end with too
};

class Differ {
 public:
  Differ(StoreCore& core, const std::function<void(const VerifyProgress&)>& progress)
      : core_(core), progress_(progress) {}

  // Of an encrypted store the names tell nothing.
  Result<bool> HasSameState() {
    const StateRef& before = before_.root.state;
    const StateRef& after = after_.root.state;
    if (core_.secret() == nullptr || before.plain_bytes != after.plain_bytes) {
      return before.name == after.name;
    }
    const std::vector<uint8_t> state = TRY(ReadStateObject(core_.files(), before));
    return state == TRY(ReadStateObject(core_.files(), after));
  }

  Result<SnapshotDiff> Run(const SnapshotId& first, const SnapshotId& second) {
    const std::unique_ptr<StoreFiles::Lock> lease =
        TRY(TakeLease(core_.files(), core_.tuning().owner, std::nullopt));
    before_.root = TRY(core_.ReadRoot(first));
    after_.root = TRY(core_.ReadRoot(second));
    TRY(OpenTables());
    SnapshotDiff diff;
    diff.before = before_.root.info;
    diff.after = after_.root.info;
    diff.same_state = TRY(HasSameState());
    const std::vector<StoredSpace>& old_spaces = diff.before.spaces;
    const std::vector<StoredSpace>& new_spaces = diff.after.spaces;
    for (const auto* spaces : {&old_spaces, &new_spaces}) {
      for (const StoredSpace& space : *spaces) {
        done_.bytes_total += space.size_bytes;
      }
    }
    for (size_t i = 0; i < old_spaces.size(); ++i) {
      const auto found = FindSpace(new_spaces, old_spaces[i].name);
      if (found == new_spaces.end()) {
        diff.spaces.push_back(TRY(DiffSpace(i, std::nullopt)));
      } else {
        diff.spaces.push_back(TRY(DiffSpace(i, std::distance(new_spaces.begin(), found))));
      }
    }
    for (size_t i = 0; i < new_spaces.size(); ++i) {
      if (FindSpace(old_spaces, new_spaces[i].name) == old_spaces.end()) {
        diff.spaces.push_back(TRY(DiffSpace(std::nullopt, i)));
      }
    }
    return diff;
  }

 private:
  static std::vector<StoredSpace>::const_iterator FindSpace(const std::vector<StoredSpace>& spaces,
                                                            const std::string& name) {
    return std::find_if(spaces.begin(), spaces.end(),
                        [&](const StoredSpace& space) { return space.name == name; });
  }

  // Where both end with the same tables, and neither has anything newer to say, they are the same.
  Status OpenTables() {
    const std::vector<TableRef>& before = before_.root.tables;
    const std::vector<TableRef>& after = after_.root.tables;
    const auto [end, other_end] =
        std::mismatch(before.rbegin(), before.rend(), after.rbegin(), after.rend());
    const std::vector<TableRef> shared(end.base(), before.end());
    before_.own = TRY(TableStack::Open(core_.files(), {before.begin(), end.base()})).tables();
    after_.own = TRY(TableStack::Open(core_.files(), {after.begin(), other_end.base()})).tables();
    shared_ = TRY(TableStack::Open(core_.files(), shared));
    return {};
  }

  // Of one that the other side lacks: what of it holds anything.
  Result<SpaceDiff> DiffSpace(std::optional<size_t> old_index, std::optional<size_t> new_index) {
    SpaceDiff diff;
    if (old_index) {
      diff.before = before_.root.info.spaces[*old_index];
      diff.name = diff.before->name;
    }
    if (new_index) {
      diff.after = after_.root.info.spaces[*new_index];
      diff.name = diff.after->name;
    }
    const uint64_t old_blocks = diff.before ? diff.before->block_count() : 0;
    const uint64_t new_blocks = diff.after ? diff.after->block_count() : 0;
    const uint64_t common = std::min(old_blocks, new_blocks);
    if (common > 0) {
      TRY(CompareBlocks(diff, before_.root.space_numbers[*old_index],
                        after_.root.space_numbers[*new_index], common));
    }
    if (old_blocks > common) {
      diff.removed_blocks =
          TRY(CountData(before_, before_.root.space_numbers[*old_index], common, old_blocks));
    }
    if (new_blocks > common) {
      diff.added_blocks =
          TRY(CountData(after_, after_.root.space_numbers[*new_index], common, new_blocks));
    }
    return diff;
  }

  Status CompareBlocks(SpaceDiff& diff, uint32_t old_number, uint32_t new_number, uint64_t blocks) {
    SpaceCursor old_cursor(before_.own, old_number);
    SpaceCursor new_cursor(after_.own, new_number);
    uint64_t run_end = 0;  // behind the last block that differs
    for (uint64_t block = 0; block < blocks;) {
      TableAnswer old_answer = TRY(old_cursor.Find(block));
      TableAnswer new_answer = TRY(new_cursor.Find(block));
      uint64_t end = std::min({old_answer.end, new_answer.end, blocks});
      const bool neither =
          old_answer.kind == BlockKind::kNone && new_answer.kind == BlockKind::kNone;
      if (!neither || old_number != new_number || shared_.tables().empty()) {
        TRY(Complete(old_answer, old_number, block));
        TRY(Complete(new_answer, new_number, block));
        end = std::min({end, old_answer.end, new_answer.end});
        const bool same =
            old_answer.kind == new_answer.kind &&
            (old_answer.kind == BlockKind::kZero || old_answer.chunk.name == new_answer.chunk.name);
        if (!same) {  // one is a chunk, and so this is of one block
          CHECK(end == block + 1);
          const bool joins = diff.changed_blocks > 0 && block == run_end;
          ++diff.changed_blocks;
          diff.zeroed_blocks += new_answer.kind == BlockKind::kZero;
          diff.runs += joins ? 0 : 1;
          run_end = end;
        }
      }
      Tell(2 * (end - block) * kStoreBlockBytes);
      block = end;
    }
    return {};
  }

  // An answer of own tables that have none is that of the shared ones.
  Status Complete(TableAnswer& answer, uint32_t number, uint64_t block) const {
    if (answer.kind == BlockKind::kNone) {
      const uint64_t base = TableKey(number, 0);
      TableAnswer shared = TRY(shared_.Find(base + block));
      if (shared.kind == BlockKind::kNone) {
        return Error::Make(ErrorCode::kCorrupt,
                           "no table of the snapshot says what block {} of space {} is", block,
                           number);
      }
      shared.end = std::min(answer.end, shared.end - base);
      answer = shared;
    }
    return {};
  }

  Result<uint64_t> CountData(const Side& side, uint32_t number, uint64_t begin, uint64_t end) {
    SpaceCursor cursor(side.own, number);
    uint64_t data_blocks = 0;
    for (uint64_t block = begin; block < end;) {
      TableAnswer answer = TRY(cursor.Find(block));
      TRY(Complete(answer, number, block));
      const uint64_t next = std::min(answer.end, end);
      data_blocks += answer.kind == BlockKind::kChunk ? next - block : 0;
      Tell((next - block) * kStoreBlockBytes);
      block = next;
    }
    return data_blocks;
  }

  void Tell(uint64_t bytes) {
    done_.bytes_done += bytes;
    if (progress_) {
      progress_(done_);
    }
  }

  StoreCore& core_;
  const std::function<void(const VerifyProgress&)>& progress_;
  Side before_;
  Side after_;
  TableStack shared_;
  VerifyProgress done_;
};

}  // namespace

Result<SnapshotDiff> DiffSnapshots(StoreCore& core, const SnapshotId& first,
                                   const SnapshotId& second,
                                   const std::function<void(const VerifyProgress&)>& progress) {
  return Differ(core, progress).Run(first, second);
}

}  // namespace pacsvisor
