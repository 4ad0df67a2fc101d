// virtio-blk's requests: any guest memory, any rings. The input is the shape of the queue, then the
// bytes of the descriptor table, the available ring and the memory behind; the device takes what it
// finds, is saved and loaded with it, and is reset. Whatever the bytes say, it lives on and gives
// every request back at most once.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "devices/block/block_queue_server.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/support/fault_engine.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/virtio_driver.h"
#include "vmm/base/log.h"
#include "vmm/disk/raw_disk.h"
#include "vmm/state/state_node.h"

namespace pacsvisor {
namespace {

constexpr uint64_t kDiskBytes = 256 * kKiB;
constexpr GuestAddress kTable{0x1000};
constexpr GuestAddress kAvailable{0x3000};
constexpr GuestAddress kUsed{0x5000};
constexpr GuestAddress kBuffers{0x8000};  // where the input's descriptors may well point

struct Input {
  std::span<const uint8_t> rest;

  uint8_t Byte() {
    const uint8_t byte = rest.empty() ? 0 : rest[0];
    rest = rest.subspan(rest.empty() ? 0 : 1);
    return byte;
  }
  std::span<const uint8_t> Bytes(size_t limit) {
    const std::span<const uint8_t> bytes = rest.first(std::min(limit, rest.size()));
    rest = rest.subspan(bytes.size());
    return bytes;
  }
};

class SilentTransport : public VirtioTransport {
 public:
  void InterruptQueue(uint16_t /*queue*/) override {}
  void InterruptConfigChange() override {}
  void NeedsReset(std::string_view /*reason*/) override {}
  GuestFaultCounters& guest_faults() override { return faults_; }

 private:
  GuestFaultCounters faults_;
};

// One disk for all inputs; what they leave on it does not matter.
struct Host {
  TemporaryDirectory directory;
  FaultEngine* faults = new FaultEngine();
  std::unique_ptr<RawDisk> disk =
      RawDisk::Create(DiskImage::Open({.path = directory.MakeFile("disk.raw", kDiskBytes)}).value(),
                      std::unique_ptr<IoEngine>(faults))
          .value();
};

Host& TheHost() {
  static Host host;
  return host;
}

BlockQueueServer::Options ServerOptions() {
  return {.name = "disk0",
          .serial = "fuzz",
          .queue_count = 1,
          .limits = {.capacity_bytes = kDiskBytes, .discard = true, .write_zeroes = true}};
}

// A request may take several operations of the host, each of which wakes the worker: zeroes where
// the file system has none to give, a sync.
void AwaitReset(BlockQueueServer& server) {
  for (int wakes = 0; !server.ResetComplete(); ++wakes) {
    CHECK(wakes < 10'000, "a reset is not complete, and the host has ended everything");
    TheHost().disk->Poll();
    server.Service();
  }
}

void Run(Input input) {
  Host& host = TheHost();
  host.faults->ForgetTrace();
  static FuzzMemory fuzz_memory;
  GuestMemory& memory = fuzz_memory.Clean();
  const uint8_t shape = input.Byte();
  const VirtqueueLayout layout{.size = static_cast<uint16_t>(1u << (shape % 8)),
                               .descriptor_table = kTable,
                               .available_ring = kAvailable,
                               .used_ring = kUsed};
  const VirtqueueFeatures features{.indirect_descriptors = (shape & 0x40) != 0,
                                   .event_index = (shape & 0x80) != 0};
  CHECK(memory.Write(kTable, input.Bytes(VirtqDescriptorTableBytes(layout.size))));
  CHECK(memory.Write(kAvailable, input.Bytes(VirtqAvailableRingBytes(layout.size))));
  CHECK(memory.Write(kBuffers, input.Bytes(64 * kKiB)));

  Virtqueue queue = Virtqueue::Create(memory, layout, features).value();
  SilentTransport transport;
  BlockQueueServer server(ServerOptions(), *host.disk, transport, memory);
  VirtioActivation activation{
      .features = kVirtioBlockFlush | kVirtioBlockDiscard | kVirtioBlockWriteZeroes,
      .queues = {{.index = 0, .queue = &queue}}};
  const bool hangs = (shape & 0x08) != 0;  // the host ends nothing before the machine is saved
  host.faults->SetPolicy(
      [hangs](const IoOperation&, uint64_t) { return hangs ? Fault::Hold() : Fault::None(); });
  server.Activate(activation);
  server.Service();

  StateNode state;
  StateNode ring_state;
  server.Pause();
  server.Save(state);
  queue.Save(ring_state);
  server.Resume();
  server.StartReset();
  host.faults->SetPolicy(nullptr);
  host.faults->ReleaseAll();
  AwaitReset(server);

  Virtqueue twin_queue = Virtqueue::Create(memory, layout, features).value();
  CHECK(twin_queue.Load(ring_state).ok());
  BlockQueueServer twin(ServerOptions(), *host.disk, transport, memory);
  twin.Pause();
  CHECK(twin.Load(state).ok());
  activation.queues[0].queue = &twin_queue;
  twin.Activate(activation);
  twin.Resume();
  twin.Service();
  twin.StartReset();
  AwaitReset(twin);
}

}  // namespace
}  // namespace pacsvisor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pacsvisor::SetLogLevel(pacsvisor::LogLevel::kOff);
  pacsvisor::Run({{data, size}});
  return 0;
}
