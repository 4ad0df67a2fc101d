// Writes a table (FORMAT.md, 5) in one pass, with a page of each level in memory. Threads: one at a
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/append_buffer.h"
#include "vmm/store/snapshot_root.h"
#include "vmm/store/table_page.h"

namespace pacsvisor {

// When a page is ended. Tests make it small, for tables of many levels.
struct TablePaging {
  size_t entry_page_bytes = 8 * kKiB;
  size_t links_per_page = 256;  // 14 KiB
};

class TableWriter {
 public:
  // With `keys`: of an encrypted store, each page sealed with a key of its own.
  explicit TableWriter(std::unique_ptr<StoreFile> file, const TablePaging& paging = {},
                       PageKeys keys = PageKeys::kNone)
      : paging_(paging), keys_(keys), out_(std::move(file)), page_(keys) {}

  // Ascending and disjoint. Neighbouring runs of zeroes of one space become one.
  Status Add(const TableEntry& entry);
  // Everything is handed to the file, and with `sync` durable. At least one entry was added.
  Result<TableRef> Finish(bool sync);

 private:
  Status Put(const TableEntry& entry);
  Status FlushZeroes();
  Status EndEntryPage();
  // A page whose least key is `first` goes to the file, and a link to it to the level above.
  Status WritePage(unsigned level, uint64_t first, std::span<const uint8_t> page);
  Status EndLinkPage(size_t level);

  const TablePaging paging_;
  const PageKeys keys_;
  AppendBuffer out_;
  EntryPageWriter page_;
  std::optional<TableEntry> zeroes_;  // a run that may go on
  uint64_t entries_ = 0;
  std::vector<std::vector<PageLink>> levels_;  // [i]: the links of the unfinished page of level i+1
};

}  // namespace pacsvisor
