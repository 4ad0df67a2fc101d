// Where a disk's image ends just now: somebody may cut it short while the machine runs. What
// touches bytes behind that end fails, writes too, since one of them would make the image long
// again with zeroes where data was. Threads: one at a time (the disk's worker).
#pragma once

#include <cstdint>
#include <limits>

#include "vmm/base/log.h"
#include "vmm/disk/disk_image.h"

namespace pacsvisor {

class ImageEnd {
 public:
  // `image` outlives it.
  explicit ImageEnd(const DiskImage& image) : image_(image) {}

  // Before each batch of requests; one that is on its way just then can miss it by that much.
  // False: the image has not its size.
  bool Look();
  bool Holds(uint64_t end_bytes) const { return end_bytes <= end_bytes_; }

 private:
  const DiskImage& image_;
  uint64_t end_bytes_ = std::numeric_limits<uint64_t>::max();
  RateLimitedLog log_;
};

}  // namespace pacsvisor
