// A chain through the device's side of a queue: published, popped with all its checks, pushed.
#include <benchmark/benchmark.h>

#include <vector>

#include "devices/virtio/virtqueue.h"
#include "tests/support/virtio_driver.h"

namespace pacsvisor {
namespace {

constexpr VirtqueueFeatures kFeatures{.indirect_descriptors = true, .event_index = true};

// Argument: buffers of the chain.
void PopAndPush(benchmark::State& state, bool indirect) {
  const auto memory = MakeTestMemory();
  GuestHeap heap(*memory, GuestAddress(kMiB), 8 * kMiB);
  VirtqueueDriver driver(*memory, heap, 256, kFeatures);
  Virtqueue queue = Virtqueue::Create(*memory, driver.layout(), kFeatures).value();
  const std::vector<VirtioBuffer> buffers(static_cast<size_t>(state.range(0)),
                                          Writable(heap.Allocate(512)));
  const uint16_t head = indirect ? driver.AddIndirect(buffers) : driver.Add(buffers);
  DescriptorChain chain;
  CHECK(queue.Pop(chain) == Virtqueue::PopResult::kChain);
  queue.Push(head, 0);
  for (auto _ : state) {
    driver.PublishHead(head);  // the driver leaves the chain's descriptors as they are
    CHECK(queue.Pop(chain) == Virtqueue::PopResult::kChain);
    queue.Push(chain.head, 512);
    benchmark::DoNotOptimize(queue.ShouldInterrupt());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK_CAPTURE(PopAndPush, direct, false)->Arg(1)->Arg(3)->Arg(34)->Arg(250);
BENCHMARK_CAPTURE(PopAndPush, indirect, true)->Arg(3)->Arg(34)->Arg(250);

void PopFromEmpty(benchmark::State& state) {
  const auto memory = MakeTestMemory();
  GuestHeap heap(*memory, GuestAddress(kMiB), 8 * kMiB);
  VirtqueueDriver driver(*memory, heap, 256, kFeatures);
  Virtqueue queue = Virtqueue::Create(*memory, driver.layout(), kFeatures).value();
  DescriptorChain chain;
  for (auto _ : state) {
    benchmark::DoNotOptimize(queue.Pop(chain));
  }
}
BENCHMARK(PopFromEmpty);

}  // namespace
}  // namespace pacsvisor
