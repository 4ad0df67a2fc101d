#include "vmm/store/table_writer.h"

#include "vmm/store/store_format.h"

namespace pacsvisor {

Status TableWriter::Add(const TableEntry& entry) {
  if (entry.kind != BlockKind::kZero) {
    TRY(FlushZeroes());
    return Put(entry);
  }
  if (zeroes_.has_value() && zeroes_->end() == entry.first &&
      KeySpace(zeroes_->first) == KeySpace(entry.first)) {
    zeroes_->count += entry.count;
    return {};
  }
  TRY(FlushZeroes());
  zeroes_ = entry;
  return {};
}

Status TableWriter::FlushZeroes() {
  if (zeroes_.has_value()) {
    TRY(Put(*zeroes_));
    zeroes_.reset();
  }
  return {};
}

Status TableWriter::Put(const TableEntry& entry) {
  page_.Add(entry);
  ++entries_;
  return page_.size_bytes() >= paging_.entry_page_bytes ? EndEntryPage() : Status();
}

Status TableWriter::EndEntryPage() {
  TRY(WritePage(0, page_.first(), page_.Finish()));
  page_.Clear();
  return {};
}

Status TableWriter::WritePage(unsigned level, uint64_t first, std::span<const uint8_t> page) {
  PageLink link{.first = first, .offset = out_.offset_bytes()};
  std::vector<uint8_t> sealed;
  if (keys_ == PageKeys::kHeld) {
    link.key = RandomSealKey();
    sealed = SealPadded(link.key, SealType::kPage, {}, page);
    page = sealed;
  }
  link.bytes = static_cast<uint32_t>(page.size());
  link.hash = Sha256(page);
  TRY(out_.Append(page));
  if (levels_.size() <= level) {
    levels_.emplace_back();
  }
  levels_[level].push_back(link);
  return levels_[level].size() == paging_.links_per_page ? EndLinkPage(level) : Status();
}

Status TableWriter::EndLinkPage(size_t level) {
  const std::vector<PageLink> links = std::move(levels_[level]);
  levels_[level].clear();
  const unsigned above = static_cast<unsigned>(level) + 1;
  return WritePage(above, links.front().first, EncodeLinkPage(above, links, keys_));
}

Result<TableRef> TableWriter::Finish(bool sync) {
  TRY(FlushZeroes());
  CHECK(entries_ > 0);
  if (page_.count() > 0) {
    TRY(EndEntryPage());
  }
  // Each unfinished page is ended, until a level holds one link only: to the root, the last page
  // that was written.
  size_t level = 0;
  while (level + 1 < levels_.size() || levels_[level].size() > 1) {
    if (!levels_[level].empty()) {
      TRY(EndLinkPage(level));
    }
    ++level;
  }
  const PageLink root = levels_[level].front();
  CHECK(root.offset + root.bytes == out_.offset_bytes());
  ByteWriter footer;
  footer.Number(root.bytes);
  footer.Number(kStoreVersion);
  footer.Text(kTableMagic);
  TRY(out_.Append(footer.bytes()));
  TRY(sync ? out_.Sync() : out_.Flush());
  TableRef ref{
      .name = root.hash, .file_bytes = out_.offset_bytes(), .entries = entries_, .key = {}};
  if (keys_ == PageKeys::kHeld) {
    ref.key = root.key;
  }
  return ref;
}

}  // namespace pacsvisor
