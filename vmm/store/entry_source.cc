#include "vmm/store/entry_source.h"

#include <algorithm>

#include "vmm/store/store_format.h"

namespace pacsvisor {

TableSource::TableSource(std::shared_ptr<Table> table, uint64_t from)
    : table_(std::move(table)), from_(from) {
  path_.push_back({table_->root(), 0});
}

Result<bool> TableSource::Next(TableEntry& entry) {
  while (!path_.empty()) {
    Level& level = path_.back();
    const TablePage& page = *level.page;
    if (page.level == 0 && level.next < page.entries.size()) {
      entry = page.entries[level.next++];
      if (entry.end() <= from_) {
        continue;
      }
      return true;
    }
    if (page.level == 0 || level.next == page.links.size()) {
      path_.pop_back();
      continue;
    }
    const PageLink& link = page.links[level.next++];
    const uint64_t upper =
        level.next < page.links.size() ? page.links[level.next].first : page.upper;
    if (upper <= from_) {
      continue;
    }
    path_.push_back({TRY(table_->ReadPage(link, page.level - 1, link.first, upper)), 0});
  }
  return false;
}

MergedSource::MergedSource(std::vector<std::unique_ptr<EntrySource>> sources) {
  for (std::unique_ptr<EntrySource>& source : sources) {
    heads_.push_back({.source = std::move(source), .entry = {.count = 0}, .valid = true});
  }
}

Status MergedSource::Skip(Head& head, uint64_t key) {
  while (head.valid && head.entry.end() <= key) {
    head.valid = TRY(head.source->Next(head.entry));
  }
  if (head.valid && head.entry.first < key) {
    head.entry.count = head.entry.end() - key;
    head.entry.first = key;
  }
  return {};
}

Result<bool> MergedSource::Next(TableEntry& entry) {
  for (Head& head : heads_) {
    TRY(Skip(head, position_));
  }
  // The least key that anybody has; the newest of those that have it; up to where a newer one
  // begins.
  const Head* chosen = nullptr;
  uint64_t limit = kKeyLimit;
  for (size_t i = 0; i < heads_.size(); ++i) {
    const Head& head = heads_[i];
    if (!head.valid) {
      continue;
    }
    if (chosen == nullptr || head.entry.first < chosen->entry.first) {
      chosen = &head;
      origin_ = i;
    }
  }
  if (chosen == nullptr) {
    return false;
  }
  for (size_t i = 0; i < origin_; ++i) {
    if (heads_[i].valid) {
      limit = std::min(limit, heads_[i].entry.first);
    }
  }
  entry = chosen->entry;
  entry.count = std::min(entry.end(), limit) - entry.first;
  position_ = entry.end();
  return true;
}

}  // namespace pacsvisor
