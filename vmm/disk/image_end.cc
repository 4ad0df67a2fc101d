#include "vmm/disk/image_end.h"

#include <unistd.h>

namespace pacsvisor {

bool ImageEnd::Look() {
  // fstat(2) needs a path's system call in some libraries; the descriptor's position is nobody's.
  const off_t end = image_.is_block_device() ? -1 : ::lseek(image_.fd(), 0, SEEK_END);
  if (end < 0 || static_cast<uint64_t>(end) >= image_.size_bytes()) {
    end_bytes_ = std::numeric_limits<uint64_t>::max();
    return true;
  }
  end_bytes_ = static_cast<uint64_t>(end);
  log_.Log(LogLevel::kError,
           "disk {}: the image was cut short while the machine runs: it has {} bytes of {}; "
           "the guest gets I/O errors behind its end until it has its size again (stop the "
           "machine and restore the image from a copy)",
           image_.path().string(), end, image_.size_bytes());
  return false;
}

}  // namespace pacsvisor
