#include "vmm/cli/store_path.h"

#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {

Result<StorePlace> StoreOfMachine(const std::string& name) {
  const std::string base = TRY(RuntimeBase());
  const Result<RunningMachine> machine = FindRunningMachine(base, name);
  if (!machine.ok()) {
    return Error::Make(machine.error().code(),
                       "{}; of one that does not run, name the store: --store DIR",
                       machine.error().message());
  }
  const MachineDescription description = TRY(ControlClient(machine->socket_path).Describe());
  if (description.store.empty()) {
    return Error::Make(ErrorCode::kUnsupported,
                       "machine '{}' has no store for snapshots: add [store] with path = "
                       "\"DIRECTORY\" to its VM.toml",
                       name);
  }
  return StorePlace{description.store, description.store_key};
}

Result<std::shared_ptr<const StoreKey>> ReadKeyFile(const std::string& path) {
  return path.empty() ? std::shared_ptr<const StoreKey>() : StoreKey::ReadFile(path);
}

Result<std::unique_ptr<Store>> OpenStoreAt(const StorePlace& place) {
  const std::shared_ptr<const StoreKey> key = TRY(ReadKeyFile(place.key));
  return Store::Open(TRY(StoreFiles::OpenDirectory(place.path)), {}, key);
}

void AddStoreOption(CLI::App& command, StorePlace& place) {
  command.add_option("--store", place.path, "The store's directory");
  command.add_option("--key", place.key, "The key file of an encrypted store");
}

}  // namespace pacsvisor
