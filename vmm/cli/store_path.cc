#include "vmm/cli/store_path.h"

#include "vmm/control/control_client.h"
#include "vmm/control/runtime_directory.h"

namespace pacsvisor {

Result<std::string> StorePathOfMachine(const std::string& name) {
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
  return description.store;
}

Result<std::unique_ptr<Store>> OpenStoreAt(const std::string& path) {
  return Store::Open(TRY(StoreFiles::OpenDirectory(path)));
}

}  // namespace pacsvisor
