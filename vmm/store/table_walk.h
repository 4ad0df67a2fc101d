// Every page of a table, past its cache. Threads: any.
#pragma once

#include <functional>

#include "vmm/base/result.h"
#include "vmm/store/table.h"

namespace pacsvisor {

// Each page of a table that can be read, parents first; and each that cannot.
void WalkTable(const Table& table, const std::function<void(const TablePage&)>& on_page,
               const std::function<void(const Error&)>& on_damage);

}  // namespace pacsvisor
