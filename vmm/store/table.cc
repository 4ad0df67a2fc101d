#include "vmm/store/table.h"

#include <algorithm>

#include "vmm/store/store_format.h"

namespace pacsvisor {

Result<std::shared_ptr<Table>> Table::Open(StoreFiles& files, const std::string& path,
                                           const TableRef& ref) {
  std::unique_ptr<StoreFile> file = TRY(files.OpenForRead(path));
  const uint64_t size_bytes = TRY(file->SizeBytes());
  if (size_bytes != ref.file_bytes || size_bytes <= kTableFooterBytes) {
    return Error::Make(ErrorCode::kCorrupt, "{} has {} bytes, {} were written", path, size_bytes,
                       ref.file_bytes);
  }
  std::array<uint8_t, kTableFooterBytes> footer;
  TRY(file->ReadAt(size_bytes - footer.size(), footer));
  ByteReader reader(footer);
  const uint32_t root_bytes = reader.Number<uint32_t>();
  if (reader.Number<uint32_t>() != kStoreVersion || !reader.Expect(kTableMagic) ||
      root_bytes > (ref.key.has_value() ? kMaxStoredPageBytes : kMaxPageBytes) ||
      root_bytes > size_bytes - footer.size()) {
    return Error::Make(ErrorCode::kCorrupt, "{}: the end of the table is damaged", path);
  }
  const PageLink link{.first = 0,
                      .offset = size_bytes - footer.size() - root_bytes,
                      .bytes = root_bytes,
                      .hash = ref.name,
                      .key = ref.key.value_or(SealKey{})};
  std::shared_ptr<Table> table(new Table(path, ref, std::move(file)));
  table->root_bytes_ = root_bytes;
  table->root_ = TRY(table->ReadPage(link, kMaxTableLevel + 1, 0, kKeyLimit));
  return table;
}

Result<std::shared_ptr<const TablePage>> Table::ReadPage(const PageLink& link, unsigned level,
                                                         uint64_t lower, uint64_t upper) const {
  std::vector<uint8_t> bytes(link.bytes);
  const Status read = file_->ReadAt(link.offset, bytes);
  if (!read.ok()) {
    Error error = read.error();
    return std::move(error).WithContext(fmt::format("page at byte {}", link.offset));
  }
  if (Sha256(bytes) != link.hash) {
    return Error::Make(ErrorCode::kCorrupt, "{}: page at byte {}: its SHA-256 is not {}", path_,
                       link.offset, HexText(link.hash));
  }
  if (ref_.key.has_value()) {
    std::optional<std::vector<uint8_t>> plain = UnsealPadded(link.key, SealType::kPage, {}, bytes);
    if (!plain.has_value()) {
      return Error::Make(ErrorCode::kCorrupt, "{}: page at byte {}: it was sealed with another key",
                         path_, link.offset);
    }
    bytes = std::move(*plain);
  }
  Result<TablePage> page =
      DecodeTablePage(bytes, lower, upper, ref_.file_bytes,
                      ref_.key.has_value() ? PageKeys::kHeld : PageKeys::kNone);
  // The root may have any level; below it each is one less, so that no page can be its own parent.
  if (page.ok() && level <= kMaxTableLevel && page->level != level) {
    page = Error::Make(ErrorCode::kCorrupt, "the level of the page breaks the format");
  }
  if (!page.ok()) {
    return std::move(page).error().WithContext(fmt::format("{}: byte {}", path_, link.offset));
  }
  return std::make_shared<const TablePage>(std::move(page).value());
}

Result<std::shared_ptr<const TablePage>> Table::CachedPage(const PageLink& link, unsigned level,
                                                           uint64_t lower, uint64_t upper) {
  // Pages follow each other in the file at about 8 KiB.
  const size_t slot = (link.offset / (8 * kKiB)) % kSlots;
  {
    const MutexLock lock(mutex_);
    if (slots_[slot].page != nullptr && slots_[slot].offset == link.offset) {
      return slots_[slot].page;
    }
  }
  std::shared_ptr<const TablePage> page = TRY(ReadPage(link, level, lower, upper));
  const MutexLock lock(mutex_);
  slots_[slot] = {link.offset, page};
  return page;
}

Result<std::shared_ptr<const TablePage>> Table::PageOf(uint64_t key, uint64_t* end) {
  {
    const MutexLock lock(mutex_);
    if (last_ != nullptr && key >= last_->lower && key < last_->upper) {
      return last_;
    }
  }
  std::shared_ptr<const TablePage> page = root_;
  while (page->level > 0) {
    const std::vector<PageLink>& links = page->links;
    const auto next =
        std::upper_bound(links.begin(), links.end(), key,
                         [](uint64_t wanted, const PageLink& link) { return wanted < link.first; });
    if (next == links.begin()) {
      *end = next->first;
      return std::shared_ptr<const TablePage>();
    }
    const PageLink& link = *std::prev(next);
    const uint64_t upper = next == links.end() ? page->upper : next->first;
    page = TRY(CachedPage(link, page->level - 1, link.first, upper));
  }
  const MutexLock lock(mutex_);
  last_ = page;
  return page;
}

Result<TableAnswer> Table::Find(uint64_t key) {
  TableAnswer answer;
  const std::shared_ptr<const TablePage> page = TRY(PageOf(key, &answer.end));
  if (page == nullptr) {
    return answer;
  }
  const std::vector<TableEntry>& entries = page->entries;
  const auto next = std::upper_bound(
      entries.begin(), entries.end(), key,
      [](uint64_t wanted, const TableEntry& entry) { return wanted < entry.first; });
  if (next != entries.begin() && std::prev(next)->end() > key) {
    const TableEntry& entry = *std::prev(next);
    answer.kind = entry.kind;
    answer.end = entry.end();
    answer.place = entry.place;
    answer.chunk = entry.chunk;
  } else {
    answer.end = next == entries.end() ? page->upper : next->first;
  }
  return answer;
}

Result<TableStack> TableStack::Open(StoreFiles& files, const std::vector<TableRef>& refs) {
  TableStack stack;
  for (const TableRef& ref : refs) {
    const std::string path = ObjectPath(ref.name);
    Result<std::shared_ptr<Table>> table = Table::Open(files, path, ref);
    if (!table.ok() && table.error().code() == ErrorCode::kNotFound) {
      return Error::Make(ErrorCode::kCorrupt,
                         "{} is missing; bring it back from a copy of the store", path);
    }
    stack.tables_.push_back(TRY(std::move(table)));
  }
  return stack;
}

Result<TableAnswer> TableStack::Find(uint64_t key) const {
  uint64_t end = kKeyLimit;
  for (const std::shared_ptr<Table>& table : tables_) {
    TableAnswer answer = TRY(table->Find(key));
    end = std::min(end, answer.end);
    if (answer.kind != BlockKind::kNone) {
      answer.end = end;  // a newer table may say something else from there on
      return answer;
    }
  }
  TableAnswer none;
  none.end = end;
  return none;
}

}  // namespace pacsvisor
