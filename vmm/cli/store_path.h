// Where the commands on snapshots find their store. Threads: any.
#pragma once

#include <CLI/App.hpp>
#include <memory>
#include <string>

#include "vmm/base/result.h"
#include "vmm/store/store.h"

namespace pacsvisor {

// A store's directory, and the file that holds its key; empty of one that is not encrypted.
struct StorePlace {
  std::string path;
  std::string key;
};

// That of the running machine `name`, as it tells.
Result<StorePlace> StoreOfMachine(const std::string& name);
// The key in a file; null for an empty path.
Result<std::shared_ptr<const StoreKey>> ReadKeyFile(const std::string& path);
// The store in a directory of the host.
Result<std::unique_ptr<Store>> OpenStoreAt(const StorePlace& place);

// --store and --key.
void AddStoreOption(CLI::App& command, StorePlace& place);

}  // namespace pacsvisor
