// Which of the kernel's ways tells where a machine's vCPUs wrote: `tracking` in VM.toml.
//
// kAuto is the bitmap, on every host. Of the four it is the one that costs nothing before it is
// started and nothing while pages are written but the fault that each takes, and that leaves
// userfaultfd on guest memory to others. Its look at clean memory is short: a bit a page (figures:
// bench/README.md). The ring saves that look and costs exits whenever one is full, the page tables'
// way takes a walk through them and excludes write protection by userfaultfd for another purpose,
// comparing takes time with memory size.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "vmm/base/result.h"
#include "vmm/kvm/kvm_vm.h"

namespace pacsvisor {

class DirtyRingSource;
class DirtyTracker;
class GuestMemory;
class KvmSystem;
class PagemapAccess;

enum class Tracking { kAuto, kBitmap, kRing, kPagemap, kCompare };

inline constexpr std::array kTrackingSources = {Tracking::kBitmap, Tracking::kRing,
                                                Tracking::kPagemap, Tracking::kCompare};

inline constexpr Tracking kAutomaticTracking = Tracking::kBitmap;

std::string_view TrackingName(Tracking tracking);  // as in VM.toml

// What a source needs of the host by name; see HostResources.
struct TrackingResource {
  Tracking kind = Tracking::kBitmap;             // never kAuto
  uint32_t ring_entries = 0;                     // kRing: of each vCPU
  std::shared_ptr<const PagemapAccess> pagemap;  // kPagemap
};

// kUnsupported says what the host lacks for it.
Result<TrackingResource> OpenTracking(Tracking tracking, const KvmSystem& kvm);

struct MachineTracker {
  std::unique_ptr<DirtyTracker> tracker;
  DirtyRingSource* ring = nullptr;  // the tracker's, with kRing: the vCPUs are to be added
};

// How the memory of a machine is added that is tracked before it first runs, as a restored one is.
// Then tracking costs it nothing to start: not switching the log on slot by slot, not clearing a
// bit for each of its pages (bench/README.md, "Restores").
DirtyLogging LoggingFromTheFirst(const TrackingResource& resource);

// Not started. The VM was made with the resource's rings, and has its memory, added with `logging`.
Result<MachineTracker> MakeTracker(const TrackingResource& resource, KvmVm& vm, GuestMemory& memory,
                                   DirtyLogging logging = DirtyLogging::kOff);

}  // namespace pacsvisor
