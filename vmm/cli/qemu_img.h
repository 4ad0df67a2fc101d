// qemu-img(1), which reads the disk images of other programs. It is told each format and never
// guesses one: bytes that a guest wrote could look like any. It locks what it reads, which keeps
// machines away from it, and it away from a machine's. Threads: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vmm/base/result.h"
#include "vmm/cli/interrupts.h"
#include "vmm/cli/progress_bar.h"

namespace pacsvisor {

class QemuImg {
 public:
  // "raw", "qcow2", "vhdx", "vpc", "vmdk", "vdi": what is imported from.
  static const std::vector<std::string>& Formats();

  explicit QemuImg(Interrupts& interrupts) : interrupts_(interrupts) {}

  struct Info {
    uint64_t size_bytes = 0;               // of the disk that the image holds
    std::vector<std::string> other_files;  // that the image names, and whose bytes are its own
  };
  Result<Info> Ask(const std::string& path, const std::string& format);
  // Into `to`, an existing file; raw, zeroes become holes. Nothing is synced.
  Status ConvertToRaw(const std::string& path, const std::string& format, const std::string& to,
                      uint64_t size_bytes, ProgressBar& progress);
  // What is wrong with the image, in qemu-img's words; empty: nothing, or a format without checks.
  Result<std::string> Check(const std::string& path, const std::string& format);

 private:
  Interrupts& interrupts_;
};

}  // namespace pacsvisor
