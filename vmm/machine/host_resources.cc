#include "vmm/machine/host_resources.h"

#include <filesystem>
#include <utility>

#include "vmm/base/log.h"

namespace pacsvisor {
namespace {

Result<std::shared_ptr<RateLimiter>> OpenLimiter(const RateLimits& rates) {
  return rates.any() ? RateLimiter::Create(rates) : std::shared_ptr<RateLimiter>();
}

Result<DiskResource> OpenDisk(const DiskConfig& disk, const ImageOwner& owner, bool snapshots,
                              const std::optional<User>& user) {
  DiskResource resource;
  resource.layered = snapshots || (!disk.read_only && LayerDirectory::HoldsLayers(disk.path));
  const bool with_layers =
      resource.layered && !disk.read_only && std::filesystem::is_regular_file(disk.path);
  DiskImage image = TRY(DiskImage::Open({.path = disk.path,
                                         .read_only = disk.read_only,
                                         .cache = disk.cache,
                                         .with_layers = with_layers,
                                         .owner = owner}));
  if (with_layers) {
    resource.layers = TRY(LayerDirectory::Open(disk.path));
    if (user) {
      TRY(GiveDirectory(*user, resource.layers->name()));
    }
  }
  resource.engine = TRY(CreateIoEngine(IoEngineKind::kAuto));
  resource.image = std::make_shared<const DiskImage>(std::move(image));
  resource.limiter = TRY(OpenLimiter(disk.rates));
  return resource;
}

// Whether it is needed at all shows when the disk's record is read: a failure is told, and is no
// error before that.
std::shared_ptr<SnapshotBlocks> OpenSource(const DiskConfig& disk, const DiskResource& resource,
                                           const std::shared_ptr<Store>& store) {
  if (resource.layers == nullptr) {
    return nullptr;
  }
  Result<std::shared_ptr<SnapshotBlocks>> source = OpenBlockSource(disk.path, store);
  if (!source.ok()) {
    Log(LogLevel::kWarning, "{}", source.error().message());
    return nullptr;
  }
  return *std::move(source);
}

Result<std::shared_ptr<const TapInterface>> OpenTap(const NetConfig& net) {
  if (net.backend != NetBackend::kTap) {
    return std::shared_ptr<const TapInterface>();
  }
  TapInterface tap = TRY(TapInterface::Open(net.interface));
  return std::make_shared<const TapInterface>(std::move(tap));
}

Result<NetResource> OpenNet(const NetConfig& net) {
  const RateLimits rates{.bytes_per_second = net.bandwidth_bytes,
                         .operations_per_second = std::nullopt};
  NetResource resource;
  resource.tap = TRY(OpenTap(net));
  resource.send_limiter = TRY(OpenLimiter(rates));
  resource.receive_limiter = TRY(OpenLimiter(rates));
  return resource;
}

// Never an error: there are other ways.
FaultsResource OpenFaults(const TrackingResource& tracking) {
  FaultsResource resource;
  if (tracking.kind == Tracking::kPagemap) {
    // Memory is one userfaultfd's, and asynchronous protection excludes the other kind.
    resource.problem =
        Error::Make(ErrorCode::kUnsupported,
                    "tracking = \"pagemap\" has its userfaultfd (VM.toml: \"auto\" leaves it)");
    return resource;
  }
  Result<std::shared_ptr<const UserFaultFd>> uffd = UserFaultFd::OpenShared();
  if (uffd.ok()) {
    resource.uffd = *std::move(uffd);
  } else {
    resource.problem = std::move(uffd).error();
  }
  return resource;
}

Result<BootResource> OpenBoot(const BootConfig& boot) {
  BootResource resource{.kernel = TRY(HostFile::Open(boot.kernel, "kernel")), .initrd = {}};
  if (!boot.initrd.empty()) {
    resource.initrd.emplace(TRY(HostFile::Open(boot.initrd, "initrd")));
  }
  return resource;
}

Result<std::shared_ptr<Store>> OpenStore(const MachineConfig& config,
                                         const std::optional<User>& user) {
  const std::string& path = config.store_path;
  std::shared_ptr<const StoreKey> key;
  if (!config.store_key.empty()) {
    key = TRY(StoreKey::ReadFile(config.store_key));
  }
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return Error::FromErrno(error.value(), "cannot make the store's directory {}", path);
  }
  std::shared_ptr<StoreFiles> files = TRY(StoreFiles::OpenDirectory(path));
  const std::vector<std::string> names = TRY(files->List("."));
  if (names.empty()) {
    TRY(Store::Create(*files, key.get()));
    if (user) {
      TRY(GiveDirectory(*user, path));
    }
    Log(LogLevel::kInfo, "store {}: made", path);
  }
  std::unique_ptr<Store> store = TRY(Store::Open(std::move(files), "machine " + config.name, key));
  return std::shared_ptr<Store>(std::move(store));
}

}  // namespace

Status MergeDisk(std::shared_ptr<const DiskImage> image, std::shared_ptr<IoEngine> engine,
                 std::shared_ptr<LayerDirectory> layers,
                 const std::shared_ptr<SnapshotBlocks>& source,
                 LayeredDisk::SourceBlocks source_blocks) {
  const std::unique_ptr<LayeredDisk> disk =
      TRY(LayeredDisk::Create(std::move(image), std::move(engine), std::move(layers), source));
  TRY(disk->MergeAll(source_blocks));
  if (source == nullptr || disk->needs_source()) {
    return {};
  }
  if (const Status released = source->Release(); !released.ok()) {
    Log(LogLevel::kWarning,
        "disk {} is whole, and its snapshot is still held for it; its next run releases that: {}",
        disk->name(), released.error().message());
    return {};
  }
  return disk->MergeAll(source_blocks);
}

Status HostResources::MergeLayers() const {
  for (const DiskResource& disk : disks) {
    if (disk.layers == nullptr) {
      continue;
    }
    TRY(MergeDisk(disk.image, disk.engine, disk.layers, disk.source,
                  LayeredDisk::SourceBlocks::kLeave));
  }
  return {};
}

Result<std::shared_ptr<const HostResources>> HostResources::Open(const MachineConfig& config,
                                                                 const Options& options) {
  auto resources = std::make_shared<HostResources>();
  resources->kvm = TRY(KvmSystem::Open());
  resources->tracking = TRY(OpenTracking(config.tracking, *resources->kvm));
  resources->faults = OpenFaults(resources->tracking);
  const ImageOwner owner{.machine = config.name,
                         .record_directory = options.image_record_directory,
                         .pid = options.pid};
  for (const DiskConfig& disk : config.disks) {
    resources->disks.push_back(
        TRY(OpenDisk(disk, owner, !config.store_path.empty(), options.user)));
  }
  for (const NetConfig& net : config.nets) {
    resources->nets.push_back(TRY(OpenNet(net)));
  }
  if (!config.store_path.empty()) {
    resources->store = TRY(OpenStore(config, options.user));
  }
  for (size_t i = 0; i < config.disks.size(); ++i) {
    DiskResource& disk = resources->disks[i];
    disk.source = OpenSource(config.disks[i], disk, resources->store);
  }
  if (config.agent_enabled) {
    resources->agent = TRY(UnixListener::OpenShared(options.agent_socket));
  }
  if (options.boot == Boot::kKernel) {
    resources->boot.emplace(TRY(OpenBoot(config.boot)));
  }
  return std::shared_ptr<const HostResources>(std::move(resources));
}

}  // namespace pacsvisor
