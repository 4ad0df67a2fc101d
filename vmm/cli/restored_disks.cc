#include "vmm/cli/restored_disks.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/cli/disk_facts.h"
#include "vmm/cli/new_disk_file.h"
#include "vmm/machine/host_resources.h"
#include "vmm/snapshot/disks_snapshot.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kBlocksAtOnce = 256;
constexpr uint64_t kBlockBytes = 4096;

Status WriteAt(int fd, std::span<const uint8_t> bytes, uint64_t offset_bytes,
               const std::string& path) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t written = ::pwrite(fd, bytes.data() + done, bytes.size() - done,
                                     static_cast<off_t>(offset_bytes + done));
    if (written < 0 && errno != EINTR) {
      return Error::FromErrno(errno, "cannot write the restored disk {}", path);
    }
    done += written > 0 ? static_cast<size_t>(written) : 0;
  }
  return {};
}

// Zeroes are left out: the file is new, and reads as zeroes where nothing was written.
Status WriteDisk(SnapshotReader& snapshot, const RestorePlan::Disk& disk, int fd,
                 uint64_t done_bytes, uint64_t total_bytes, ProgressBar& progress) {
  if (::ftruncate(fd, static_cast<off_t>(disk.size_bytes)) != 0) {
    return Error::FromErrno(errno, "cannot give {} its {} bytes", disk.path, disk.size_bytes);
  }
  std::vector<uint8_t> bytes(kBlocksAtOnce * kBlockBytes);
  const uint64_t blocks = (disk.size_bytes + kBlockBytes - 1) / kBlockBytes;
  for (uint64_t block = 0; block < blocks;) {
    progress.Show("disks", done_bytes + block * kBlockBytes, total_bytes);
    const uint64_t zero = TRY(snapshot.ZeroRun(disk.space, BlockIndex(block)));
    if (zero > 0) {
      block += zero;
      continue;
    }
    const uint64_t count = std::min(kBlocksAtOnce, blocks - block);
    const std::span<uint8_t> part(bytes.data(), count * kBlockBytes);
    TRY(snapshot.Read(disk.space, BlockIndex(block), part));
    const uint64_t offset_bytes = block * kBlockBytes;
    const uint64_t inside = std::min<uint64_t>(part.size(), disk.size_bytes - offset_bytes);
    TRY(WriteAt(fd, part.first(inside), offset_bytes, disk.path));
    block += count;
  }
  return {};
}

// Makes the disks of a plan, one after the other; what has been begun lazily is given up again
// unless all was well.
class DiskMaker {
 public:
  DiskMaker(const DiskOrigin& origin, const RestorePlan& plan, ProgressBar& progress)
      : origin_(origin), plan_(plan), progress_(progress), eager_(origin.eager) {
    for (const RestorePlan::Disk& disk : plan.disks) {
      total_bytes_ += disk.size_bytes;
    }
  }
  ~DiskMaker() {
    progress_.Clear();
    for (const BegunDisk& disk : begun_) {
      GiveUpBegunDisk(origin_.store, disk);
    }
  }
  DiskMaker(const DiskMaker&) = delete;
  DiskMaker& operator=(const DiskMaker&) = delete;

  // The disk `index` as the new, empty file `fd`, which is found as `path`.
  Status Make(size_t index, const std::string& path, int fd) {
    const RestorePlan::Disk& disk = plan_.disks[index];
    if (!eager_ && !plan_.config.disks[index].read_only) {
      const Status begun = Begin(disk, path, fd);
      if (begun.ok()) {
        done_bytes_ += disk.size_bytes;
        return {};
      }
      // A store that cannot be written, or that somebody else has been writing for long.
      Log(LogLevel::kInfo, "disks are written whole before the guest starts: {}",
          begun.error().message());
      eager_ = true;
    }
    TRY(WriteDisk(origin_.snapshot, disk, fd, done_bytes_, total_bytes_, progress_));
    done_bytes_ += disk.size_bytes;
    return {};
  }
  std::vector<BegunDisk> Keep() { return std::exchange(begun_, {}); }

 private:
  Status Begin(const RestorePlan::Disk& disk, const std::string& path, int fd) {
    const SnapshotInfo& info = origin_.snapshot.info();
    begun_.push_back(TRY(BeginFromSnapshot(origin_.store,
                                           {.store = origin_.place.path,
                                            .key = origin_.place.key,
                                            .snapshot = info.id,
                                            .space = info.spaces[disk.space].name,
                                            .hold = {}},
                                           {.fd = fd,
                                            .size_bytes = disk.size_bytes,
                                            .image = path,
                                            .path = disk.path,
                                            .machine = origin_.machine})));
    return {};
  }

  const DiskOrigin& origin_;
  const RestorePlan& plan_;
  ProgressBar& progress_;
  bool eager_;
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;
  std::vector<BegunDisk> begun_;
};

class ProgressObserver : public CaptureObserver {
 public:
  explicit ProgressObserver(ProgressBar& progress) : progress_(progress) {}
  void OnProgress(CapturePhase, uint64_t bytes_done, uint64_t bytes_total) override {
    progress_.Show("keeping", bytes_done, bytes_total);
  }
  bool cancelled() const override { return false; }

 private:
  ProgressBar& progress_;
};

}  // namespace

Result<std::vector<BegunDisk>> WriteNewDisks(const DiskOrigin& origin, const RestorePlan& plan,
                                             ProgressBar& progress) {
  std::vector<NewDiskFile> files;
  DiskMaker maker(origin, plan, progress);
  for (size_t i = 0; i < plan.disks.size(); ++i) {
    const std::string& path = plan.disks[i].path;
    files.push_back(TRY(NewDiskFile::Create(path, NewDiskFile::Existing::kRefuse)));
    TRY(maker.Make(i, path, files.back().fd()));
  }
  for (NewDiskFile& file : files) {
    TRY(file.Finish());
  }
  return maker.Keep();
}

Result<RestoredFiles> WriteRestoredDisks(const DiskOrigin& origin, const RestorePlan& plan,
                                         ProgressBar& progress) {
  std::vector<std::string> paths;
  for (const RestorePlan::Disk& disk : plan.disks) {
    paths.push_back(disk.path);
  }
  RestoredFiles files = TRY(RestoredFiles::Create(paths));
  DiskMaker maker(origin, plan, progress);
  for (size_t i = 0; i < plan.disks.size(); ++i) {
    TRY(maker.Make(i, RestoredName(paths[i]), files.fd(i)));
  }
  TRY(files.Sync());
  (void)maker.Keep();
  return files;
}

Status ExchangeDisks(const MachineConfig& config, SwapDirection direction) {
  std::vector<ImageLock> claims;
  for (const DiskConfig& disk : config.disks) {
    if (!std::filesystem::exists(disk.path)) {
      if (HasLayers(disk.path)) {
        return Error::Make(
            ErrorCode::kBusy,
            "'{}' holds what a machine last wrote to an earlier disk of this name: it "
            "would be taken for the new one's; move or remove that directory first",
            LayerDirectoryOf(disk.path));
      }
      continue;
    }
    if (!std::filesystem::is_regular_file(disk.path)) {
      return Error::Make(ErrorCode::kInvalidArgument, "'{}' is no file and is not replaced",
                         disk.path);
    }
    TRY(CheckUnused(disk.path));
    claims.push_back(TRY(ImageLock::Acquire(disk.path, ImageLock::Mode::kExclusive, {})));
  }
  return SwapDisks(config, direction);
}

Status PutDisksBack(const MachineConfig& config) {
  TRY(FinishDiskSwap(config));
  const std::vector<DiskConfig>& disks = config.disks;
  if (!std::all_of(disks.begin(), disks.end(), [](const DiskConfig& disk) {
        return std::filesystem::exists(ReplacedName(disk.path));
      })) {
    return {};  // they never left their places, or nothing was there
  }
  return ExchangeDisks(config, SwapDirection::kPutBack);
}

Status MakeDisksWhole(const MachineConfig& config, const ImageOwner& owner) {
  for (const DiskConfig& disk : config.disks) {
    if (disk.read_only || !LayerDirectory::HoldsLayers(disk.path)) {
      continue;
    }
    DiskImage image = TRY(DiskImage::Open(
        {.path = disk.path, .cache = disk.cache, .with_layers = true, .owner = owner}));
    std::shared_ptr<IoEngine> engine = TRY(CreateIoEngine(IoEngineKind::kAuto));
    std::shared_ptr<LayerDirectory> directory = TRY(LayerDirectory::Open(disk.path));
    const std::shared_ptr<SnapshotBlocks> source = TRY(OpenBlockSource(disk.path, nullptr));
    if (source != nullptr) {
      Log(LogLevel::kInfo, "disk {}: what is not fetched yet comes first", disk.path);
    }
    TRY(MergeDisk(std::make_shared<const DiskImage>(std::move(image)), std::move(engine),
                  std::move(directory), source, LayeredDisk::SourceBlocks::kFetch));
  }
  return {};
}

Result<SnapshotInfo> KeepDisks(Store& store, const SnapshotId& parent, const MachineConfig& config,
                               const std::string& message, ProgressBar& progress) {
  std::vector<std::unique_ptr<FileSpace>> spaces;
  std::vector<const FileSpace*> borrowed;
  for (size_t i = 0; i < config.disks.size(); ++i) {
    spaces.push_back(TRY(
        FileSpace::Open(fmt::format("disk{}", i), config.disks[i].path, FileSpace::Mode::kRead)));
    borrowed.push_back(spaces.back().get());
  }
  SnapshotDraft draft;
  draft.machine = config.name;
  draft.message = message;
  draft.instant_ns = RealtimeNs();
  draft.texts = {{"config", config.source_text},
                 {"config_directory", config.source_directory},
                 {"pacsvisor", PACSVISOR_VERSION}};
  ProgressObserver observer(progress);
  Result<SnapshotInfo> kept = TakeDisksSnapshot(store, parent, borrowed, draft, observer);
  progress.Clear();
  return kept;
}

}  // namespace pacsvisor
