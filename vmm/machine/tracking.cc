#include "vmm/machine/tracking.h"

#include <algorithm>
#include <utility>

#include "vmm/dirty/dirty_tracker.h"
#include "vmm/kvm/dirty_bitmap_source.h"
#include "vmm/kvm/dirty_ring_source.h"
#include "vmm/memory/compare_source.h"
#include "vmm/memory/pagemap_source.h"

namespace pacsvisor {
namespace {

Result<uint32_t> RingEntries(const KvmSystem& kvm) {
  const uint32_t most = KvmVm::MostDirtyRingEntries(kvm);
  if (most == 0) {
    return Error::Make(
        ErrorCode::kUnsupported,
        "this host's KVM has no dirty rings (Linux 5.11): use tracking = \"bitmap\"");
  }
  return std::min(most, DirtyRingSource::kDefaultEntries);
}

}  // namespace

std::string_view TrackingName(Tracking tracking) {
  switch (tracking) {
    case Tracking::kAuto:
      return "auto";
    case Tracking::kBitmap:
      return "bitmap";
    case Tracking::kRing:
      return "ring";
    case Tracking::kPagemap:
      return "pagemap";
    case Tracking::kCompare:
      return "compare";
  }
  CHECK(false, "tracking {}", static_cast<int>(tracking));
}

Result<TrackingResource> OpenTracking(Tracking tracking, const KvmSystem& kvm) {
  TrackingResource resource;
  resource.kind = tracking == Tracking::kAuto ? kAutomaticTracking : tracking;
  if (tracking == Tracking::kRing) {
    resource.ring_entries = TRY(RingEntries(kvm));
  }
  if (tracking == Tracking::kPagemap) {
    Result<std::shared_ptr<const PagemapAccess>> access = PagemapAccess::Open();
    if (!access.ok()) {
      return std::move(access).error().WithContext("tracking = \"pagemap\"");
    }
    resource.pagemap = *std::move(access);
  }
  return resource;
}

DirtyLogging LoggingFromTheFirst(const TrackingResource& resource) {
  return resource.kind == Tracking::kBitmap ? DirtyLogging::kOn : DirtyLogging::kOff;
}

Result<MachineTracker> MakeTracker(const TrackingResource& resource, KvmVm& vm, GuestMemory& memory,
                                   DirtyLogging logging) {
  MachineTracker made;
  std::unique_ptr<DirtySource> source;
  switch (resource.kind) {
    case Tracking::kBitmap:
      source = TRY(DirtyBitmapSource::Create(
          vm, memory, DirtyBitmapSource::BestClearing(vm.system()), logging));
      break;
    case Tracking::kRing: {
      auto ring = std::make_unique<DirtyRingSource>(vm, memory, resource.ring_entries);
      made.ring = ring.get();
      source = std::move(ring);
      break;
    }
    case Tracking::kPagemap:
      source = std::make_unique<PagemapSource>(memory, resource.pagemap);
      break;
    case Tracking::kCompare:
      source = std::make_unique<CompareSource>(memory);
      break;
    case Tracking::kAuto:
      CHECK(false, "a source is to be chosen first");
  }
  made.tracker = std::make_unique<DirtyTracker>(memory.dirty(), std::move(source));
  return made;
}

}  // namespace pacsvisor
