#include "vmm/cli/dropped_disk.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "vmm/base/log.h"
#include "vmm/cli/disk_facts.h"
#include "vmm/cli/store_path.h"
#include "vmm/disk/layer_directory.h"
#include "vmm/machine/snapshot_blocks.h"

namespace pacsvisor {
namespace {

// Afterwards nothing leads to the hold any more.
Status ReleaseHoldOf(const std::string& path) {
  const std::string name = TRY(LayerDirectory::SourceOf(path));
  if (name.empty()) {
    return {};
  }
  const BlockOrigin origin = TRY(BlockOrigin::Parse(name));
  if (origin.hold.empty()) {
    return {};
  }
  const std::unique_ptr<Store> store = TRY(OpenStoreAt({origin.store, origin.key}));
  TRY(store->ReleaseHolds(origin.snapshot, origin.hold));
  return {};
}

}  // namespace

void DropLayers(const std::string& path) {
  if (const Status released = ReleaseHoldOf(path); !released.ok()) {
    Log(LogLevel::kWarning,
        "'{}' is given up, and the snapshot that it was fetched from stays held (pacsvisor hold "
        "--list tells): {}",
        path, released.error().message());
  }
  std::error_code error;
  std::filesystem::remove_all(LayerDirectoryOf(path), error);
  if (error) {
    Log(LogLevel::kWarning, "'{}' cannot be removed: {}", LayerDirectoryOf(path), error.message());
  }
}

void DropDisk(const std::string& path) {
  unlink(path.c_str());
  DropLayers(path);
}

}  // namespace pacsvisor
