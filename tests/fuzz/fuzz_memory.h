// Guest memory of a fuzz target, the same for all inputs: mapping it anew costs more than most
// inputs do, since the kernel then clears a huge page.
#pragma once

#include <memory>
#include <vector>

#include "tests/support/virtio_driver.h"
#include "vmm/dirty/extent.h"

namespace pacsvisor {

class FuzzMemory {
 public:
  // All zeroes: what the last input wrote went through accessors, which marked the pages.
  GuestMemory& Clean() {
    std::vector<uint64_t> written(memory_->dirty().word_count());
    memory_->dirty().TakeInto(written);
    for (const Extent& pages : ExtentsOf(written, memory_->page_count())) {
      CHECK(memory_->Fill(
          {GuestAddress(pages.first.raw() * kPageSizeBytes), pages.count * kPageSizeBytes}, 0));
    }
    return *memory_;
  }
  GuestMemory& memory() { return *memory_; }

 private:
  const std::unique_ptr<GuestMemory> memory_ = MakeTestMemory(2 * kMiB);
};

}  // namespace pacsvisor
