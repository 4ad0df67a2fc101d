// The device's side of a queue: any rings, and a device that pops, finishes in any order, gives
// back and is saved in between. The input is the shape of the queue, the bytes of its rings, then a
// list of steps, some of which change the rings while they are in use.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio/virtqueue.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/support/fuzz_input.h"
#include "tests/support/virtio_driver.h"

namespace pacsvisor {
namespace {

constexpr GuestAddress kTable{0x1000};
constexpr GuestAddress kAvailable{0x3000};
constexpr GuestAddress kUsed{0x5000};
constexpr GuestAddress kIndirect{0x8000};

class Session {
 public:
  explicit Session(FuzzInput input) : input_(input), memory_(CleanMemory()) {
    const auto shape = input_.Take<uint8_t>();
    layout_ = {.size = static_cast<uint16_t>(1u << (shape % 8)),
               .descriptor_table = kTable,
               .available_ring = kAvailable,
               .used_ring = kUsed};
    features_ = {.indirect_descriptors = (shape & 0x40) != 0, .event_index = (shape & 0x80) != 0};
    CHECK(memory_.Write(kTable, input_.TakeBytes(VirtqDescriptorTableBytes(layout_.size))));
    CHECK(memory_.Write(kAvailable, input_.TakeBytes(VirtqAvailableRingBytes(layout_.size))));
    CHECK(memory_.Write(kIndirect, input_.TakeBytes(256)));
  }

  void Run() {
    Virtqueue queue = Virtqueue::Create(memory_, layout_, features_).value();
    while (!input_.empty()) {
      Step(queue);
      CHECK(queue.in_flight() <= queue.size());
      CHECK(queue.broken() || queue.in_flight() == heads_.size());
    }
  }

 private:
  static GuestMemory& CleanMemory() {
    static FuzzMemory memory;
    return memory.Clean();
  }

  void Step(Virtqueue& queue) {
    const auto step = input_.Take<uint8_t>();
    switch (step % 8) {
      case 0:
      case 1:
        Pop(queue);
        break;
      case 2:
        Finish(queue, step / 8);
        break;
      case 3:
        if (just_popped_ && !queue.broken()) {
          queue.UndoPop();
          heads_.pop_back();
          just_popped_ = false;
        }
        break;
      case 4:
        (void)queue.EnableNotifications();
        break;
      case 5:
        queue.DisableNotifications();
        break;
      case 6:
        Restore(queue);
        break;
      case 7:
        ChangeRings();
        break;
    }
  }

  void Pop(Virtqueue& queue) {
    DescriptorChain chain;
    const Virtqueue::PopResult result = queue.Pop(chain);
    CHECK(!queue.broken() == (result != Virtqueue::PopResult::kBroken));
    if (result == Virtqueue::PopResult::kChain) {
      Check(chain);
      heads_.push_back(chain.head);
      just_popped_ = true;
    }
  }

  void Check(const DescriptorChain& chain) {
    CHECK(chain.head < layout_.size);
    uint64_t bytes = 0;
    for (const auto* ranges : {&chain.readable, &chain.writable}) {
      for (const GuestRange& range : *ranges) {
        CHECK(range.size_bytes > 0 && memory_.Contains(range));
        bytes += range.size_bytes;
      }
    }
    CHECK(bytes == chain.readable_bytes + chain.writable_bytes && bytes <= uint64_t{1} << 32);
    CHECK(chain.readable.size() + chain.writable.size() <= Virtqueue::kMaxChainDescriptors);
  }

  void Finish(Virtqueue& queue, size_t which) {
    if (heads_.empty()) {
      return;
    }
    const auto at = heads_.begin() + static_cast<ptrdiff_t>(which % heads_.size());
    queue.Push(*at, 1);
    (void)queue.ShouldInterrupt();
    heads_.erase(at);
    just_popped_ = false;
  }

  void Restore(Virtqueue& queue) {
    StateNode node;
    queue.Save(node);
    Virtqueue twin = Virtqueue::Create(memory_, layout_, features_).value();
    CHECK(twin.Load(node).ok());
    CHECK(twin.broken() == queue.broken() && twin.in_flight() == queue.in_flight());
    DescriptorChain chain;
    for (const uint16_t head : heads_) {
      if (twin.ReadChain(head, chain) == Virtqueue::PopResult::kChain) {
        Check(chain);
      }
    }
    // ReadChain may have found the rings changed: the queue itself goes on as it was.
  }

  void ChangeRings() {
    const uint64_t offset = input_.Take<uint16_t>() % 0x5000;
    CHECK(memory_.Write(GuestAddress(kTable.raw() + offset), input_.TakeBytes(8)));
  }

  FuzzInput input_;
  GuestMemory& memory_;
  VirtqueueLayout layout_;
  VirtqueueFeatures features_;
  std::vector<uint16_t> heads_;  // in flight
  bool just_popped_ = false;
};

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::Session(pacsvisor::FuzzInput({data, size})).Run();
  return 0;
}
