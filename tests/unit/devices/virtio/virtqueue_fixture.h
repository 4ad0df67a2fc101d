// A queue and its driver in guest memory, for tests that run with every combination of features.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "devices/virtio/virtqueue.h"
#include "tests/support/virtio_driver.h"

namespace pacsvisor {

class VirtqueueTest : public testing::TestWithParam<VirtqueueFeatures> {
 protected:
  using PopResult = Virtqueue::PopResult;

  VirtqueueTest() : memory_(MakeTestMemory()), heap_(*memory_, GuestAddress(kMiB), 8 * kMiB) {}

  void Make(uint16_t size, VirtqueueFeatures features) {
    driver_ = std::make_unique<VirtqueueDriver>(*memory_, heap_, size, features);
    queue_ = std::make_unique<Virtqueue>(
        Virtqueue::Create(*memory_, driver_->layout(), features).value());
  }
  void Make(uint16_t size) { Make(size, GetParam()); }
  GuestRange Buffer(uint64_t size_bytes = 16) { return heap_.Allocate(size_bytes); }

  std::unique_ptr<GuestMemory> memory_;
  GuestHeap heap_;
  std::unique_ptr<VirtqueueDriver> driver_;
  std::unique_ptr<Virtqueue> queue_;
  DescriptorChain chain_;
};

inline auto EveryVirtqueueFeature() {
  return testing::Values(VirtqueueFeatures{false, false}, VirtqueueFeatures{true, false},
                         VirtqueueFeatures{false, true}, VirtqueueFeatures{true, true});
}

inline std::string VirtqueueFeaturesName(
    const testing::TestParamInfo<VirtqueueFeatures>& instance) {
  return std::string(instance.param.indirect_descriptors ? "Indirect" : "Direct") +
         (instance.param.event_index ? "Event" : "Flags");
}

}  // namespace pacsvisor
