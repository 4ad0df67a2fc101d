// What a machine uses of its host by name: opened once, before privileges are given up, and kept
// for as long as the machine is wanted. A guest that resets itself gets a new machine over the same
// resources: images stay locked, interfaces attached, and nothing is opened or set up again.
//
// Threads: Open by the main thread; constant after it. One machine at a time uses them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/console/unix_listener.h"
#include "devices/net/tap_interface.h"
#include "firmware/boot/image_source.h"
#include "vmm/base/rate_limiter.h"
#include "vmm/base/result.h"
#include "vmm/disk/disk_image.h"
#include "vmm/disk/io_engine.h"
#include "vmm/disk/layer_directory.h"
#include "vmm/disk/layered_disk.h"
#include "vmm/kvm/kvm_system.h"
#include "vmm/machine/config.h"
#include "vmm/machine/snapshot_blocks.h"
#include "vmm/machine/tracking.h"
#include "vmm/memory/user_fault_fd.h"
#include "vmm/sandbox/privileges.h"
#include "vmm/store/store.h"

namespace pacsvisor {

struct DiskResource {
  std::shared_ptr<const DiskImage> image;
  std::shared_ptr<IoEngine> engine;
  std::shared_ptr<RateLimiter> limiter;  // null: none
  // Snapshots are wanted, or layers are left over from when they were.
  bool layered = false;
  std::shared_ptr<LayerDirectory> layers;  // null where none can be: read-only, no plain file
  std::shared_ptr<SnapshotBlocks> source;  // where its blocks are that are not fetched yet; or null
};

struct NetResource {
  std::shared_ptr<const TapInterface> tap;  // kTap only
  std::shared_ptr<RateLimiter> send_limiter;
  std::shared_ptr<RateLimiter> receive_limiter;
};

// What faults of guest memory are served through (vmm/memory/memory_faults.h).
struct FaultsResource {
  std::shared_ptr<const UserFaultFd> uffd;  // null: none
  Status problem;                           // then, why: for whoever goes without
};

struct BootResource {
  HostFile kernel;
  std::optional<HostFile> initrd;
};

// All layers of a disk that no machine runs into its image. With kFetch all of its blocks come from
// `source` as well; when it needs that no more, what keeps it is released.
Status MergeDisk(std::shared_ptr<const DiskImage> image, std::shared_ptr<IoEngine> engine,
                 std::shared_ptr<LayerDirectory> layers,
                 const std::shared_ptr<SnapshotBlocks>& source,
                 LayeredDisk::SourceBlocks source_blocks);

struct HostResources {
  enum class Boot { kKernel, kNone };  // kNone: memory will be loaded, no kernel is needed
  struct Options {
    std::string image_record_directory;  // as ImageOwner says, of both
    int64_t pid = 0;
    std::string agent_socket;  // used where the configuration has an agent
    Boot boot = Boot::kKernel;
    // Who the process will be: what is made for it to write in (layers, a new store) is theirs.
    std::optional<User> user;
  };

  // Disks are locked in the name of the machine.
  static Result<std::shared_ptr<const HostResources>> Open(const MachineConfig& config,
                                                           const Options& options);

  std::shared_ptr<const KvmSystem> kvm;
  TrackingResource tracking;
  FaultsResource faults;
  std::vector<DiskResource> disks;            // as configured
  std::vector<NetResource> nets;              // likewise
  std::shared_ptr<const UnixListener> agent;  // empty without an agent
  std::optional<BootResource> boot;
  std::shared_ptr<Store> store;  // null where the configuration names none

  // A clean end, no machine any more: what disks hold in layers goes into their images, so that
  // these are whole without us, but for what is not fetched yet from a snapshot: that stays there,
  // for the next run to go on with.
  Status MergeLayers() const;
};

}  // namespace pacsvisor
