#include "vmm/cli/store_path.h"

#include <sys/stat.h>

#include <cerrno>

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

Result<std::unique_ptr<Store>> OpenOrMakeStoreAt(
    const StorePlace& place,
    const std::function<Result<std::shared_ptr<const StoreSecret>>(const StoreKey*)>& secret_of) {
  Result<std::unique_ptr<Store>> store = OpenStoreAt(place);
  if (store.ok() || store.error().code() != ErrorCode::kNotFound) {
    return store;
  }
  const std::string& path = place.path;
  const std::shared_ptr<const StoreKey> key = TRY(ReadKeyFile(place.key));
  const std::shared_ptr<const StoreSecret> secret = TRY(secret_of(key.get()));
  if ((key == nullptr) != (secret == nullptr)) {
    return Error::Make(ErrorCode::kInvalidArgument,
                       "what comes into {} is {}encrypted, and so is a store that is made for it: "
                       "{}",
                       path, secret == nullptr ? "not " : "",
                       secret == nullptr ? "leave the key away" : "name a key file");
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::FromErrno(errno, "cannot make the store's directory {}", path);
  }
  const std::shared_ptr<StoreFiles> files = TRY(StoreFiles::OpenDirectory(path));
  TRY(Store::Create(*files, key.get(), secret));
  return OpenStoreAt(place);
}

}  // namespace pacsvisor
