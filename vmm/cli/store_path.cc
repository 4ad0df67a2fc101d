#include "vmm/cli/store_path.h"

#include <sys/stat.h>

#include <cerrno>

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

Result<std::unique_ptr<Store>> OpenOrMakeStoreAt(const std::string& path) {
  Result<std::unique_ptr<Store>> store = OpenStoreAt(path);
  if (store.ok() || store.error().code() != ErrorCode::kNotFound) {
    return store;
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::FromErrno(errno, "cannot make the store's directory {}", path);
  }
  const std::shared_ptr<StoreFiles> files = TRY(StoreFiles::OpenDirectory(path));
  TRY(Store::Create(*files));
  return OpenStoreAt(path);
}

}  // namespace pacsvisor
