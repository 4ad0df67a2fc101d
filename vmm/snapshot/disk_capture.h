// A disk's part of a snapshot: frozen in the pause by a pointer change, read behind it.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/snapshot/capture_observer.h"
#include "vmm/snapshot/frozen_space.h"
#include "vmm/store/snapshot_writer.h"

namespace pacsvisor {

class DiskCapture {
 public:
  enum class Extent { kWhole, kChanges };

  // `number` is the disk's among the spaces of the writer. `disk` is borrowed; released at the end.
  DiskCapture(FrozenSpace& disk, uint32_t number, Extent extent);
  ~DiskCapture();

  Status Prepare();
  void Freeze();  // in the pause
  Status Write(SnapshotWriter& writer, CaptureObserver& observer);
  void GiveBack();

  uint64_t blocks() const;  // to be read: of a whole one all

 private:
  Status ReadFrozen(BlockIndex first, std::span<uint8_t> bytes, CaptureObserver& observer);

  FrozenSpace& disk_;
  const uint32_t number_;
  const Extent extent_;
  bool prepared_ = false;
  std::vector<uint64_t> taken_;
};

}  // namespace pacsvisor
