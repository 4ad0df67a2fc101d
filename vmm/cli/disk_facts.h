// What can be told of a disk image without changing it. Threads: one at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "vmm/base/result.h"
#include "vmm/machine/image_kind.h"

namespace pacsvisor {

struct DiskFacts {
  bool is_block_device = false;
  std::optional<ForeignImage> foreign;  // none: its bytes are the disk's
  uint64_t size_bytes = 0;              // of the file
  uint64_t allocated_bytes = 0;         // of the host's disk that it takes
  std::string holders;                  // in words; empty: no machine uses it
  // Layers of a machine that was killed lie beside it: the image alone is not the disk. The next
  // run merges them.
  bool has_layers = false;
  // The snapshot, in words, that holds what of the disk is not fetched yet; empty: it is whole.
  std::string source;
};

// kInvalidArgument: neither a file nor a block device.
Result<DiskFacts> InspectDisk(const std::string& path);

// kBusy names who uses the image.
Status CheckUnused(const std::string& path);

// PATH.layers, and whether it holds any.
std::string LayerDirectoryOf(const std::string& path);
bool HasLayers(const std::string& path);

}  // namespace pacsvisor
