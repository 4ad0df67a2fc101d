// Rings that break the rules of virtio 1.2, section 2.7: the queue breaks, nothing else.
#include <gtest/gtest.h>

#include "tests/unit/devices/virtio/virtqueue_fixture.h"

namespace pacsvisor {
namespace {

using HostileVirtqueueTest = VirtqueueTest;

INSTANTIATE_TEST_SUITE_P(Features, HostileVirtqueueTest, EveryVirtqueueFeature(),
                         VirtqueueFeaturesName);

TEST_P(HostileVirtqueueTest, ALoopBreaksTheQueue) {
  Make(4);
  const VirtqDescriptor self{Buffer().start.raw(), 16, kVirtqDescriptorNext, 0};
  driver_->WriteDescriptor(0, self);
  driver_->PublishHead(0);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
  EXPECT_TRUE(queue_->broken());
  EXPECT_FALSE(queue_->broken_reason().empty());
}

TEST_P(HostileVirtqueueTest, ALoopInAnIndirectTableBreaksTheQueue) {
  Make(4);
  const GuestRange table = heap_.Allocate(2 * sizeof(VirtqDescriptor));
  const uint64_t data = Buffer().start.raw();
  driver_->WriteIndirect(table.start, 0, {data, 16, kVirtqDescriptorNext, 1});
  driver_->WriteIndirect(table.start, 1, {data, 16, kVirtqDescriptorNext, 0});
  driver_->WriteDescriptor(0, {table.start.raw(), 32, kVirtqDescriptorIndirect, 0});
  driver_->PublishHead(0);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
}

TEST_P(HostileVirtqueueTest, HeadsAndNextsOutOfRangeBreakTheQueue) {
  for (const uint16_t index : std::initializer_list<uint16_t>{4, 5, 0x7fff, 0xffff}) {
    Make(4);
    driver_->PublishHead(index);
    EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken) << "head " << index;
    Make(4);
    driver_->WriteDescriptor(0, {Buffer().start.raw(), 16, kVirtqDescriptorNext, index});
    driver_->PublishHead(0);
    EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken) << "next " << index;
  }
}

TEST_P(HostileVirtqueueTest, ReadableBehindWritableBreaksTheQueue) {
  Make(4);
  driver_->Add({Writable(Buffer()), Readable(Buffer())});
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
}

TEST_P(HostileVirtqueueTest, BuffersOutsideMemoryBreakTheQueue) {
  const uint64_t end = memory_->size_bytes();
  const GuestRange outside[] = {{GuestAddress(end), 1},
                                {GuestAddress(end - 1), 2},
                                {GuestAddress(~uint64_t{0}), 1},
                                {GuestAddress(~uint64_t{0} - 3), 8},
                                {GuestAddress(0), 0xffff'ffff}};
  for (const GuestRange& range : outside) {
    for (const bool writable : {false, true}) {
      Make(4);
      driver_->Add({VirtioBuffer{range, writable}});
      EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken) << range.start.raw();
    }
  }
}

TEST_P(HostileVirtqueueTest, IndirectTablesThatAreImpossibleBreakTheQueue) {
  const GuestRange table = heap_.Allocate(64);
  const uint64_t end = memory_->size_bytes();
  struct Case {
    VirtqDescriptor descriptor;
    const char* name;
  };
  const Case cases[] = {
      {{table.start.raw(), 0, kVirtqDescriptorIndirect, 0}, "empty"},
      {{table.start.raw(), 15, kVirtqDescriptorIndirect, 0}, "not a multiple of 16"},
      {{table.start.raw(), 32, kVirtqDescriptorIndirect | kVirtqDescriptorNext, 1}, "with a next"},
      {{end, 16, kVirtqDescriptorIndirect, 0}, "outside"},
      {{end - 16, 32, kVirtqDescriptorIndirect, 0}, "over the end"},
      {{~uint64_t{0} - 15, 16, kVirtqDescriptorIndirect, 0}, "at the end of the address space"},
      {{~uint64_t{0} - 7, 32, kVirtqDescriptorIndirect, 0}, "round the address space"}};
  for (const Case& item : cases) {
    Make(4);
    driver_->WriteDescriptor(0, item.descriptor);
    driver_->PublishHead(0);
    EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken) << item.name;
  }
}

TEST_P(HostileVirtqueueTest, IndirectInsideIndirectBreaksTheQueue) {
  Make(4);
  const GuestRange inner = heap_.Allocate(16);
  const GuestRange outer = heap_.Allocate(16);
  driver_->WriteIndirect(inner.start, 0, {Buffer().start.raw(), 16, 0, 0});
  driver_->WriteIndirect(outer.start, 0, {inner.start.raw(), 16, kVirtqDescriptorIndirect, 0});
  driver_->WriteDescriptor(0, {outer.start.raw(), 16, kVirtqDescriptorIndirect, 0});
  driver_->PublishHead(0);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
}

TEST_P(HostileVirtqueueTest, ChainsEndAtTheirLimitOfDescriptors) {
  if (!GetParam().indirect_descriptors) {
    return;
  }
  const GuestRange data = Buffer();
  std::vector<VirtioBuffer> buffers(Virtqueue::kMaxChainDescriptors - 1, Writable(data));
  Make(4);
  driver_->AddIndirect(buffers);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kChain);
  buffers.resize(Virtqueue::kMaxChainDescriptors + 1, Writable(data));
  driver_->AddIndirect(buffers);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
}

TEST_P(HostileVirtqueueTest, AnAvailableIndexThatJumpsTooFarBreaksTheQueue) {
  for (const uint16_t jump : std::initializer_list<uint16_t>{9, 100, 0x8000, 0xffff}) {
    Make(8);
    driver_->SetAvailableIndex(jump);
    EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken) << jump;
  }
}

TEST_P(HostileVirtqueueTest, MoreChainsInFlightThanDescriptorsBreakTheQueue) {
  Make(4);
  driver_->WriteDescriptor(0, {Buffer().start.raw(), 16, kVirtqDescriptorWrite, 0});
  for (int i = 0; i < 4; ++i) {
    driver_->PublishHead(0);
    ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  }
  driver_->PublishHead(0);
  EXPECT_EQ(queue_->Pop(chain_), PopResult::kBroken);
}

TEST_P(HostileVirtqueueTest, ABrokenQueueIsNotTouched) {
  Make(4);
  driver_->Add({Writable(Buffer())});
  ASSERT_EQ(queue_->Pop(chain_), PopResult::kChain);
  driver_->PublishHead(99);
  DescriptorChain other;
  ASSERT_EQ(queue_->Pop(other), PopResult::kBroken);
  std::vector<uint64_t> words(memory_->dirty().word_count());
  memory_->dirty().TakeInto(words);
  queue_->Push(chain_.head, 1);
  queue_->DisableNotifications();
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_FALSE(queue_->ShouldInterrupt());
  EXPECT_EQ(queue_->Pop(other), PopResult::kBroken);
  EXPECT_EQ(queue_->ReadChain(chain_.head, other), PopResult::kBroken);
  EXPECT_EQ(memory_->dirty().CountMarked(), 0u);
  EXPECT_EQ(driver_->used_index(), 0);
}

TEST_P(HostileVirtqueueTest, LayoutsThatAreImpossibleAreRefused) {
  Make(8);
  const VirtqueueLayout good = driver_->layout();
  const uint64_t end = memory_->size_bytes();
  const auto refused = [&](const VirtqueueLayout& layout) {
    return !Virtqueue::Create(*memory_, layout, GetParam()).ok();
  };
  EXPECT_FALSE(refused(good));
  for (const uint16_t size : std::initializer_list<uint16_t>{0, 3, 12, 0x7fff, 0xffff}) {
    VirtqueueLayout layout = good;
    layout.size = size;
    EXPECT_TRUE(refused(layout)) << size;
  }
  using Field = GuestAddress VirtqueueLayout::*;
  const std::pair<Field, uint64_t> fields[] = {{&VirtqueueLayout::descriptor_table, 16},
                                               {&VirtqueueLayout::available_ring, 2},
                                               {&VirtqueueLayout::used_ring, 4}};
  for (const auto& [field, alignment] : fields) {
    for (const uint64_t address : {(good.*field).raw() + alignment / 2, end, end - alignment,
                                   ~uint64_t{0} - alignment + 1, uint64_t{1} << 63}) {
      VirtqueueLayout layout = good;
      layout.*field = GuestAddress(address);
      EXPECT_TRUE(refused(layout)) << std::hex << address;
    }
  }
}

TEST_P(HostileVirtqueueTest, RingsAndBuffersAcrossTheHoleAreRefused) {
  memory_ = MakeTestMemory(kLowMemoryLimitBytes + 4 * kMiB);
  GuestHeap heap(*memory_, GuestAddress(kMiB), kMiB);
  VirtqueueDriver driver(*memory_, heap, 8, GetParam());
  VirtqueueLayout layout = driver.layout();
  layout.used_ring = GuestAddress(kLowMemoryLimitBytes - 8);
  EXPECT_FALSE(Virtqueue::Create(*memory_, layout, GetParam()).ok());
  layout.used_ring = kHighMemoryStart;
  EXPECT_TRUE(Virtqueue::Create(*memory_, layout, GetParam()).ok());

  Virtqueue queue = Virtqueue::Create(*memory_, driver.layout(), GetParam()).value();
  const GuestRange whole{GuestAddress(kHighMemoryStart.raw()), 4 * kMiB};
  driver.Add({Writable(whole)});
  ASSERT_EQ(queue.Pop(chain_), PopResult::kChain);
  driver.Add({Writable({GuestAddress(kLowMemoryLimitBytes - 4), 8})});
  EXPECT_EQ(queue.Pop(chain_), PopResult::kBroken);
}

}  // namespace
}  // namespace pacsvisor
