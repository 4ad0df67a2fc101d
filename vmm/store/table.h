// A table of a store, open for look-ups (FORMAT.md, 5). A page is checked against its parent before
// it is used; what was used lately stays in memory. Threads: any, several at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/base/thread_annotations.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/store_files.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

// What is said of a key.
struct TableAnswer {
  BlockKind kind = BlockKind::kNone;
  uint64_t end = 0;  // the same (no answer, zeroes) holds for every key before this one
  ChunkPlace place;  // of a chunk
  ChunkId chunk;
};

class Table {
 public:
  // `path` is of a file whose contents `ref` names. Reads the root page only.
  static Result<std::shared_ptr<Table>> Open(StoreFiles& files, const std::string& path,
                                             const TableRef& ref);

  Result<TableAnswer> Find(uint64_t key);
  // The page that `link` leads to, from the file; keys in [lower, upper).
  Result<std::shared_ptr<const TablePage>> ReadPage(const PageLink& link, unsigned level,
                                                    uint64_t lower, uint64_t upper) const;

  const std::shared_ptr<const TablePage>& root() const { return root_; }
  uint32_t root_bytes() const { return root_bytes_; }
  const TableRef& ref() const { return ref_; }

 private:
  static constexpr size_t kSlots = 32;
  struct Slot {
    uint64_t offset = 0;
    std::shared_ptr<const TablePage> page;
  };

  Table(std::string path, const TableRef& ref, std::unique_ptr<StoreFile> file)
      : path_(std::move(path)), ref_(ref), file_(std::move(file)) {}
  Result<std::shared_ptr<const TablePage>> CachedPage(const PageLink& link, unsigned level,
                                                      uint64_t lower, uint64_t upper);
  // The level 0 page that would hold `key`; null when none can, and then `*end` is as in
  // TableAnswer.
  Result<std::shared_ptr<const TablePage>> PageOf(uint64_t key, uint64_t* end);

  const std::string path_;
  const TableRef ref_;
  const std::unique_ptr<StoreFile> file_;
  // Constant after Open.
  std::shared_ptr<const TablePage> root_;
  uint32_t root_bytes_ = 0;

  Mutex mutex_;
  std::array<Slot, kSlots> slots_ GUARDED_BY(mutex_);
  std::shared_ptr<const TablePage> last_ GUARDED_BY(mutex_);  // of level 0: look-ups have company
};

// The tables of a snapshot, newest first, as one.
class TableStack {
 public:
  TableStack() = default;
  static Result<TableStack> Open(StoreFiles& files, const std::vector<TableRef>& refs);

  // The newest table's answer that has one.
  Result<TableAnswer> Find(uint64_t key) const;
  const std::vector<std::shared_ptr<Table>>& tables() const { return tables_; }

 private:
  std::vector<std::shared_ptr<Table>> tables_;
};

}  // namespace pacsvisor
