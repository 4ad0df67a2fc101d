// Where the commands on snapshots find their store. Threads: any.
#pragma once

#include <memory>
#include <string>

#include "vmm/base/result.h"
#include "vmm/store/store.h"

namespace pacsvisor {

// That of the running machine `name`, as it tells.
Result<std::string> StorePathOfMachine(const std::string& name);
// The store in a directory of the host.
Result<std::unique_ptr<Store>> OpenStoreAt(const std::string& path);

// The same; a new one where nothing is there, or an empty directory.
Result<std::unique_ptr<Store>> OpenOrMakeStoreAt(const std::string& path);

}  // namespace pacsvisor
