// Every page of a table, past its cache. Threads: any.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/store/table.h"

namespace pacsvisor {

// Each page of a table that can be read, parents first; and each that cannot. `wanted`, when there
// is one, chooses among the pages of level 0.
void WalkTable(const Table& table, const std::function<void(const TablePage&)>& on_page,
               const std::function<void(const Error&)>& on_damage,
               const std::function<bool()>& wanted = nullptr);

// Every chunk that an entry of these tables names, hidden ones among them. Every page is checked on
// the way: an error when one is damaged, the first.
Status ForEachChunk(const std::vector<std::shared_ptr<Table>>& tables,
                    const std::function<void(const TableEntry&)>& on_chunk);

}  // namespace pacsvisor
