// Every way to track a vCPU's writes, made for a WritingGuest.
#pragma once

#include <cstdlib>
#include <memory>
#include <ostream>
#include <string>

#include "tests/support/writing_guest.h"
#include "vmm/dirty/dirty_source.h"
#include "vmm/kvm/dirty_bitmap_source.h"
#include "vmm/kvm/dirty_ring_source.h"
#include "vmm/memory/compare_source.h"
#include "vmm/memory/pagemap_source.h"

namespace pacsvisor {

enum class DirtySourceKind {
  kBitmap,
  kBitmapFromTheFirst,
  kBitmapGetClears,
  kRing,
  kPagemap,
  kCompare
};

inline constexpr DirtySourceKind kDirtySourceKinds[] = {
    DirtySourceKind::kBitmap,          DirtySourceKind::kBitmapFromTheFirst,
    DirtySourceKind::kBitmapGetClears, DirtySourceKind::kRing,
    DirtySourceKind::kPagemap,         DirtySourceKind::kCompare};

inline std::string DirtySourceKindName(DirtySourceKind kind) {
  constexpr const char* kNames[] = {
      "Bitmap", "BitmapFromTheFirst", "BitmapGetClears", "Ring", "Pagemap", "Compare"};
  return kNames[static_cast<size_t>(kind)];
}

inline void PrintTo(DirtySourceKind kind, std::ostream* out) { *out << DirtySourceKindName(kind); }

// Of the guest's options.
inline DirtyLogging LoggingOf(DirtySourceKind kind) {
  return kind == DirtySourceKind::kBitmapFromTheFirst ? DirtyLogging::kOn : DirtyLogging::kOff;
}

// Of `guest`, which was made with rings of `ring_entries` where `kind` is kRing, and with its
// LoggingOf.
inline Result<std::unique_ptr<DirtySource>> MakeDirtySource(DirtySourceKind kind,
                                                            WritingGuest& guest, uint32_t vcpus,
                                                            uint32_t ring_entries) {
  using Source = std::unique_ptr<DirtySource>;
  switch (kind) {
    case DirtySourceKind::kBitmap:
    case DirtySourceKind::kBitmapFromTheFirst:
    case DirtySourceKind::kBitmapGetClears: {
      const bool manual = kind != DirtySourceKind::kBitmapGetClears;
      return Source(TRY(DirtyBitmapSource::Create(
          guest.vm(), guest.memory(),
          manual ? DirtyBitmapSource::Clearing::kManual : DirtyBitmapSource::Clearing::kGetClears,
          LoggingOf(kind))));
    }
    case DirtySourceKind::kRing: {
      auto ring = std::make_unique<DirtyRingSource>(guest.vm(), guest.memory(), ring_entries);
      for (uint32_t id = 0; id < vcpus; ++id) {
        TRY(ring->AddVcpu(guest.vcpu(id)));
      }
      DirtyRingSource* const borrowed = ring.get();
      guest.OnRingFull([borrowed](uint32_t id) { borrowed->ServeFull(VcpuId(id)).value(); });
      return Source(std::move(ring));
    }
    case DirtySourceKind::kPagemap: {
      auto access = TRY(PagemapAccess::Open());
      return Source(std::make_unique<PagemapSource>(guest.memory(), std::move(access)));
    }
    case DirtySourceKind::kCompare:
      return Source(std::make_unique<CompareSource>(guest.memory()));
  }
  CHECK(false, "kind {}", static_cast<int>(kind));
}

}  // namespace pacsvisor

// Skips where this host lacks what `result` (of MakeDirtySource and the like) needs; a failure
// instead where PACSVISOR_REQUIRE_KVM is set. For GoogleTest.
#define NEEDS_DIRTY_SOURCE(result)                              \
  do {                                                          \
    if (!(result).ok()) {                                       \
      if (std::getenv("PACSVISOR_REQUIRE_KVM") != nullptr ||    \
          (result).error().code() != ErrorCode::kUnsupported) { \
        FAIL() << (result).error().message();                   \
      }                                                         \
      GTEST_SKIP() << (result).error().message();               \
    }                                                           \
  } while (false)
