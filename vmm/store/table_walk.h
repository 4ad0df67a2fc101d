// Every page of a table, past its cache. Threads: any.
#pragma once

#include <functional>

#include "vmm/base/result.h"
#include "vmm/store/table.h"

namespace pacsvisor {

// Each page of a table that can be read, parents first; and each that cannot. `wanted`, when there
// is one, chooses among the pages of level 0.
void WalkTable(const Table& table, const std::function<void(const TablePage&)>& on_page,
               const std::function<void(const Error&)>& on_damage,
               const std::function<bool()>& wanted = nullptr);

}  // namespace pacsvisor
