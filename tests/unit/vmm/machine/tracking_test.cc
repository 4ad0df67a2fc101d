#include "vmm/machine/tracking.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/needs_kvm.h"
#include "vmm/dirty/dirty_tracker.h"
#include "vmm/kvm/kvm_vm.h"

namespace pacsvisor {
namespace {

class TrackingTest : public testing::TestWithParam<Tracking> {};

INSTANTIATE_TEST_SUITE_P(Sources, TrackingTest, testing::ValuesIn(kTrackingSources),
                         [](const auto& param) { return std::string(TrackingName(param.param)); });

TEST_P(TrackingTest, IsOpenedAndMadeOrSaysWhyNot) {
  NEEDS_KVM();
  const auto kvm = KvmSystem::Open().value();
  const Result<TrackingResource> resource = OpenTracking(GetParam(), *kvm);
  if (!resource.ok()) {
    EXPECT_EQ(resource.error().code(), ErrorCode::kUnsupported);
    if (std::getenv("PACSVISOR_REQUIRE_KVM") != nullptr) {
      FAIL() << resource.error().message();
    }
    GTEST_SKIP() << resource.error().message();
  }
  const auto memory =
      GuestMemory::Create(MemoryLayout::Create(4 * kMiB, 40).value(), MemoryBacking::kAnonymous)
          .value();
  const auto vm = KvmVm::Create(*kvm, {.dirty_ring_entries = resource->ring_entries}).value();
  ASSERT_TRUE(vm->AddMemory(*memory).ok());
  const MachineTracker made = MakeTracker(*resource, *vm, *memory).value();
  EXPECT_EQ(made.tracker->source_name(), TrackingName(GetParam()));
  EXPECT_EQ(made.ring != nullptr, GetParam() == Tracking::kRing);
  EXPECT_FALSE(made.tracker->started());
}

TEST(Tracking, AutoIsTheBitmap) {
  NEEDS_KVM();
  const auto kvm = KvmSystem::Open().value();
  EXPECT_EQ(OpenTracking(Tracking::kAuto, *kvm)->kind, Tracking::kBitmap);
}

}  // namespace
}  // namespace pacsvisor
