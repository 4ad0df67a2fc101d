#include "vmm/store/table_walk.h"

#include <memory>
#include <utility>
#include <vector>

namespace pacsvisor {

void WalkTable(const Table& table, const std::function<void(const TablePage&)>& on_page,
               const std::function<void(const Error&)>& on_damage,
               const std::function<bool()>& wanted) {
  struct Level {
    std::shared_ptr<const TablePage> page;
    size_t next = 0;
  };
  std::vector<Level> levels = {{table.root(), 0}};
  on_page(*table.root());
  while (!levels.empty()) {
    const std::shared_ptr<const TablePage> page = levels.back().page;
    const size_t next = levels.back().next++;
    if (next >= page->links.size()) {
      levels.pop_back();
      continue;
    }
    if (page->level == 1 && wanted && !wanted()) {
      continue;
    }
    const PageLink& link = page->links[next];
    const uint64_t upper =
        next + 1 < page->links.size() ? page->links[next + 1].first : page->upper;
    Result<std::shared_ptr<const TablePage>> child =
        table.ReadPage(link, page->level - 1, link.first, upper);
    if (!child.ok()) {
      on_damage(child.error());
      continue;
    }
    on_page(**child);
    levels.push_back({std::move(child).value(), 0});
  }
}

Status ForEachChunk(const std::vector<std::shared_ptr<Table>>& tables,
                    const std::function<void(const TableEntry&)>& on_chunk) {
  for (const std::shared_ptr<Table>& table : tables) {
    Status walked;
    WalkTable(
        *table,
        [&](const TablePage& page) {
          for (const TableEntry& entry : page.entries) {
            if (entry.kind == BlockKind::kChunk) {
              on_chunk(entry);
            }
          }
        },
        [&](const Error& error) { walked = walked.ok() ? Status(error) : walked; });
    TRY(walked);
  }
  return {};
}

}  // namespace pacsvisor
