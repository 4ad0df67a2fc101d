// Where the commands on snapshots find their store. Threads: any.
#pragma once

#include <CLI/App.hpp>
#include <functional>
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

// The same; a new one where nothing is there, or an empty directory.
// One that is made has the secret that `secret_of` says, by the key of `place`; null: none.
Result<std::unique_ptr<Store>> OpenOrMakeStoreAt(
    const StorePlace& place,
    const std::function<Result<std::shared_ptr<const StoreSecret>>(const StoreKey*)>& secret_of);

}  // namespace pacsvisor
