#include "vmm/machine/source_release.h"

#include <algorithm>
#include <chrono>

#include "vmm/base/log.h"
#include "vmm/base/thread.h"

namespace pacsvisor {
namespace {

constexpr std::chrono::seconds kLookAgain{1};
constexpr uint64_t kLooksUntilAgain = 30;  // where fetching has stopped: a store may come back

}  // namespace

Result<std::unique_ptr<SourceRelease>> SourceRelease::Start(std::vector<Disk> disks) {
  std::erase_if(
      disks, [](const Disk& disk) { return disk.source == nullptr || disk.source->MayForget(); });
  if (disks.empty()) {
    return std::unique_ptr<SourceRelease>();
  }
  std::unique_ptr<SourceRelease> release(new SourceRelease(std::move(disks)));
  release->thread_ = TRY(
      StartThread(ThreadKind::kSnapshot, "disk-release", [self = release.get()] { self->Run(); }));
  return release;
}

SourceRelease::~SourceRelease() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) {
    thread_.join();
  }
}

bool SourceRelease::ReleaseOne(const Disk& disk, bool again) {
  if (disk.needs_source()) {
    if (again) {
      disk.fetch_again();
    }
    return false;
  }
  const Status released = disk.source->Release();
  if (!released.ok()) {
    Log(LogLevel::kDebug, "disk {} is whole, and its snapshot is still held: {}", disk.path,
        released.error().message());
    return false;
  }
  Log(LogLevel::kInfo, "disk {} is whole: its snapshot is not needed any more", disk.path);
  return true;
}

void SourceRelease::Run() {
  for (uint64_t look = 1;; ++look) {
    const bool again = look % kLooksUntilAgain == 0;
    std::erase_if(disks_, [&](const Disk& disk) { return ReleaseOne(disk, again); });
    const MutexLock lock(mutex_);
    if (disks_.empty() || stopping_) {
      return;
    }
    changed_.wait_for(mutex_, kLookAgain);
    if (stopping_) {
      return;
    }
  }
}

}  // namespace pacsvisor
