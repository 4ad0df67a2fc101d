#include "vmm/cli/restored_disks.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "vmm/base/clock.h"
#include "vmm/cli/disk_facts.h"
#include "vmm/cli/new_disk_file.h"
#include "vmm/disk/layered_disk.h"
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

uint64_t TotalBytes(const std::vector<RestorePlan::Disk>& disks) {
  uint64_t bytes = 0;
  for (const RestorePlan::Disk& disk : disks) {
    bytes += disk.size_bytes;
  }
  return bytes;
}

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

Status WriteNewDisks(SnapshotReader& snapshot, const std::vector<RestorePlan::Disk>& disks,
                     ProgressBar& progress) {
  const uint64_t total_bytes = TotalBytes(disks);
  std::vector<NewDiskFile> files;
  uint64_t done_bytes = 0;
  for (const RestorePlan::Disk& disk : disks) {
    files.push_back(TRY(NewDiskFile::Create(disk.path, NewDiskFile::Existing::kRefuse)));
    TRY(WriteDisk(snapshot, disk, files.back().fd(), done_bytes, total_bytes, progress));
    done_bytes += disk.size_bytes;
  }
  progress.Clear();
  for (NewDiskFile& file : files) {
    TRY(file.Finish());
  }
  return {};
}

Result<RestoredFiles> WriteRestoredDisks(SnapshotReader& snapshot,
                                         const std::vector<RestorePlan::Disk>& disks,
                                         ProgressBar& progress) {
  std::vector<std::string> paths;
  for (const RestorePlan::Disk& disk : disks) {
    paths.push_back(disk.path);
  }
  RestoredFiles files = TRY(RestoredFiles::Create(paths));
  uint64_t done_bytes = 0;
  for (size_t i = 0; i < disks.size(); ++i) {
    TRY(WriteDisk(snapshot, disks[i], files.fd(i), done_bytes, TotalBytes(disks), progress));
    done_bytes += disks[i].size_bytes;
  }
  progress.Clear();
  TRY(files.Sync());
  return files;
}

Status ExchangeDisks(const MachineConfig& config, SwapDirection direction) {
  std::vector<ImageLock> claims;
  for (const DiskConfig& disk : config.disks) {
    if (HasLayers(disk.path)) {
      return Error::Make(ErrorCode::kBusy,
                         "'{}' holds what a machine last wrote to an earlier disk of this name: it "
                         "would be taken for the new one's; move or remove that directory first",
                         LayerDirectoryOf(disk.path));
    }
    if (!std::filesystem::exists(disk.path)) {
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

Status MergeLeftoverLayers(const MachineConfig& config, const ImageOwner& owner) {
  for (const DiskConfig& disk : config.disks) {
    if (disk.read_only || !LayerDirectory::HoldsLayers(disk.path)) {
      continue;
    }
    DiskImage image = TRY(DiskImage::Open(
        {.path = disk.path, .cache = disk.cache, .with_layers = true, .owner = owner}));
    std::shared_ptr<IoEngine> engine = TRY(CreateIoEngine(IoEngineKind::kAuto));
    std::shared_ptr<LayerDirectory> directory = TRY(LayerDirectory::Open(disk.path));
    const std::unique_ptr<LayeredDisk> layered =
        TRY(LayeredDisk::Create(std::make_shared<const DiskImage>(std::move(image)),
                                std::move(engine), std::move(directory)));
    TRY(layered->MergeAll());
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
