// Streams of table entries, and several of them as one: how tables are merged (FORMAT.md, 5).
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/table.h"

namespace pacsvisor {

class EntrySource {
 public:
  virtual ~EntrySource() = default;
  // The next entry, ascending and disjoint; false at the end.
  virtual Result<bool> Next(TableEntry& entry) = 0;
};

// The entries of a table, past its cache, that end behind key `from`.
class TableSource : public EntrySource {
 public:
  explicit TableSource(std::shared_ptr<Table> table, uint64_t from = 0);
  Result<bool> Next(TableEntry& entry) override;

 private:
  struct Level {
    std::shared_ptr<const TablePage> page;
    size_t next = 0;
  };

  std::shared_ptr<Table> table_;
  const uint64_t from_;
  std::vector<Level> path_;  // from the root down
};

// For every key the entry of the first source that has one: newest first.
class MergedSource : public EntrySource {
 public:
  explicit MergedSource(std::vector<std::unique_ptr<EntrySource>> sources);
  Result<bool> Next(TableEntry& entry) override;
  // Which source the last entry came from.
  size_t origin() const { return origin_; }

 private:
  struct Head {
    std::unique_ptr<EntrySource> source;
    TableEntry entry;  // what is left of it
    bool valid = false;
  };

  // Drops what `head` says of keys before `key`.
  static Status Skip(Head& head, uint64_t key);

  std::vector<Head> heads_;
  uint64_t position_ = 0;
  size_t origin_ = 0;
};

}  // namespace pacsvisor
